"""The seam between an environment and whatever runs its services."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.timeline import Phase
from triton_env.runtimes.access import Access

Report = Callable[[Phase, str], None]
"""Called with the phase that a service enters, and words about it."""


class Runtime(Protocol):
    """Runs services for one environment.

    `start` is called for several services at once, from several threads. `stop` may come at any time, also while
    services are starting: it ends these starts.
    """

    @property
    def name(self) -> str:
        """Where the services run: "docker", "embedded", "kubernetes" or "external"."""

    reason: str
    """Why this runtime was chosen; completes the sentence "since ..."."""

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        """Run a service and wait until `probe` succeeds.

        Raises:
            TritonError: it cannot be run or does not become ready. What was begun is removed by `stop`.
        """

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        """End the server of a service that was ready, also one that has died, and start it again where it was.

        Args:
            probe: that of a server of which nothing is known.

        Raises:
            UsageError: it is not this process's to restart.
            TritonError: it does not become ready.
        """

    def access(self, service: str) -> Access:
        """What lets other processes at a service, whether it is ready or not; see `Access`.

        Raises:
            TritonError: servers that others run do not offer it.
        """

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        """The last lines that a service wrote, without secrets; empty where there are none.

        Args:
            since: a position in the log, from which on they are; None for its beginning.
        """

    def log_position(self, service: str) -> float:
        """Where a service's log ends now, for `logs`. Asks neither a server nor an engine."""

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        """How to run a program that comes with a running service, such as pg_dump, next to its server.

        Args:
            argv: the program's name and its arguments, in which {host} and {port:NAME} stand for where the server
                listens, seen from where the program runs.
            environment: variables to add to its environment; these may be secret.

        Raises:
            TritonError: it cannot be run from here.
        """

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        """How a server has ended that had been ready; None while it runs, before that, and where it is not known.

        Args:
            look: also where that asks an engine or takes a while. Otherwise it returns what is known, in microseconds.
        """

    def stop(self) -> None:
        """Remove everything that was started. May be called again.

        Raises:
            CleanupFailed: something may be left; the message names it.
        """
