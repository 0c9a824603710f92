"""Waiting for an engine that may hang: as long as it answers, and as long as no signal asks to hurry."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any

from triton_env.core import interrupts
from triton_env.core.threads import in_thread
from triton_env.errors import EngineUnreachable
from triton_env.runtimes.docker import child, engine_errors

SILENCE = 15.0
"""Seconds without any answer after which an engine counts as one that hangs."""
_LOOK = 0.05
"""Seconds between two looks. A signal handler cannot wake who waits, which may hold a lock that it needs."""
_PING_PAUSE = 2.0
"""Seconds between two pings. What takes less is not watched at all."""


class Watch:
    """Ends a wait that has become useless. It works in the main thread, where a signal can end it.

    An order may take long on a busy machine: it is not given up while the engine answers others.

    Args:
        ping: asks the engine whether it is there; raises or hangs where it is not.
        total: seconds that the wait may take, whatever the engine answers.
        again: whether an earlier wait for the same was given up; one that still hangs is found out sooner then.
    """

    def __init__(self, ping: Callable[[], None], total: float, *, again: bool = False) -> None:
        self._ping = ping
        self._total = total
        self._silence = min(SILENCE, engine_errors.SILENT_TIMEOUT) if again else SILENCE

    def wait(self, future: "Future[Any]") -> str:
        """Wait for it; returns why it was given up, in words that follow on "since", and nothing where it is done."""
        began = answered = time.monotonic()
        pinged = began
        ping: Future[None] | None = None
        while not wait((future,), timeout=_LOOK).done:
            now = time.monotonic()
            if interrupts.hurried():
                return "the wait for it was interrupted"
            if now - began > self._total:
                return f"it was not done after {self._total:g} s"
            if ping is not None and ping.done():
                if ping.exception() is None:
                    answered = now
                ping = None
            if ping is None and now - pinged >= _PING_PAUSE:
                pinged, ping = now, in_thread(self._ping)
            if now - answered > self._silence:
                return f"the engine has not answered for {self._silence:g} s"
        return ""


@contextmanager
def while_engine_answers(process: "subprocess.Popen[Any]", ping: Callable[[], None], engine: str) -> Iterator[None]:
    """Kill a program that works at an engine, with all that it has started, as soon as the engine hangs.

    Args:
        process: the program, in a session of its own.
        ping: as of `Watch`.

    Raises:
        EngineUnreachable: it did so.
    """
    over: Future[None] = Future()
    given_up: list[str] = []

    def watch() -> None:
        if words := Watch(ping, float("inf")).wait(over):
            given_up.append(words)
            child.kill(process)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set_result(None)
        watching.join()
        if given_up:
            raise EngineUnreachable(
                "The Docker engine stopped answering.", where=engine, cause=given_up[0], hint="docker info"
            )
