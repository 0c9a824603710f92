"""Signals and interpreter exit: nothing is left behind, however a process ends short of SIGKILL."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from triton_env.notebook.kernel import after_cell

_FATAL = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stoppable(Protocol):
    """Something that has to be stopped before the process ends."""

    def stop(self) -> None: ...


_living: set[Stoppable] = set()
"""Strong references: an environment that nobody refers to any more still has containers to remove."""


def living() -> tuple[Stoppable, ...]:
    """What would be stopped if the interpreter exited now."""
    return tuple(_living)


def stop_at_exit(stoppable: Stoppable) -> None:
    """Stop `stoppable` when the interpreter exits, unless `forget` is called before.

    Also makes SIGTERM and SIGHUP end the process by SystemExit, which runs `finally` blocks and exit handlers, where
    they would kill it on the spot. That is done from the main thread only (Python allows no other), and only where
    nobody else handles the signal.
    """
    _living.add(stoppable)
    if threading.current_thread() is threading.main_thread():
        for number in _FATAL:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit_on_signal)


def forget(stoppable: Stoppable) -> None:
    """`stoppable` was stopped. With the last one the signal handlers go back to what they were."""
    _living.discard(stoppable)
    if not _living and threading.current_thread() is threading.main_thread():
        for number in _FATAL:
            if signal.getsignal(number) is _exit_on_signal:
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def shielded() -> Iterator[None]:
    """Let a cleanup finish: Ctrl-C and the fatal signals are ignored meanwhile. Works in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *_FATAL)}
    # A handler that was not installed from Python reads as None and could not be put back.
    before = {number: handler for number, handler in handlers.items() if handler is not None}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    # In a notebook's cell, SystemExit is taken for a call of exit() and ends nothing.
    after_cell(lambda: _end_by(number))
    raise SystemExit(128 + number)


def _end_by(number: int) -> None:
    _stop_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _stop_all() -> None:
    for stoppable in tuple(_living):
        try:
            stoppable.stop()
        except Exception as error:
            print(error, file=sys.stderr)


def _forget_all() -> None:
    """In a forked child: what its parent started is none of its business."""
    _living.clear()
    for number in _FATAL:
        if signal.getsignal(number) is _exit_on_signal:
            signal.signal(number, signal.SIG_DFL)


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
