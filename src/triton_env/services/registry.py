"""The services that there are: those that come with triton-env, and those that other distributions bring.

A service of another distribution is named by an entry point of the group `triton_env.services`:

    [project.entry-points."triton_env.services"]
    notes = "triton_notes.service:Notes"
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from triton_env.errors import UsageError
from triton_env.services.base import Service
from triton_env.services.built_in import BUILT_IN

GROUP: Final = "triton_env.services"


class Registry(Mapping[str, type[Service]]):
    """The services by their names.

    Those that it is iterated over are the ones that come with triton-env: what is meant where none is named. Others
    are looked for, and loaded, when they are asked for by name, so that they cost nothing until then.
    """

    def __init__(self, own: Iterable[type[Service]]) -> None:
        self._own = {service.name: service for service in own}
        self._others: dict[str, type[Service]] = {}

    def __getitem__(self, name: str) -> type[Service]:
        """The service of that name.

        Raises:
            KeyError: there is none.
            UsageError: the distribution that brings it is broken.
        """
        found = self._own.get(name) or self._others.get(name)
        if found is None:
            found = self._others[name] = _loaded(self._points[name])
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def installed(self) -> tuple[str, ...]:
        """The names of all services, also of those that other distributions bring."""
        return (*self._own, *sorted(self._points.keys() - self._own.keys()))

    def origin(self, name: str) -> str:
        """The distribution that brings a service, with its version; empty for those that come with triton-env."""
        point = None if name in self._own else self._points[name]
        return f"{point.dist.name} {point.dist.version}" if point and point.dist else ""

    def usable(self) -> tuple[str, ...]:
        """Those of them that can be loaded: without the services of distributions that are broken. This loads them."""
        return tuple(name for name in self.installed() if self._is_usable(name))

    def _is_usable(self, name: str) -> bool:
        try:
            return bool(self[name])
        except UsageError:
            return False

    @cached_property
    def _points(self) -> Mapping[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: EntryPoint) -> type[Service]:
    where = f"{point.value}, of {point.dist.name} {point.dist.version}" if point.dist else point.value
    hint = f"update or remove {point.dist.name}" if point.dist else ""
    try:
        service = point.load()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"The service {point.name!r} cannot be loaded.", where=where, cause=cause, hint=hint
        ) from error
    if not (isinstance(service, type) and issubclass(service, Service) and service.name == point.name):
        raise UsageError(
            f"What is registered as {point.name!r} is not a service of that name.",
            where=where,
            cause=f"it is {service!r}, and not a subclass of triton_env.services.Service with name = {point.name!r}",
            hint=hint,
        )
    return service


SERVICES: Final = Registry(import_module(f"triton_env.services.{name}.service").SERVICE for name in BUILT_IN)


def boot_order(names: Iterable[str]) -> tuple[str, ...]:
    """The slowest to boot first: all others wait for that one."""
    return tuple(sorted(names, key=lambda name: -SERVICES[name].boot_rank))
