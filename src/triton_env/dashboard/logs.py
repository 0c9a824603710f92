"""The logs of services as they are written: each is read once, however many look."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice

from triton_env.core.threads import in_thread
from triton_env.dashboard.answers import event
from triton_env.errors import TritonError, UsageError
from triton_env.inspection import EnvironmentEntry
from triton_env.settings import Settings
from triton_env.steering import connect

KEPT = 1000
"""Lines of a log that are kept for those who come."""
_LONGEST = 8000
"""Characters of a line: there are servers that write a whole request in one."""
_BACKLOG = 5000
"""Lines that wait for one browser. The oldest of more are left out."""
_PAUSE = 1.0
"""Seconds after which a log is read on that came to its end: a container starts again, say."""


class Logs:
    """The logs that are read.

    Args:
        settings: where state is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logs: dict[tuple[str, str], _Log] = {}

    async def follow(self, environment: EnvironmentEntry, services: Sequence[str], tail: int) -> AsyncIterator[bytes]:
        """The last lines of each service, and those that come, as events. It ends with the environment.

        Args:
            environment: which.
            services: their names.
            tail: how many of the lines of each that are there.
        """
        reader = _Reader(asyncio.get_running_loop(), len(services))
        with ExitStack() as joined:
            for name in services:
                joined.enter_context(self._joined(environment, name, reader, tail))
            while True:
                found, is_all = await reader.lines()
                for service, line in found:
                    yield event("log", {"service": service, "line": line})
                if is_all:
                    return

    @contextmanager
    def _joined(self, environment: EnvironmentEntry, service: str, reader: "_Reader", tail: int) -> "Iterator[None]":
        key = (environment.key, service)
        log = self._logs.get(key)
        if log is None or not log.join(reader, tail):
            log = self._logs[key] = _Log(self._settings, environment, service)
            log.join(reader, tail)
            in_thread(log.read)
        try:
            yield
        finally:
            log.leave(reader)
            self._logs = {key: log for key, log in self._logs.items() if not log.has_ended}


class _Reader:
    """What waits for one browser. It is filled by the threads that read logs.

    Args:
        loop: in which it is emptied.
        sources: how many logs fill it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sources: int) -> None:
        self._loop = loop
        self._sources = sources
        self._waiting: deque[tuple[str, str]] = deque(maxlen=_BACKLOG)
        self._some = asyncio.Event()

    def put(self, service: str, lines: Sequence[str]) -> None:
        """Take lines, from any thread."""
        self._waiting.extend((service, line) for line in lines)
        self._in_loop(self._some.set)

    def end(self) -> None:
        """One of the logs came to its end, from any thread."""
        self._in_loop(self._ended)

    async def lines(self) -> tuple[list[tuple[str, str]], bool]:
        """What has come since, which may be nothing; and whether that is all, since all logs came to their end."""
        await self._some.wait()
        self._some.clear()
        # A log hands in its last lines before it ends.
        return [self._waiting.popleft() for _ in range(len(self._waiting))], self._sources == 0

    def _ended(self) -> None:
        self._sources -= 1
        self._some.set()

    def _in_loop(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the dashboard has ended
            self._loop.call_soon_threadsafe(act)


class _Log:
    """The log of one service. A thread reads it until its environment ends, or a line comes that no browser wants.

    Attributes:
        has_ended: whether it is not read any more.
    """

    def __init__(self, settings: Settings, environment: EnvironmentEntry, service: str) -> None:
        self._settings = settings
        self._environment = environment
        self._service = service
        self._lock = threading.Lock()
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._readers: dict[_Reader, int] = {}
        self._has_begun = False
        self._problem = ""
        self.has_ended = False

    def join(self, reader: _Reader, tail: int) -> bool:
        """Give lines to a reader from now on; returns whether this log goes on."""
        with self._lock:
            if self.has_ended:
                return False
            self._readers[reader] = tail
            if self._has_begun:
                reader.put(self._service, list(self._kept)[max(0, len(self._kept) - tail) :])
            if self._problem:
                reader.put(self._service, [self._problem])
            return True

    def leave(self, reader: _Reader) -> None:
        """Give no more lines to a reader."""
        with self._lock:
            self._readers.pop(reader, None)

    def read(self) -> None:
        """Read until the environment has ended, or no browser looks any more."""
        pause = threading.Event()
        try:
            while self._readers:
                try:
                    self._follow()
                except UsageError:  # the environment has ended
                    return
                except TritonError as error:  # its engine does not answer, say
                    self._tell(f"The log cannot be read: {error.what} {error.cause}".strip())
                pause.wait(_PAUSE)
        finally:
            with self._lock:
                self.has_ended = True
                for reader in self._readers:
                    reader.end()

    def _follow(self) -> None:
        """Read what is new, and what comes, until the log is at its end."""
        with connect(self._settings, self._environment.id, self._environment.runtime) as environment:
            there = [_cut(line) for line in environment.log_lines(self._service, KEPT, follow=False)]
            self._add(new_after(list(self._kept), there))
            # It begins with what was just read, but for what has been written since.
            lines = map(_cut, environment.log_lines(self._service, KEPT, follow=True))
            self._add(new_after(there, list(islice(lines, len(there)))))
            self._tell("")
            for line in lines:
                if not self._add([line]):
                    return

    def _add(self, lines: Sequence[str]) -> bool:
        """Keep lines and give them to the readers; returns whether there are any readers."""
        with self._lock:
            self._kept.extend(lines)
            self._give(lines)
            self._has_begun = True
            return bool(self._readers)

    def _tell(self, problem: str) -> None:
        """Give the readers what is wrong, once for as long as it stays so; it is empty where nothing is."""
        with self._lock:
            if problem and problem != self._problem:
                for reader in self._readers:
                    reader.put(self._service, [problem])
            self._problem = problem

    def _give(self, lines: Sequence[str]) -> None:
        for reader, tail in list(self._readers.items()):
            # The first lines are those that were there.
            reader.put(self._service, lines if self._has_begun else lines[max(0, len(lines) - tail) :])


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def new_after(known: Sequence[str], lines: Sequence[str]) -> Sequence[str]:
    """The lines that follow the known ones, in what may begin with the last of these."""
    for start in range(len(known) + 1):
        same = len(known) - start
        if same <= len(lines) and list(known[start:]) == list(lines[:same]):
            return lines[same:]
    return lines
