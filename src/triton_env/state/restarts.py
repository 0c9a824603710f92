"""Which servers of an environment are being restarted, for the processes that use it besides its owner.

The owner notes it in a file beside the record, locked while the restart goes on: an owner that dies leaves no note.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from triton_env.errors import TritonError
from triton_env.settings import Settings
from triton_env.state import locks
from triton_env.state.folders import private_folder

SUFFIX = ".restarts"
_INTERVAL = 0.05


class Restarts(NamedTuple):
    """What is seen of the restarts of a server.

    Attributes:
        is_going_on: whether one is.
        last: distinguishes the last one from others; empty where there was none.
    """

    is_going_on: bool
    last: str


@contextmanager
def noted(settings: Settings, environment: str, service: str) -> Iterator[None]:
    """In the block, this process restarts a server. An environment that is not listed has no other users."""
    held: locks.Held | None = None
    record = private_folder(settings, "environments") / f"{environment}.json"
    try:
        with suppress(TritonError, OSError):  # a full disk, say: the restart is worth more than the note
            if record.exists():
                held = locks.hold(_file(settings, environment, service))
                held.write(token_hex(8))
        yield
    finally:
        if held:
            # What takes a record off the list then removes the notes that are there.
            held.release(remove=not record.exists())


def seen(settings: Settings, environment: str, service: str) -> Restarts:
    """What other processes see of it: unchanged between two looks, there was no restart at any time between."""
    file = _file(settings, environment, service)
    try:
        return Restarts(locks.is_held(file), file.read_text())
    except OSError:  # there was none, or the environment ends
        return Restarts(is_going_on=False, last="")


def last(settings: Settings, environment: str, service: str) -> datetime | None:
    """When the last restart of a server began; None where there was none."""
    try:
        return datetime.fromtimestamp(_file(settings, environment, service).stat().st_mtime, UTC)
    except OSError:
        return None


def wait(settings: Settings, environment: str, service: str, seconds: float) -> None:
    """Wait until no restart of a server goes on, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    while seen(settings, environment, service).is_going_on and time.monotonic() < deadline:
        time.sleep(_INTERVAL)


def _file(settings: Settings, environment: str, service: str) -> Path:
    return private_folder(settings, "environments") / f"{environment}.{service}{SUFFIX}"
