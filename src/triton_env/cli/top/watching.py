"""What `top` does beside its keys: look at what runs, read a log, act."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

from triton_env.cli.tables import WATCH_INTERVAL
from triton_env.core.printable import in_one_line
from triton_env.core.threads import in_thread
from triton_env.errors import TritonError
from triton_env.inspection import EnvironmentEntry, Inspection, Inspector, ServiceEntry
from triton_env.services import SERVICES
from triton_env.settings import Settings

_LOG_INTERVAL = 1.0
_LOG_LINES = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """A service of an environment, as a line of the table.

    Attributes:
        per_second: the operations that it did since the look before; None where that is not known.
    """

    environment: EnvironmentEntry
    service: ServiceEntry
    per_second: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What distinguishes it from others."""
        return self.environment.runtime, self.environment.id, self.service.name

    @property
    def words(self) -> str:
        """What a filter looks in."""
        environment = self.environment
        project = environment.owner.project if environment.owner else ""
        return " ".join((environment.id, environment.mode, environment.runtime, project, self.service.name)).lower()


@dataclass(slots=True)
class Watcher:
    """Looks at what runs, in a thread of its own, until it is closed.

    Attributes:
        lines: what was found last.
        problem: why the last look failed; empty where it did not.
        looks: how many there were.
    """

    settings: Settings
    lines: tuple[Line, ...] = ()
    problem: str = ""
    looks: int = 0
    _counted: Mapping[tuple[str, str, str], tuple[datetime, float]] = field(default_factory=dict)
    _wake: threading.Event = field(default_factory=threading.Event)
    _is_closed: bool = False
    _work_done: "Future[None] | None" = None

    def begin(self) -> None:
        """Begin to look."""
        self._work_done = in_thread(self._work)

    def check(self) -> None:
        """Raise what has ended the looking, which is a mistake of ours."""
        _check(self._work_done)

    def hurry(self) -> None:
        """Look now: something has changed."""
        self._wake.set()

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        self._wake.set()

    def _work(self) -> None:
        with Inspector(self.settings) as inspector:
            ask = False  # at once, something is to be seen
            while not self._is_closed:
                try:
                    found = inspector.inspect(ask=ask)
                except TritonError as error:
                    self.problem = in_one_line(error)
                else:
                    self.lines, self.problem = self._seen(found), ""
                self.looks += 1
                if ask:
                    self._wake.wait(WATCH_INTERVAL)
                    self._wake.clear()
                ask = True

    def _seen(self, found: Inspection) -> tuple[Line, ...]:
        lines = [Line(each, service) for each in found.environments for service in each.services]
        counted = {line.key: count for line in lines if (count := _count(line.service))}
        before, self._counted = self._counted, counted
        return tuple(Line(line.environment, line.service, _rate(line.key, before, counted)) for line in lines)


@dataclass(slots=True)
class Log:
    """The end of a log, read again and again in a thread of its own, until it is closed.

    Attributes:
        lines: of it, as the service wrote them, without secrets.
        problem: why it cannot be read; empty where it can.
        reads: how often it was read.
    """

    settings: Settings
    environment: str
    runtime: str
    service: str
    lines: tuple[str, ...] = ()
    problem: str = ""
    reads: int = 0
    _closed: threading.Event = field(default_factory=threading.Event)
    _work_done: "Future[None] | None" = None

    def begin(self) -> None:
        """Begin to read."""
        self._work_done = in_thread(self._work)

    def check(self) -> None:
        """Raise what has ended the reading, which is a mistake of ours."""
        _check(self._work_done)

    def close(self) -> None:
        """Read no more."""
        self._closed.set()

    def _work(self) -> None:
        from triton_env.steering import log_reader

        while not self._closed.is_set():
            try:
                with log_reader(self.settings, self.environment, self.runtime) as read:
                    while not self._closed.is_set():
                        self.lines, self.problem = tuple(read(self.service, _LOG_LINES).splitlines()), ""
                        self.reads += 1
                        self._closed.wait(_LOG_INTERVAL)
            except TritonError as error:
                # It may come back: a server that is restarted, a project that is started again.
                self.problem = in_one_line(error)
                self.reads += 1
                self._closed.wait(_LOG_INTERVAL)


@dataclass(slots=True)
class Deed:
    """Something that is done in a thread of its own.

    Attributes:
        words: what is being done, then what was done.
        is_over: whether it has ended.
        has_failed: whether it has failed.
    """

    words: str
    is_over: bool = False
    has_failed: bool = False
    _work_done: "Future[None] | None" = None

    def check(self) -> None:
        """Raise what has ended it, where that is a mistake of ours."""
        _check(self._work_done)

    def begin(self, action: Callable[[], str]) -> None:
        """Begin it; `action` returns what was done, in words."""

        def work() -> None:
            try:
                self.words = action()
            except TritonError as error:
                self.words, self.has_failed = in_one_line(error), True
            finally:
                self.is_over = True

        self._work_done = in_thread(work)


def _check(work: "Future[None] | None") -> None:
    if work and work.done():
        work.result()


def _count(service: ServiceEntry) -> tuple[datetime, float] | None:
    """When a service was asked, and how many operations it had done; None where it does not count them."""
    if service.health is None or not service.metrics or service.name not in SERVICES:
        return None
    kind = SERVICES[service.name].parts.load("insight")
    counters = [metric.name for metric in kind.metrics if metric.kind == "counter"]
    if not counters or counters[0] not in service.metrics:
        return None
    return service.health.at, service.metrics[counters[0]]


def _rate(
    key: tuple[str, str, str],
    before: Mapping[tuple[str, str, str], tuple[datetime, float]],
    now: Mapping[tuple[str, str, str], tuple[datetime, float]],
) -> float | None:
    if key not in before or key not in now:
        return None
    (began, first), (ended, last) = before[key], now[key]
    seconds = (ended - began).total_seconds()
    # A server that was restarted counts from the beginning.
    return (last - first) / seconds if seconds > 0 and last >= first else None
