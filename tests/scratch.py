"""Folders for tests outside of pytest's own, which other users may pass and whose paths are short.

Each process has them in one folder of its own, which it removes at its end. Where it was killed, the next run does.
"""

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "triton-tests-"
_LOCK = "lock"


def folder(prefix: str = "") -> Path:
    """A new folder, which is gone after the end of this process."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_own()))


@functools.cache
def _own() -> Path:
    own = Path(tempfile.mkdtemp(prefix=PREFIX))
    own.chmod(0o711)
    made = own / "new"
    # Held as long as this process and those that it forks live. Under its name it is held always.
    fcntl.flock(os.open(made, os.O_CREAT | os.O_RDWR, 0o600), fcntl.LOCK_EX)
    made.rename(own / _LOCK)
    atexit.register(_remove, own, os.getpid())
    return own


def _remove(own: Path, pid: int) -> None:
    if os.getpid() == pid:  # and not a process that it has forked
        shutil.rmtree(own, ignore_errors=True)


def sweep(base: Path | None = None) -> None:
    """Remove the folders of processes that have ended.

    Args:
        base: where they are; by default where temporary files are.
    """
    for lock in (base or Path(tempfile.gettempdir())).glob(f"{PREFIX}*/{_LOCK}"):
        try:
            file = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # another user's, or just removed
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(file)
