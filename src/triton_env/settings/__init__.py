"""Every setting: the model, what fills it, and what follows from it. The only reader of `os.environ` and `.env`."""

from triton_env.settings.model import Settings, settings_in
from triton_env.settings.process import HUB_PREFIX, docker_host, process_environment, without_variables

__all__ = [
    "HUB_PREFIX",
    "Settings",
    "docker_host",
    "process_environment",
    "settings_in",
    "without_variables",
]
