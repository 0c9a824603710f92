"""What every load of `soak.py` is, and who takes its steps. What each service gets is in `soak_loads.py`.

A load counts its steps. All that a service should have follows from the number of the last step that it acknowledged,
so every check is exact. What is older than the last few steps is deleted: where memory grows, it is the service.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from triton_env import TritonEnvironment

ANSWER_TIMEOUT = 15
"""Seconds within which a service has to answer; more than that is a failure."""
OUTAGE_PAUSE = 0.2
"""Seconds between two tries while a service is known to be down."""


class Wrong(Exception):
    """A service answered, but not what it should: something acknowledged is lost, or something deleted is back."""


class Load(ABC):
    """One service's load. Steps and checks may come from different threads; they take turns.

    Args:
        env: the running services.
    """

    name: ClassVar[str]
    """The service."""
    pace: ClassVar[float]
    """Steps in a second."""

    def __init__(self, env: TritonEnvironment) -> None:
        self._env = env
        self._turn = threading.Lock()
        self._doubt = False
        """Whether a step was cut short: the service has it, or has not."""
        self.step_number = 0
        """The last step that was acknowledged."""

    @abstractmethod
    def open(self) -> None:
        """Connect, and start from nothing."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    @abstractmethod
    def _write(self, number: int) -> None:
        """One write that happens as a whole or not at all."""

    def _tidy(self, number: int) -> None:  # noqa: B027 - where the write itself deletes what is old
        """Delete what is too old after this step; may be repeated."""

    @abstractmethod
    def _read_back(self, number: int) -> None:
        """Look, as another client would, for what the step wrote."""

    @abstractmethod
    def _newest(self) -> int:
        """The newest step that the service has."""

    @abstractmethod
    def _verify(self, number: int) -> None:
        """See that the service has exactly what it should have after this step."""

    def _reconnect(self) -> None:  # noqa: B027 - most clients do so by themselves
        """After a step that was cut short."""

    def step(self) -> None:
        """Write, and read what was written.

        Raises:
            Wrong: something is lost.
            Exception: whatever the client raises where the service does not answer.
        """
        with self._turn:
            self._settle()
            self._doubt = True
            self._write(self.step_number + 1)
            self.step_number += 1
            self._tidy(self.step_number)
            self._read_back(self.step_number)
            self._doubt = False

    def check(self) -> None:
        """See that all is there that was acknowledged, and nothing that was deleted. Raises what `step` raises."""
        with self._turn:
            self._settle()
            self._verify(self.step_number)

    def _settle(self) -> None:
        """Find out what became of a step that was cut short."""
        if not self._doubt:
            return
        self._reconnect()
        newest = self._newest()
        if newest not in (self.step_number, self.step_number + 1):
            raise Wrong(f"step {self.step_number} was acknowledged, but the newest that is there is {newest}")
        self.step_number = newest
        self._tidy(newest)
        self._doubt = False
        self._verify(newest)


def expect(what: str, expected: object, found: object) -> None:
    """Raise `Wrong` where what was found is not what was expected."""
    if found != expected:
        raise Wrong(f"{what}: expected {expected}, found {found}")


class Worker:
    """Takes a load's steps in a thread, at its pace, until it is stopped.

    Args:
        load: which is open.
        failed: called with words for every step that failed while the service should be there.
    """

    def __init__(self, load: Load, failed: Callable[[str], None]) -> None:
        self.load = load
        self._failed = failed
        self._loaded = threading.Event()
        self._ended = threading.Event()
        self.outage = threading.Event()
        """Set while the service is down on purpose: errors of the connection are then no failures."""
        self._thread = threading.Thread(target=self._run, name=f"soak-{load.name}", daemon=True)
        self._thread.start()

    def load_on(self, on: bool) -> None:
        """Take steps from now on, or none."""
        if on:
            self._loaded.set()
        else:
            self._loaded.clear()

    def check(self) -> str:
        """Check the service; empty where all is well, else what is wrong, in words."""
        return self._tried(self.load.check)

    def end(self) -> None:
        """End the thread and close the load's connections."""
        self._ended.set()
        self._loaded.set()
        self._thread.join(2 * ANSWER_TIMEOUT)
        try:
            self.load.close()
        except Exception as error:  # the service may be gone already
            self._failed(f"closing: {_words(error)}")

    def _run(self) -> None:
        while not self._ended.is_set():
            self._loaded.wait()
            begun = time.monotonic()
            if not self._ended.is_set() and (problem := self._tried(self.load.step)):
                self._failed(problem)
            pause = OUTAGE_PAUSE if self.outage.is_set() else max(0.0, begun + 1 / self.load.pace - time.monotonic())
            self._ended.wait(pause)

    def _tried(self, call: Callable[[], Any]) -> str:
        # Asked before as well: an answer that was lost in the outage may come to light just after it.
        down = self.outage.is_set()
        try:
            call()
        except Wrong as error:
            return str(error)
        except Exception as error:
            return "" if down or self.outage.is_set() else _words(error)
        return ""


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
