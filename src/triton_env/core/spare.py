"""File descriptors that are kept for cleaning up: without any, no folder can be listed and no engine asked."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_COUNT = 8
"""What the removal of nested folders, or of containers by an engine, takes at once."""
_lock = threading.Lock()
_users = 0
_kept: list[int] = []


def hold() -> None:
    """Keep descriptors until `drop` is called as often.

    Raises:
        OSError: there are none left.
    """
    global _users
    with _lock:
        _fill()
        _users += 1


def drop() -> None:
    """Undo one `hold`."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _close()


@contextmanager
def released() -> Iterator[None]:
    """Let the block use them."""
    with _lock:
        _close()
    try:
        yield
    finally:
        with _lock, suppress(OSError):
            if _users:
                _fill()


def _fill() -> None:
    try:
        while len(_kept) < _COUNT:
            _kept.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        if not _users:
            _close()
        raise


def _close() -> None:
    while _kept:
        os.close(_kept.pop())
