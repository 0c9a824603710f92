"""The one poll loop: deadline, liveness, cancellation and the last error."""

import threading
import time
from collections.abc import Callable

from triton_env.errors import StartCancelled

_LIVENESS_INTERVAL = 0.2
"""Seconds between liveness checks: they cost a request to the engine, a refused probe costs next to nothing."""


class DeadlineExceeded(Exception):
    """The probe did not succeed in time. `last_error` is what it raised last."""

    def __init__(self, seconds: float, last_error: Exception) -> None:
        super().__init__(f"not ready after {seconds:g} s: {last_error}")
        self.seconds = seconds
        self.last_error = last_error


def wait_until_ready(
    probe: Callable[[], None],
    *,
    timeout: float,
    interval: float,
    check_alive: Callable[[], None],
    cancelled: threading.Event,
) -> int:
    """Call `probe` until it returns.

    Args:
        probe: returns when the service did real work, raises while it cannot.
        timeout: seconds after which to give up; the probe is called at least once.
        interval: seconds between the end of a failed try and the next.
        check_alive: raises as soon as the service can never become ready (its container exited).
        cancelled: ends the wait early when set.

    Returns:
        How many tries it took.

    Raises:
        DeadlineExceeded: with the probe's last error.
        StartCancelled: `cancelled` was set.
        Exception: whatever `check_alive` raises.
    """
    start = time.monotonic()
    next_liveness_check = start
    tries = 0
    while True:
        if cancelled.is_set():
            raise StartCancelled("The start was called off.")
        tries += 1
        try:
            probe()
        except Exception as error:
            last_error = error
        else:
            return tries
        now = time.monotonic()
        if now >= next_liveness_check:
            check_alive()
            next_liveness_check = now + _LIVENESS_INTERVAL
        if now - start >= timeout:
            raise DeadlineExceeded(timeout, last_error) from last_error
        cancelled.wait(interval)
