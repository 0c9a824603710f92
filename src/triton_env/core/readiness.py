"""The one poll loop: deadline, liveness, cancellation and the last error."""

import socket
import threading
import time
from collections.abc import Callable

from triton_env.core.model import Placement
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import StartCancelled, TritonError

Explain = Callable[[Exception], TritonError | None]
"""What a failed try means where it makes no sense to try again; else None."""

_LIVENESS_INTERVAL = 0.2
"""Seconds between liveness checks: they cost a request to the engine, a refused probe costs next to nothing."""


_CONNECT_TIMEOUT = 2
_CLOSED_WITHIN = 0.01
"""Seconds within which a proxy without a server behind it has closed the connection again."""


REFUSED_FOR = 2
"""Seconds after which a server that refuses the client will go on to do so; one that starts may for a moment."""


class DeadlineExceeded(Exception):
    """The probe did not succeed in time, or never will.

    Attributes:
        seconds: how long it was tried.
        last_error: what the probe raised last.
        refused: whether the server refused the client, which more time does not change.
    """

    def __init__(self, seconds: float, last_error: Exception, *, refused: bool = False) -> None:
        super().__init__(f"not ready after {seconds:g} s: {last_error}")
        self.seconds = seconds
        self.last_error = last_error
        self.refused = refused


class Refused(Exception):
    """A probe's client was refused; the words are those of `__cause__`."""


def wait_until_ready(
    probe: Callable[[], None],
    *,
    timeout: float,
    interval: float,
    check_alive: Callable[[], None],
    cancelled: threading.Event,
    explain: "Explain" = lambda error: None,
) -> int:
    """Call `probe` until it returns.

    Args:
        probe: returns when the service did real work, raises while it cannot.
        timeout: seconds after which to give up; the probe is called at least once.
        interval: seconds between the end of a failed try and the next.
        check_alive: raises as soon as the service can never become ready (its container exited).
        cancelled: ends the wait early when set.
        explain: returns what a failed try means where it makes no sense to try again; else None.

    Returns:
        How many tries it took.

    Raises:
        DeadlineExceeded: with the probe's last error; long before the timeout where that has been `Refused` for
            `REFUSED_FOR` seconds.
        StartCancelled: `cancelled` was set.
        Exception: whatever `check_alive` raises and `explain` returns; after the timeout, a mistake in a program
            that the probe raised last.
    """
    start = time.monotonic()
    next_liveness_check = start
    refused_since: float | None = None
    tries = 0
    while True:
        if cancelled.is_set():
            raise StartCancelled("The start was cancelled.")
        tries += 1
        try:
            probe()
        except Exception as error:
            if not isinstance(error, PROGRAMMING_ERRORS) and (explained := explain(error)):
                raise explained from error
            last_error = error
        else:
            return tries
        now = time.monotonic()
        refused_since = (refused_since or now) if isinstance(last_error, Refused) else None
        if now >= next_liveness_check:
            check_alive()
            next_liveness_check = now + _LIVENESS_INTERVAL
        if refused_since is not None and now - refused_since >= REFUSED_FOR:
            raise DeadlineExceeded(now - start, last_error, refused=True) from last_error
        if now - start >= timeout:
            # Not before: clients raise some of these on the half answers of a server that starts.
            if isinstance(last_error, PROGRAMMING_ERRORS):
                raise last_error
            raise DeadlineExceeded(timeout, last_error) from last_error
        cancelled.wait(interval)


def check_listening(host: str, port: int) -> None:
    """See whether a server listens, before a client is sent there, which costs many times as much.

    Docker's proxy accepts connections from the start, and closes them at once while no server listens in the container.
    A server keeps quiet until it is spoken to (or, with other protocols than those here, speaks first).

    Raises:
        OSError: no server listens.
    """
    with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT) as connection:
        connection.settimeout(_CLOSED_WITHIN)
        try:
            if connection.recv(1) == b"":
                raise ConnectionError(f"no server listens at {host}:{port} yet")
        except TimeoutError:
            return


def listens(placement: Placement) -> bool:
    """Whether a server listens on its main port."""
    endpoint = next(iter(placement.endpoints.values()))
    try:
        check_listening(endpoint.host, endpoint.port)
    except OSError:
        return False
    return True


def refuses(placement: Placement) -> bool:
    """Whether its main port is closed. A server that is slow does not count."""
    endpoint = next(iter(placement.endpoints.values()))
    try:
        check_listening(endpoint.host, endpoint.port)
    except ConnectionError:
        return True
    except OSError:
        return False
    return False
