"""Whether the lock of a file is held: looked at without taking it, so that several may look at once."""

import errno
import fcntl
import os
from pathlib import Path


def is_held(path: Path) -> bool:
    """Whether the lock of this file is held. Two processes may ask at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link, which is not a lock of ours
            return False
        raise
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)


def is_locked(descriptor: int) -> bool:
    """Whether the lock of the file that is open there is held by another opening of it."""
    try:
        # Shared: another process that asks now does not take this for the lock of a holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
