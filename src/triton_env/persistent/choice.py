"""Where the persistent services of a project run."""

from triton_env.persistent.stack import Stack
from triton_env.settings import Settings


def open_stack(settings: Settings) -> Stack:
    """The persistent services of the project that the settings name. To be closed, best by `with`.

    Raises:
        InvalidSetting: settings that disagree.
        RuntimeUnavailable: they cannot run here.
    """
    # Loads the Docker SDK.
    from triton_env.persistent.docker.stack import DockerStack

    return DockerStack(settings)
