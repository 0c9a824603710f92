"""The credentials of a session: fresh ones, or those of the settings where that was asked for."""

from collections.abc import Sequence
from typing import Any

from triton_env.services import SERVICES
from triton_env.settings import Settings


def credentials(settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """What a session of these services has for credentials beyond its settings, as values for `Settings.updated`."""
    if settings.triton_passwords == "fixed":
        return {}
    return {field: value for name in names for field, value in SERVICES[name].fresh_credentials().items()}
