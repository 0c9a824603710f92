"""What happens in a shared environment: written by its keeper, followed by the processes that wait for it."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triton_env.core.codec import from_data, to_data
from triton_env.core.ending import Ending
from triton_env.core.model import Placement
from triton_env.core.timeline import Event, Phase
from triton_env.errors import TritonError
from triton_env.runtimes.access import Access
from triton_env.sharing import failure
from triton_env.sharing.shared_registry import SharedInstance
from triton_env.state.locks import is_locked

_INTERVAL = 0.01
"""Seconds between two looks at the events of an environment that is starting."""
_LOG_BYTES = 1 << 14
_LOOKS = 20
"""How many of these come between two looks at whether the keeper lives."""


class EventWriter:
    """Writes the events, as the display of the keeper's environment: waiting processes get what a person would see.

    Args:
        path: of the file.
        spare: a file whose room is used on a full disk, for what has to be reported all the same.
    """

    def __init__(self, path: Path, spare: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._spare = spare
        self._unwritten = b""

    def open(self) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """What comes after the start is written as well."""

    def say(self, words: str) -> None:
        """Pass on words that belong to no service."""
        self._write(say=words)

    def show(self, event: Event) -> None:
        """Pass on the phase of a service."""
        if event.phase is not Phase.READY:
            self._write(phase=event.phase.value, service=event.service, detail=event.detail)

    def write_runtime(self, name: str, reason: str, access: Mapping[str, Access]) -> None:
        """Report where the services run, and what gives other processes access to them, by service."""
        self._write(runtime=name, reason=reason, access=to_data(access))

    def write_ready(self, service: str, placement: Placement) -> None:
        """Report that a service is ready."""
        self._write(ready=service, placement=to_data(placement))

    def write_up(self) -> None:
        """Report that all are ready and that others can see the environment."""
        self._write(up=True)

    def write_ending(self, service: str, ending: Ending) -> None:
        """Report how a server ended that had been ready."""
        self._spare.unlink(missing_ok=True)
        self._write(ended=service, ending=to_data(ending))

    def write_restarted(self, service: str) -> None:
        """Report that a service was restarted: how it ended before does not matter."""
        self._write(restarted=service)

    def write_failure(self, service: str, error: BaseException) -> None:
        """Report that the start failed; `service` is to blame, or none if empty."""
        self._spare.unlink(missing_ok=True)
        self._write(failed=service, error=failure.as_data(error))

    def _write(self, **event: Any) -> None:
        with self._lock:
            self._unwritten += json.dumps(event).encode() + b"\n"
            # A disk that becomes full may take a part of it.
            try:
                while self._unwritten:
                    self._unwritten = self._unwritten[os.write(self._file, self._unwritten) :]
            except OSError as error:
                error.filename = str(self._path)
                raise


@dataclass(slots=True)
class StartState:
    """What is known so far.

    Attributes:
        runtime: its name; empty while it is not known.
        reason: why it is that one.
        access: what gives this process access to the services, by name, as data.
        placements: of the services that are ready.
        phases: by service, what it went through until then.
        said: words that belong to no service.
        endings: of the servers that have ended since they were ready.
        up: whether the whole is ready.
        failed: which service is to blame for the failure, empty for none of them; None where there is no failure.
        error: the failure.
    """

    runtime: str = ""
    reason: str = ""
    access: Mapping[str, Any] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    phases: dict[str, list[tuple[Phase, str]]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    endings: dict[str, Ending] = field(default_factory=dict)
    up: bool = False
    failed: str | None = None
    error: TritonError | None = None

    def add(self, event: dict[str, Any]) -> None:
        """Take an event in."""
        if "phase" in event:
            self.phases.setdefault(event["service"], []).append((Phase(event["phase"]), event["detail"]))
        elif "ready" in event:
            self.placements[event["ready"]] = from_data(Placement, event["placement"])
        elif "runtime" in event:
            self.runtime, self.reason = event["runtime"], event["reason"]
            self.access = event["access"]
        elif "say" in event:
            self.said.append(event["say"])
        elif "up" in event:
            self.up = True
        elif "ended" in event:
            self.endings[event["ended"]] = from_data(Ending, event["ending"])
        elif "restarted" in event:
            self.endings.pop(event["restarted"], None)
        elif "failed" in event:
            self.failed, self.error = event["failed"], failure.from_data(event["error"])


class StartEvents:
    """Follows the events of one environment. Files that are removed in between are read to their end.

    Raises:
        OSError: it is gone.
    """

    def __init__(self, instance: SharedInstance) -> None:
        self.state = StartState()
        self.lost = False
        """Whether the keeper ended without a word."""
        self._changed = threading.Condition()
        self._rest = b""
        self._stopped = False
        self._following = False
        self._files: list[int] = []
        try:
            for path in (instance.events, instance.alive, instance.log):
                self._files.append(os.open(path, os.O_RDONLY))
        except BaseException:
            self.close()
            raise
        self._events, self._alive, self._log = self._files

    @property
    def is_complete(self) -> bool:
        """Whether the start has come to an end, good or bad."""
        return self.state.up or self.state.failed is not None or self.lost

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: the start failed, the keeper ended, or following was stopped."""
        return self.state.failed is not None or self.lost or self._stopped

    def read(self) -> None:
        """Take in what has been written so far, and whether the keeper lives."""
        # In this order: what it wrote last was written while it lived.
        alive = is_locked(self._alive)
        self._take_in()
        if not alive and not self.is_complete:
            self.lost = True

    def follow(self) -> None:
        """Take in what comes, in a thread, until the start has come to an end or `close`. May be called again."""
        with self._changed:
            if self._following or self.is_complete or self._stopped:
                return
            self._following = True
        try:
            threading.Thread(target=self._follow, name="triton-news", daemon=True).start()
        except RuntimeError:
            self._following = False
            raise

    def wait_for(self, condition: Callable[[StartState], bool]) -> bool:
        """Wait until `condition` holds, or can hold no more: whether it does."""
        with self._changed:
            self._changed.wait_for(lambda: condition(self.state) or self.is_over)
            return condition(self.state)

    def wait_for_ending(self, service: str, seconds: float) -> bool:
        """Wait until the keeper has reported how a server ended, up to so many seconds; whether the keeper lives."""
        pause = threading.Event()
        for _ in range(int(seconds / _INTERVAL)):
            with self._changed:
                if not self._files:
                    break
                # In this order: what it wrote last was written while it lived.
                alive = is_locked(self._alive)
                self._take_in()
                if service in self.state.endings or not alive:
                    return alive
            pause.wait(_INTERVAL)
        return True

    def catch_up(self) -> None:
        """Take in what has been written since."""
        with self._changed:
            if self._files:
                self._take_in()

    def log_tail(self) -> str:
        """The last words of the keeper's log."""
        with self._changed:
            if not self._files:
                return ""
            size = os.fstat(self._log).st_size
            return os.pread(self._log, _LOG_BYTES, max(0, size - _LOG_BYTES)).decode(errors="replace")

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the keeper has ended, for so many seconds at most."""
        pause = threading.Event()
        for _ in range(int(seconds / _INTERVAL)):
            with self._changed:
                if not self._files or not is_locked(self._alive):
                    return
            pause.wait(_INTERVAL)

    def stop(self) -> None:
        """Wake the threads that wait. Nothing more is taken in."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the files. May be called again."""
        self.stop()
        with self._changed:
            while self._files:
                os.close(self._files.pop())

    def _follow(self) -> None:
        pause = threading.Event()
        looks = 0
        while True:
            with self._changed:
                if self._stopped or not self._files:
                    return
                if looks % _LOOKS:
                    news = self._take_in()
                else:
                    news = True
                    self.read()
                if news:
                    self._changed.notify_all()
                if self.is_complete:
                    return
            looks += 1
            pause.wait(_INTERVAL)

    def _take_in(self) -> bool:
        news = False
        while data := os.read(self._events, 1 << 18):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self.state.add(json.loads(line))
            news = news or bool(lines)
        return news
