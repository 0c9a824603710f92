"""Signals and interpreter exit: nothing is left behind, however a process ends short of SIGKILL."""

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, Protocol

from triton_env.core.kernel import after_cell

_GRACE = 2.0
"""Seconds that a cleanup goes on after a signal has come: often it is the second one of an impatient user, and the
cleanup needs no longer."""

_LOOK = 0.01
"""Seconds between two looks at what is waited for."""

_AGAIN = 0.01
"""Seconds until a signal whose exception was dropped is sent again."""

_FATAL = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stoppable(Protocol):
    """Something that has to be stopped before the process ends."""

    def stop(self) -> None: ...


_deferring = threading.Event()
"""Set while signals are deferred."""
_hurry: list[float] = []
"""When a cleanup was asked to hurry, on the monotonic clock. A list: handlers may hold up a lock's owner."""
_dropped: list[int] = []
"""Signals that are about to be sent again. A list: no lock may be needed where exceptions are dropped."""
_living: set[Stoppable] = set()
"""Strong references: an environment without other references still has containers to remove."""


def living() -> tuple[Stoppable, ...]:
    """What would be stopped if the interpreter exited now."""
    return tuple(_living)


def stop_at_exit(stoppable: Stoppable) -> None:
    """Stop `stoppable` when the interpreter exits, unless `forget` is called before.

    Also makes SIGTERM and SIGHUP end the process by SystemExit, which runs `finally` blocks and exit handlers, where
    they would kill it at once. That is done from the main thread only (Python allows no other), and only for signals
    that are not handled otherwise.
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
    """Let a cleanup finish: Ctrl-C and the fatal signals are ignored in the block. Works in the main thread only."""
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


@contextmanager
def deferred() -> Iterator[None]:
    """Let a cleanup get to a good end: signals during it take effect after it, and have it hurry.

    What waits in it asks `hurried`. Works in the main thread only, which handles signals; elsewhere nothing is
    deferred.
    """
    if threading.current_thread() is not threading.main_thread() or _deferring.is_set():
        yield
        return
    before = {
        number: handler
        for number in (signal.SIGINT, *_FATAL)
        # A handler that was not installed from Python reads as None and could not be put back.
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    came: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _hurry.append(time.monotonic())

    def let_through() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        _deferring.clear()
        del _hurry[:]
        for number in dict.fromkeys(came):
            signal.raise_signal(number)

    _deferring.set()
    for number in before:
        signal.signal(number, defer)
    try:
        yield
    except BaseException as error:
        _with_note(error, let_through)
        raise
    let_through()


def hurried() -> bool:
    """Whether a cleanup that is under way has to come to its end now: its caller has given it up."""
    return len(_hurry) > 1 or any(time.monotonic() - moment >= _GRACE for moment in _hurry)


def wait_unless_hurried(is_over: Callable[[], bool], timeout: float) -> None:
    """Wait up to `timeout` seconds until something is over."""
    deadline = time.monotonic() + timeout
    # A signal handler cannot wake who waits, which may hold a lock that it needs.
    while not is_over() and time.monotonic() < deadline and not hurried():
        time.sleep(_LOOK)


@contextmanager
def hurrying() -> Iterator[None]:
    """Have cleanups that are under way in other threads come to their end, as a signal would in the main thread."""
    moment = float("-inf")
    _hurry.append(moment)
    try:
        yield
    finally:
        if moment in _hurry:
            _hurry.remove(moment)


def raise_from_handler(error: BaseException, number: int, when_dropped: Callable[[], None] | None = None) -> NoReturn:
    """Raise `error` in the handler of signal `number`, and send the signal again if Python drops the exception.

    Python drops what is raised in a finalizer, in the callback of a weak reference (every import has one) and in some
    code in C, reports it to `sys.unraisablehook`, and goes on. The handler has to be called again to raise elsewhere.

    Args:
        error: what the handler raises.
        number: the signal.
        when_dropped: is called before the signal is sent again.
    """
    report = sys.unraisablehook

    def look(unraisable: "sys.UnraisableHookArgs") -> None:
        if not _leads_to(unraisable.exc_value, error):
            report(unraisable)
            return
        if sys.unraisablehook is look:
            sys.unraisablehook = report
        if when_dropped:
            when_dropped()
        _dropped.append(number)
        try:
            # Not by `threading`: a finalizer may run while its locks are held.
            _thread.start_new_thread(_send_again, (number, threading.get_ident()))
        except RuntimeError:
            _dropped.remove(number)
            report(unraisable)

    sys.unraisablehook = look
    raise error


def wait_for_dropped() -> None:
    """Wait until signals that are sent again have come. To be called before their handlers are put back."""
    while _dropped:
        time.sleep(_LOOK)


def _send_again(number: int, thread: int) -> None:
    time.sleep(_AGAIN)
    signal.pthread_kill(thread, number)
    with suppress(ValueError):
        _dropped.remove(number)


def _leads_to(found: BaseException | None, error: BaseException) -> bool:
    """Whether an exception is `error`, or was raised while that was handled."""
    while found is not None and found is not error:
        found = found.__context__
    return found is error


def _with_note(error: BaseException, action: Callable[[], None]) -> None:
    """Do it. An exception that it raises says what had gone wrong before."""
    try:
        action()
    except BaseException as interruption:
        interruption.add_note(str(error))
        raise


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    # In a notebook's cell, SystemExit is taken for a call of exit() and ends nothing.
    after_cell(lambda: _end_by(number))
    raise_from_handler(SystemExit(128 + number), number)


def _end_by(number: int) -> None:
    _stop_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _stop_all() -> None:
    # What interrupts one is meant for all of them, and the process ends anyway.
    with suppress(KeyboardInterrupt, SystemExit), deferred():
        for stoppable in tuple(_living):
            try:
                stoppable.stop()
            except Exception as error:
                print(error, file=sys.stderr)


def _forget_all() -> None:
    """In a forked child: what its parent started stays its parent's."""
    _living.clear()
    _deferring.clear()
    del _hurry[:], _dropped[:]
    for number in _FATAL:
        if signal.getsignal(number) is _exit_on_signal:
            signal.signal(number, signal.SIG_DFL)


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
