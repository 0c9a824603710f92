"""Ctrl-C and the signals that ask a process to end, as an exception in the main thread."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PATIENCE = 5
"""Seconds during which further signals are taken as impatience: the first one is at work."""


class Interrupted(BaseException):
    """A signal asked this process to end. Like KeyboardInterrupt it is no `Exception`: nobody handles it by chance."""

    def __init__(self, number: int) -> None:
        self.signal_name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(self.signal_name)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have `handler` called for each of `END_SIGNALS`. Works in the main thread only.

    SIGTERM and SIGHUP stay ignored where they were (`nohup`). SIGINT does not: a shell without job control starts
    background commands with SIGINT ignored, and `kill -INT` has to end them all the same.
    """
    before = {
        number: current
        for number in END_SIGNALS
        if (current := signal.getsignal(number)) is not signal.SIG_IGN or number == signal.SIGINT
    }
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, current in before.items():
            signal.signal(number, current if current is not None else signal.SIG_DFL)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` when a signal asks this process to end.

    Impatient repetitions are passed over, so that what the first one set going (the removal of containers) is not
    broken off half-way.
    """
    last = -_PATIENCE * 1.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PATIENCE:
            last = now
            raise Interrupted(number)

    with handled_by(interrupt):
        yield
