"""Ctrl-C and the signals that ask a process to end, as an exception in the main thread; the end of what it prints."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from triton_env.cli.output import GONE, reader_is_gone, stop_printing
from triton_env.core.interrupts import raise_from_handler, wait_for_dropped

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PATIENCE = 5
"""Seconds during which further signals are taken as impatience: the first one is at work."""


class Interrupted(BaseException):
    """A signal asked this process to end. Like KeyboardInterrupt it is not an `Exception`, which would be caught."""

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


class _ReaderGone(BaseException):
    """What reads standard output has closed it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` when a signal asks this process to end, wherever it comes.

    Impatient repetitions are passed over, so that what the first one set going (the removal of containers) is not
    broken off half-way.
    """
    last = -_PATIENCE * 1.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PATIENCE:
            last = now
            raise_from_handler(Interrupted(number), number, forget)

    def forget() -> None:
        nonlocal last
        last = -_PATIENCE * 1.0

    with handled_by(interrupt), _no_signal_dropped():
        yield


def until_reader_leaves(action: Callable[[], object]) -> None:
    """Do something, until that ends or what reads standard output has closed it (`| head`), which ends it quietly.

    A failed write shows that late, or never where nothing more is printed. Works in the main thread only.
    """
    is_over = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal is_over
        # Any other pipe and socket that loses its reader raises the signal too.
        if not is_over and reader_is_gone():
            is_over = True
            raise_from_handler(_ReaderGone(), number, forget)

    def forget() -> None:
        nonlocal is_over
        is_over = False

    before = signal.signal(signal.SIGPIPE, leave)
    try:
        with _no_signal_dropped(), _reader_watched():
            try:
                action()
            finally:
                is_over = True
    except _ReaderGone:
        stop_printing()
    except BrokenPipeError:
        # A server's connection breaks, too, and that is an error.
        if not reader_is_gone():
            raise
        stop_printing()
    finally:
        signal.signal(signal.SIGPIPE, before if before is not None else signal.SIG_IGN)


@contextmanager
def _reader_watched() -> Iterator[None]:
    """Send SIGPIPE to the main thread when the reader of standard output leaves. A terminal has SIGHUP for that."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # it is not a file of the system's
        yield
        return
    if os.isatty(output):
        yield
        return
    end, ended = os.pipe()
    watching, main = select.poll(), threading.get_ident()
    watching.register(output, 0)
    watching.register(end, 0)

    def watch() -> None:
        if any(file == output and events & GONE for file, events in watching.poll()):
            signal.pthread_kill(main, signal.SIGPIPE)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(ended)
        thread.join()
        os.close(end)


@contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, wherever it comes. Does nothing where Ctrl-C is handled otherwise."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: raise_from_handler(KeyboardInterrupt(), number))
    try:
        with _no_signal_dropped():
            yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _no_signal_dropped() -> Iterator[None]:
    report = sys.unraisablehook
    try:
        yield
    finally:
        wait_for_dropped()
        sys.unraisablehook = report
