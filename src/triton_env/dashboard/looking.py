"""The environments that are looked at: one set of connections for each, and no server that holds up another."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from triton_env.core.threads import in_thread
from triton_env.dashboard.answers import NoAnswer, NotThere, TooMany
from triton_env.dashboard.futures import awaited
from triton_env.errors import NotOffered, TritonError, UsageError
from triton_env.inspection import EnvironmentEntry, Inspection
from triton_env.services import SERVICES
from triton_env.services.base_insight import Insight
from triton_env.services.selection import title_of
from triton_env.settings import Settings
from triton_env.steering import connect

if TYPE_CHECKING:
    from triton_env.attached import AttachedEnvironment, AttachedProject

    Environment = AttachedEnvironment | AttachedProject

_Answer = TypeVar("_Answer")

TIMEOUT = 5.0
"""Seconds that a server has for one question."""
_SPARE = 3.0
"""Seconds after which one is given up that its client has not given up by then: its server or engine hangs."""
_CONNECT_TIMEOUT = 15.0
_HANGING = 3
"""Threads that wait for one server which hangs. More are not started until one of them has come back."""
_AT_ONCE = 4
"""Streams and downloads of one service at the same time."""
UNUSED = 30.0
"""Seconds after which the connections of an environment are closed that nothing has used."""


@dataclass(slots=True)
class _Line:
    """The connection to one service.

    Attributes:
        insight: None until it is asked for.
        is_connected: whether it was asked since its connection was closed.
        turn: of those who ask it.
        hanging: threads that have not come back in time.
        extra: streams and downloads that go on.
    """

    insight: Insight[Any] | None = None
    is_connected: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    hanging: int = 0
    extra: int = 0


@dataclass(slots=True)
class Looked:
    """An environment that is looked at.

    Attributes:
        environment: as it is attached.
        manager: what ends that.
        lines: to its services, by name.
        used: when it was last used, on the monotonic clock.
        seen: what `ps` shows of it that decides how it is reached; None until that was compared.
        is_over: whether its connections were closed: what was asking then has opened another.
    """

    environment: "Environment"
    manager: "AbstractContextManager[Environment]"
    lines: dict[str, _Line] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)
    seen: Any = None
    is_over: bool = False


class Looking:
    """Opens environments as they are asked for. All of it runs in one event loop; what may take long, in threads.

    Args:
        settings: where state is kept.
        timeout: seconds that a server has for one question.

    Attributes:
        timeout: seconds after which a question is answered or given up.
    """

    def __init__(self, settings: Settings, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout + _SPARE
        self._settings = settings
        self._of_server = timeout
        self._open: dict[str, asyncio.Future[Looked]] = {}
        self._counted: dict[tuple[str, str], Insight[Any]] = {}
        self._hanging_up: set[asyncio.Task[None]] = set()

    async def environment(self, entry: EnvironmentEntry) -> Looked:
        """An environment that runs, with its services. It is opened once.

        Raises:
            TritonError: it has ended, or does not answer.
        """
        identity = entry.key
        if identity not in self._open:
            self._open[identity] = awaited(in_thread(self._opened, entry))
        opening = self._open[identity]
        try:
            looked = await asyncio.wait_for(asyncio.shield(opening), _CONNECT_TIMEOUT)
        except TimeoutError as error:
            raise NoAnswer(f"The environment {entry.id} cannot be looked at: it does not answer.") from error
        except BaseException:
            # Another attempt may succeed.
            if opening.done() and self._open.get(identity) is opening:
                del self._open[identity]
            raise
        looked.used = time.monotonic()
        return looked

    async def ask(
        self,
        entry: EnvironmentEntry,
        service: str,
        question: Callable[[Insight[Any]], _Answer],
        timeout: float = 0.0,
    ) -> _Answer:
        """What a service answers, one question at a time.

        Args:
            question: is asked in a thread.
            timeout: seconds, also for the turn; 0 for those of all questions.

        Raises:
            NotOffered: the service reports nothing about itself.
            NoAnswer: it does not answer in time.
            TritonError: whatever the question raises.
        """
        looked = await self.environment(entry)
        line = self._line(looked, service)
        timeout = timeout or self.timeout
        deadline = time.monotonic() + timeout
        try:
            await asyncio.wait_for(line.turn.acquire(), timeout)
        except TimeoutError as error:
            raise _silent(service) from error
        try:
            if line.insight is None:
                line.insight = self._insight(looked.environment, entry.key, service)
            line.is_connected = True
            return await self._in_time(line, service, question, line.insight, deadline - time.monotonic())
        finally:
            if looked.is_over and line.insight is not None:
                in_thread(line.insight.close)
            line.turn.release()

    @contextmanager
    def going_on(self, looked: Looked, service: str) -> Iterator[None]:
        """A stream or a download, in the block.

        Raises:
            TooMany: as many as there may be are already running.
        """
        line = self._line(looked, service)
        if line.extra >= _AT_ONCE:
            raise TooMany(
                f"{_AT_ONCE} streams and downloads of {title_of(service)} are already running.", hint="end one of them"
            )
        line.extra += 1
        try:
            yield
        finally:
            line.extra -= 1
            looked.used = time.monotonic()

    def keep(self, inspection: Inspection, *, idle: float = UNUSED) -> None:
        """Forget environments that have ended or moved, and close the connections that were not used for a time.

        Args:
            inspection: the environments that run.
            idle: seconds of that time.
        """
        now, living = time.monotonic(), {entry.key: _ways_to(entry) for entry in inspection.environments}
        if inspection.engine_problem is None:  # else those of the engine are missing, and may count on
            self._counted = {key: insight for key, insight in self._counted.items() if key[0] in living}
        for identity, opening in list(self._open.items()):
            if not opening.done():
                continue
            if opening.cancelled() or opening.exception():
                del self._open[identity]
                continue
            looked = opening.result()
            looked.seen = looked.seen or living.get(identity)
            if looked.seen is None or looked.seen != living.get(identity):
                self.forget(identity)
            elif now - looked.used > idle:
                for line in looked.lines.values():
                    if line.is_connected and not line.extra:
                        task = asyncio.create_task(self._hang_up(line))
                        self._hanging_up.add(task)
                        task.add_done_callback(self._hanging_up.discard)

    def forget(self, identity: str) -> None:
        """Close the connections of the environment of that key. The next question opens it anew."""
        opening = self._open.pop(identity, None)
        if opening is not None:
            opening.add_done_callback(_closed)

    def close(self) -> None:
        """Close all connections."""
        for identity in list(self._open):
            self.forget(identity)

    async def _hang_up(self, line: _Line) -> None:
        async with line.turn:
            line.is_connected = False
            if line.insight is not None:
                with suppress(NoAnswer):
                    await self._in_time(line, "", lambda insight: insight.close(), line.insight, self.timeout)

    def _opened(self, entry: EnvironmentEntry) -> Looked:
        manager = connect(self._settings, entry.id, entry.runtime)
        return Looked(manager.__enter__(), manager)

    def _insight(self, environment: "Environment", identity: str, service: str) -> Insight[Any]:
        """What a service reports about itself, not connected yet. Its counters go on from those of the one before.

        Raises:
            NotOffered: it reports nothing.
        """
        kind = declared(service)
        if kind is None:
            raise NotOffered(f"{title_of(service)} reports nothing about itself.")
        insight = kind(environment.service(service), self._of_server)
        if before := self._counted.get((identity, service)):
            insight.count_on(before)
        self._counted[identity, service] = insight
        return insight

    def _line(self, looked: Looked, service: str) -> _Line:
        if service not in looked.environment.services:
            raise NotThere(f"This environment has no {title_of(service)}, or it does not run.")
        return looked.lines.setdefault(service, _Line())

    async def _in_time(
        self,
        line: _Line,
        service: str,
        question: Callable[[Insight[Any]], _Answer],
        insight: Insight[Any],
        timeout: float,
    ) -> _Answer:
        if line.hanging >= _HANGING:
            raise _silent(service)
        work = awaited(in_thread(question, insight))
        done, _ = await asyncio.wait({work}, timeout=max(0.0, timeout))
        if done:
            return work.result()
        # It is that thread's as long as it hangs. The next question gets another one.
        if line.insight is insight:
            line.insight = None
        line.hanging += 1

        def came_back(work: asyncio.Future[Any]) -> None:
            line.hanging -= 1
            in_thread(insight.close)

        work.add_done_callback(came_back)
        raise _silent(service)


def declared(service: str) -> type[Insight[Any]] | None:
    """What a service reports about itself, as it is declared; None where it reports nothing or is not installed."""
    with suppress(KeyError, UsageError):  # the latter of a distribution that is broken
        kind: type[Insight[Any]] | None = SERVICES[service].parts.load("insight")
        return kind
    return None


def _silent(service: str) -> NoAnswer:
    return NoAnswer(f"{title_of(service)} does not answer.", hint="its log may say why")


def _ways_to(entry: EnvironmentEntry) -> Any:
    return [(service.name, service.state, dict(service.ports)) for service in entry.services]


def _closed(opening: "asyncio.Future[Looked]") -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().is_over = True
        # In a thread that is not waited for: the end of a connection may hang as well.
        in_thread(_close, opening.result())


def _close(looked: Looked) -> None:
    for line in looked.lines.values():
        if line.insight is not None:
            with suppress(Exception):  # the server may be gone, and there is nothing left to do
                line.insight.close()
    with suppress(TritonError):
        looked.manager.__exit__(None, None, None)
