"""What restores left on servers, known by its names. Without their journals, it may be the only copy of something."""

from typing import TYPE_CHECKING, cast

from triton_env.core.printable import listed
from triton_env.services import Service

if TYPE_CHECKING:
    from triton_env.services.base_backup import Remains

_SHOWN = 3
"""How many things are named."""


def remains_in(service: Service) -> list[str]:
    """What is there that a restore made or set aside, in words. Nothing is changed.

    Raises:
        Exception: whatever the client raises.
    """
    look = cast("Remains | None", service.parts.load("remains"))
    return look(service) if look else []


def in_words(remains: list[str]) -> str:
    """That they are there, in one sentence."""
    return f"a restore was not finished, and its journal is gone; it left {listed(remains, _SHOWN)}"
