"""The persistent services of all projects without Docker, as their supervisors note them."""

from contextlib import suppress

from triton_env.errors import TritonError
from triton_env.persistent.embedded.control import Supervisor
from triton_env.persistent.embedded.folder import ProjectFolder
from triton_env.persistent.embedded.orders import Noteds
from triton_env.runtimes.embedded.bases import projects_folder
from triton_env.settings import Settings


def projects(settings: Settings) -> dict[str, Noteds]:
    """What living supervisors note, by project. One of another version of triton-env is passed over."""
    base = projects_folder(settings.triton_data_dir)
    found: dict[str, Noteds] = {}
    for path in sorted(base.iterdir()) if base.is_dir() else ():
        supervisor = Supervisor(ProjectFolder(path))
        with suppress(TritonError, OSError):
            if supervisor.is_alive and (noted := supervisor.noted()):
                found[path.name] = noted
    return found
