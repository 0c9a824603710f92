"""Which of the services somebody names."""

from collections.abc import Sequence

from triton_env.core.printable import one_line
from triton_env.errors import InvalidSetting, ServiceNotSelected, UnknownService
from triton_env.services import SERVICES

ALIASES = {"pg": "postgres", "postgresql": "postgres", "valkey": "redis", "localstack": "s3"}
"""What services are called elsewhere: `localstack` in the compose file, and so in what Docker lists."""


def known_name(name: str) -> str:
    """The name of the service that is called so, in any case and also by an alias; another word as it is."""
    lower = name.strip().lower()
    return ALIASES.get(lower, lower)


def title_of(name: str) -> str:
    """A service's name for people; a name that is not known here, such as one in a file, as it is on one line."""
    return SERVICES[name].title if name in SERVICES else one_line(name)


def selected(services: Sequence[str] | None, available: Sequence[str] = tuple(SERVICES)) -> tuple[str, ...]:
    """Some of the services that there are, in the order in which people read them.

    Args:
        services: their names, also as one string with commas; None means all.
        available: those to choose from.

    Raises:
        UnknownService, ServiceNotSelected: one of them does not exist, or is not available.
        InvalidSetting: none is named.
    """
    if services is None:
        return tuple(available)
    names = [name.strip() for name in services.split(",")] if isinstance(services, str) else list(services)
    for name in names:
        if name not in SERVICES:
            raise UnknownService(name, tuple(SERVICES))
        if name not in available:
            raise ServiceNotSelected(name, tuple(available))
    if not names:
        raise InvalidSetting("There has to be at least one service.", hint=f"services={tuple(available)!r}")
    return tuple(name for name in available if name in names)
