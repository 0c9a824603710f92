"""The runtime of an environment that another process keeps, as seen by one of those who use it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from triton_env.core.ending import BEGIN_ANEW, Ending, ending_of_stopped
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.readiness import refuses
from triton_env.core.redaction import redacted
from triton_env.core.timeline import Phase
from triton_env.errors import StartCancelled, TritonError, UsageError
from triton_env.runtimes.access import Access, access_from_data
from triton_env.runtimes.base import Report
from triton_env.state import restarts
from triton_env.state.restarts import Restarts

if TYPE_CHECKING:
    from triton_env.sharing.attaching import Attached
    from triton_env.sharing.joining import Joined
    from triton_env.sharing.start_events import StartState

_NEWS_TIMEOUT = 2
"""Seconds to wait for the keeper's word about a server that no longer listens; it looks five times a second."""
_CANCELLED = "The start was cancelled."


class AttachedRuntime:
    """Hands out what another process has started, or waits for it.

    Args:
        joined: this process's part in the environment.
        say: is given what a person should know.

    Raises:
        TritonError: the keeper could not choose a runtime, or ended.
    """

    def __init__(
        self, joined: "Joined | Attached", recipes: Sequence[ServiceRecipe], say: Callable[[str], None]
    ) -> None:
        self._joined = joined
        self._events = joined.events
        self._recipes = {recipe.name: recipe for recipe in recipes}
        self._secrets = frozenset[str]().union(*(recipe.secrets for recipe in recipes))
        for words in joined.words:
            say(words)
        was_up = self._events.state.up
        self._events.follow()
        if not self._events.wait_for(lambda state: bool(state.runtime)):
            raise self._problem("")
        for words in () if was_up else tuple(self._events.state.said):
            say(words)
        self.name = self._events.state.runtime
        self.reason = f"{self._events.state.reason}; it is shared with other processes"

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        # The probe is the keeper's business. That a service of a warm environment listens was seen on joining.
        seen = 0
        state = self._events.state
        while True:
            self._events.wait_for(partial(_has_news_of, recipe.name, seen))
            phases = state.phases.get(recipe.name, [])
            # Those of an environment that was up are not of this start.
            for phase, words in () if state.up else phases[seen:]:
                if phase is not Phase.FAILED:
                    report(phase, words)
            seen = len(phases)
            if recipe.name in state.placements:
                report(Phase.READY, "")
                return state.placements[recipe.name]
            if self._events.is_over:
                raise self._problem(recipe.name)

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        raise UsageError(
            f"{recipe.title} is another process's server, and is not restarted from here.",
            where=f"environment {self._joined.id}",
            hint=f"python -m triton_env restart --session {self._joined.id} {recipe.name} has its owner do it",
        )

    def access(self, service: str) -> Access:
        return access_from_data(self._events.state.access[service])

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return redacted(self.access(service).logs(lines, since), self._secrets)

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        state = self._events.state
        if not look:
            return state.endings.get(service) if service in state.placements else None
        before = self._restarts_of(service)
        if before.is_going_on:
            return None
        ending = self._found(service)
        # What is seen in the middle of a restart is not a death, also where that has ended by now.
        return ending if ending and self._restarts_of(service) == before else None

    def _restarts_of(self, service: str) -> Restarts:
        return restarts.seen(self._joined.settings, self._joined.id, service)

    def _found(self, service: str) -> Ending | None:
        self._events.catch_up()
        state = self._events.state
        if service not in state.placements:
            return None
        if (access := self.access(service)).sees_endings:
            return access.ending(state.placements[service])
        if service not in state.endings and (stopped := self._stopped(state.placements[service])):
            return stopped
        if service not in state.endings and refuses(state.placements[service]):
            alive = self._events.wait_for_ending(service, _NEWS_TIMEOUT)
            reason = "it no longer listens" if alive else "the process that kept the environment has ended"
            return state.endings.get(service) or Ending(f"environment {self._joined.id}", BEGIN_ANEW, reason=reason)
        return state.endings.get(service)

    def _stopped(self, placement: Placement) -> Ending | None:
        """Whether the processes that listen there are stopped, as far as this user may see them."""
        import psutil

        ports = {endpoint.port for endpoint in placement.endpoints.values()}
        pids: set[int] = set()
        with suppress(psutil.Error, OSError):
            listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
            pids = {each.pid for each in listening if each.pid and each.laddr and each.laddr.port in ports}
        return ending_of_stopped(pids, where=f"environment {self._joined.id}")

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        access, placement = self.access(service), self._events.state.placements[service]
        return access.program(self._recipes[service], placement, argv, environment)

    def lines(self, service: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that a service wrote, without secrets; see `Access.lines`."""
        return (redacted(line, self._secrets) for line in self.access(service).lines(tail, follow=follow))

    def stop(self) -> None:
        self._joined.leave()

    def _problem(self, service: str) -> TritonError:
        """Why this service does not come up."""
        state = self._events.state
        if state.error is not None:
            # One is to blame; that the others failed too would hide it.
            return state.error if state.failed in ("", service) else StartCancelled(_CANCELLED)
        return self._joined.lost() if self._events.lost else StartCancelled(_CANCELLED)


def _has_news_of(service: str, seen: int, state: "StartState") -> bool:
    return service in state.placements or len(state.phases.get(service, ())) > seen
