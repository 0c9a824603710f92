"""The persistent services of a project that run, as they are: nothing is started, and nothing goes on for it."""

from collections.abc import Iterator, Mapping, Sequence

from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.core.timeline import Phase
from triton_env.persistent.stack import Stack
from triton_env.runtimes.access import Access
from triton_env.runtimes.base import Report
from triton_env.services import Service


class RunningServices:
    """Hands out the services that run.

    Args:
        stack: the services of the project; `stop` closes it.
        running: those that run, by name.
    """

    def __init__(self, stack: Stack, running: Mapping[str, Service]) -> None:
        self.name = stack.runtime
        self.reason = stack.reason
        self._stack = stack
        self._running = running
        self._secrets = stack.secrets()

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        report(Phase.READY, "it was running")
        return self._running[recipe.name].placement

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        self._stack.restart((recipe.name,), lambda name, seconds: None)

    def access(self, service: str) -> Access:
        return self._stack.access(service)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return redacted(self.access(service).logs(lines, since), self._secrets)

    def lines(self, service: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that a service wrote, without secrets; see `Access.lines`."""
        return (redacted(line, self._secrets) for line in self.access(service).lines(tail, follow=follow))

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        running = self._running[service]
        return self.access(service).program(running.recipe(self._stack.settings), running.placement, argv, environment)

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        return None

    def stop(self) -> None:
        self._stack.close()
