"""The persistent services in clusters that are reached from this machine, as their forwarders note them."""

from triton_env.persistent.kubernetes.orders import FOLDER, ForwarderFolder, Noted
from triton_env.settings import Settings
from triton_env.state import locks, store
from triton_env.state.folders import private_folder


def projects(settings: Settings) -> dict[str, Noted]:
    """What living forwarders of this user note, by project."""
    base = private_folder(settings, FOLDER)
    found: dict[str, Noted] = {}
    for path in sorted(base.iterdir()) if base.is_dir() else ():
        folder = ForwarderFolder(path)
        if locks.is_held(folder.lock) and (noted := store.found(folder.state, Noted)):
            found.setdefault(noted.project, noted)
    return found


def settings_in(noted: Noted, settings: Settings) -> Settings:
    """The settings that lead to the services of a forwarder."""
    return settings.updated(
        triton_runtime="kubernetes",
        triton_project=noted.project,
        triton_k8s_context=noted.cluster.context,
        triton_k8s_namespace=noted.cluster.namespace,
    )
