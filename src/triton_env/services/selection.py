"""Which of the services are named."""

from collections.abc import Iterable, Sequence

from triton_env.core.printable import one_line
from triton_env.errors import InvalidSetting, ServiceNotSelected, UnknownService
from triton_env.services import SERVICES
from triton_env.settings import Settings


def known_name(name: str) -> str:
    """The name of the service that is called so, in any case and also by an alias; another word as it is."""
    lower = name.strip().lower()
    return next((service.name for service in SERVICES.values() if lower in service.aliases), lower)


def title_of(name: str) -> str:
    """A service's name for people; a name that is not known here, such as one in a file, as it is on one line."""
    return SERVICES[name].title if name in SERVICES else one_line(name)


def with_groups(settings: Settings, names: Iterable[str]) -> Settings:
    """The settings with those of these services, where other distributions bring them: read when they are asked for.

    A service that is not installed here, such as one of another process, adds nothing.
    """
    for name in names:
        if name in SERVICES:
            settings = settings.with_group(SERVICES[name].settings_group)
    return settings


def check_selected(name: str, available: Iterable[str]) -> None:
    """See that an environment has a service.

    Raises:
        UnknownService: it does not exist anywhere.
        ServiceNotSelected: the environment was started without it.
    """
    if name not in SERVICES:
        raise UnknownService(name, SERVICES.installed())
    if name not in (names := tuple(available)):
        raise ServiceNotSelected(name, names)


def selected(services: Sequence[str] | None, available: Sequence[str] | None = None) -> tuple[str, ...]:
    """Some of the services that there are, in the order in which people read them.

    Args:
        services: their names, also as one string with commas; None means all that come with triton-env, or all that
            are available.
        available: those to choose from; None means all that are installed.

    Raises:
        UnknownService, ServiceNotSelected: one of them does not exist, or is not available.
        InvalidSetting: none is named.
        UsageError: the distribution that brings one of them is broken.
    """
    if services is None:
        return tuple(SERVICES if available is None else available)
    names = [name.strip() for name in services.split(",")] if isinstance(services, str) else list(services)
    for name in names:
        if SERVICES.get(name) is None:  # this loads it: a broken one is an error here already
            raise UnknownService(name, SERVICES.installed())
        if available is not None and name not in available:
            raise ServiceNotSelected(name, tuple(available))
    if not names:
        choice = tuple(SERVICES if available is None else available)
        raise InvalidSetting("There has to be at least one service.", hint=f"services={choice!r}")
    order = dict.fromkeys((*SERVICES, *names)) if available is None else available
    return tuple(name for name in order if name in names)
