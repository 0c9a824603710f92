"""The seam between an environment and whatever runs its services."""

from collections.abc import Callable
from typing import ClassVar, Protocol

from triton_env.model import Placement, Probe, ServiceRecipe
from triton_env.timeline import Phase

Report = Callable[[Phase, str], None]
"""Called with the phase that a service enters, and words about it."""


class Runtime(Protocol):
    """Runs services for one environment.

    `start` is called for several services at once, from several threads. `stop` may come at any time, also while
    services are starting: it ends these starts.
    """

    name: ClassVar[str]
    reason: str
    """Why it is this one, in words that go on after "since"."""

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        """Run a service and wait until `probe` succeeds.

        Raises:
            TritonError: it cannot be run or does not become ready. What was begun is removed by `stop`.
        """

    def logs(self, service: str, lines: int) -> str:
        """The last lines that a service wrote, without secrets; empty where there are none."""

    def stop(self) -> None:
        """Remove everything that was started. May be called again.

        Raises:
            CleanupFailed: something may be left; the message names it.
        """
