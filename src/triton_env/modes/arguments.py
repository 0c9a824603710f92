"""What `TritonEnvironment` is called with, and whether that goes together."""

from dataclasses import dataclass

from triton_env.core.forms import RUNTIME_NAMES
from triton_env.errors import UnknownRuntime, UsageError
from triton_env.modes.persistent import Persistent
from triton_env.settings import Settings
from triton_env.sharing.reuse import Reuse


@dataclass(frozen=True, slots=True)
class Arguments:
    """What an environment was asked for.

    Attributes:
        settings: as they were read.
        services: their names.
        runtime: that was named; None where that is left to TRITON_RUNTIME.
        persistent: how persistent services are taken; None for others.
        reuse: with whom it is shared; None where it is not.
        isolated: whether it is not the session that TRITON_SESSION names.

    Raises:
        UnknownRuntime, UsageError: wrong arguments.
    """

    settings: Settings
    services: tuple[str, ...]
    runtime: str | None = None
    persistent: Persistent | None = None
    reuse: Reuse | None = None
    isolated: bool = False

    def __post_init__(self) -> None:
        if self.runtime_name not in RUNTIME_NAMES:
            raise UnknownRuntime(self.runtime_name, RUNTIME_NAMES)
        if self.reuse and self.persistent:
            raise UsageError(
                "reuse=True cannot be combined with persistent=True: persistent services are already shared.",
                hint="leave out one of them",
            )

    @property
    def runtime_name(self) -> str:
        """The runtime that was asked for, or `auto`."""
        return self.runtime or self.settings.triton_runtime

    @property
    def is_external(self) -> bool:
        """Whether the servers are not to be triton-env's."""
        return self.runtime_name == "external"

    @property
    def shared_with(self) -> Reuse | None:
        """With whom the servers are shared by a keeper. External ones are shared anyway."""
        return None if self.is_external else self.reuse
