"""What isolation knows of the environment that it is about."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from triton_env.liveness import Liveness
from triton_env.services import SERVICES, Service
from triton_env.settings import Settings


@dataclass(frozen=True, slots=True)
class IsolationTarget:
    """What isolation knows of a running environment.

    Attributes:
        id: its id.
        settings: those in force.
        services: the names of its services.
        service: the running service of a name, waited for where it is still starting.
        lasting: whether its servers hold data that is not ours: persistent and external ones.
        outlives: whether its servers go on when this process stops it.
        is_shared: whether others use it at this moment.
        liveness: whether its servers live.
        between_restores: while a block lasts, no restore is unfinished and none begins.
    """

    id: str
    settings: Settings
    services: tuple[str, ...]
    service: Callable[[str], Service]
    lasting: bool
    outlives: bool
    is_shared: Callable[[], bool]
    liveness: Liveness
    between_restores: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def isolated(self) -> tuple[str, ...]:
        """The names of the services that offer isolation."""
        return tuple(name for name in self.services if SERVICES[name].parts.isolation)
