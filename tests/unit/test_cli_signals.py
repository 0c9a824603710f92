"""Signals that come where Python drops what their handlers raise: in finalizers and in callbacks of weak references."""

import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from patience import WAIT
from triton_env.cli.signals import Interrupted, ctrl_c_raises, interruptible


class Finalized:
    """An object whose finalizer is reached by a signal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


class FinalizedWithinAnother(Finalized):
    """One whose finalizer is reached by a signal while another exception is handled."""

    def __del__(self) -> None:
        try:
            signal.raise_signal(self.number)
        except BaseException as error:
            raise RuntimeError("The finalizer failed.") from error


class Referenced:
    """An object with a weak reference, whose callback is reached by a signal, as in imports."""

    def __init__(self, number: int) -> None:
        self.reference = weakref.ref(self, lambda _: signal.raise_signal(number))
        kept.append(self.reference)


kept: list[object] = []

DROPPED = [Finalized, FinalizedWithinAnother, Referenced]


@pytest.fixture(autouse=True)
def reported() -> Iterator[list[BaseException | None]]:
    """What Python has reported as dropped. What was handled before is no report."""
    errors: list[BaseException | None] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: errors.append(unraisable.exc_value)
    yield errors
    sys.unraisablehook = before
    kept.clear()


def drop_and_wait(*drops: Callable[[], object]) -> None:
    for drop in drops:
        drop()
    time.sleep(WAIT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("drop", DROPPED)
def test_a_signal_in_code_that_drops_exceptions_interrupts_what_follows(
    drop: Callable[[int], object], number: signal.Signals, reported: list[BaseException | None]
) -> None:
    with pytest.raises(Interrupted) as caught, interruptible():
        drop_and_wait(lambda: drop(number))
    assert caught.value.exit_code == 128 + number
    assert reported == []


def test_a_signal_that_is_dropped_again_and_again_interrupts_in_the_end() -> None:
    with pytest.raises(Interrupted), interruptible():
        drop_and_wait(*[lambda: Finalized(signal.SIGTERM)] * 3)


def test_a_signal_that_was_dropped_at_the_very_end_is_not_lost() -> None:
    with pytest.raises(Interrupted), interruptible():
        Finalized(signal.SIGTERM)


def test_impatience_is_passed_over_once_a_signal_has_got_through() -> None:
    with interruptible():
        with pytest.raises(Interrupted):
            drop_and_wait(lambda: Finalized(signal.SIGTERM))
        signal.raise_signal(signal.SIGTERM)


def test_ctrl_c_in_commands_without_a_handler_of_their_own() -> None:
    with pytest.raises(KeyboardInterrupt), ctrl_c_raises():
        drop_and_wait(lambda: Finalized(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_ctrl_c_that_others_handle_is_theirs() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with ctrl_c_raises():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT]


def test_other_exceptions_are_reported_as_ever(reported: list[BaseException | None]) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("The finalizer failed.")

    hook = sys.unraisablehook
    with interruptible():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        Failing()
    assert [type(error) for error in reported] == [ValueError]
    assert sys.unraisablehook is hook
