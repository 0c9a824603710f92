"""Kernel file locks (flock(2)), released when the holder ends, and not shared with forked children."""

import errno
import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from triton_env.core.private import open_file
from triton_env.errors import InvalidSetting

_INTERVAL = 0.05
"""Seconds between two looks at a lock that is waited for only so long."""

_MOMENT = 2.0
"""Seconds for which those that only look at a lock may be in the way of one that takes it."""
_LOOK = 0.005
"""Seconds between two tries in that time."""

_held: "weakref.WeakSet[Held]" = weakref.WeakSet()


class Held:
    """A file whose lock is this process's until `release`, or until the process ends.

    A forked child does not hold it. The lock belongs to the open file, which parent and child share after a fork: an
    unlock in the child would take the lock from the parent, and a child that lives longer would keep it. So the child
    closes its copy at once, and never unlocks.

    Args:
        path: of the file.
        descriptor: open, and locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        _held.add(self)

    @property
    def is_locked(self) -> bool:
        """Whether it is still this process's."""
        return self.descriptor >= 0

    def write(self, text: str) -> None:
        """Replace what is in the file, in place: another file would not be locked."""
        content = text.encode()
        # In this order: readers find no empty file.
        os.pwrite(self.descriptor, content, 0)
        os.ftruncate(self.descriptor, len(content))

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back, and with `remove` delete the file before that. Does nothing a second time."""
        if not self.is_locked:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        # By name: closing alone would leave it to a child that was forked a moment ago and still has a copy.
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.close_without_unlocking()

    def close_without_unlocking(self) -> None:
        """Close the file without giving the lock back: it stays with the processes that have the open file too."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def outlive_exec(self) -> None:
        """Have a program that this process becomes hold it until it ends."""
        os.set_inheritable(self.descriptor, True)

    def __del__(self) -> None:
        # For example, if Ctrl-C interrupts the function before it stores the lock.
        self.close_without_unlocking()


def hold(path: Path, *, together: bool = False, timeout: float | None = None, interval: float = _INTERVAL) -> Held:
    """Lock a file, which is made where it is missing.

    Args:
        path: of the file.
        together: with others that do so; otherwise alone.
        timeout: seconds to wait for holders that exclude it; without end by default.
        interval: seconds between two looks, where the wait has an end.

    Raises:
        BlockingIOError: another holder excludes it still.
        FileNotFoundError: its folder is missing.
        InvalidSetting: something else is in its place.
    """
    how = fcntl.LOCK_SH if together else fcntl.LOCK_EX
    if timeout is None:
        return _locked(path, how, os.O_RDWR | os.O_CREAT)
    began = time.monotonic()
    while True:
        try:
            return _locked(path, how | fcntl.LOCK_NB, os.O_RDWR | os.O_CREAT)
        except BlockingIOError:
            waited = time.monotonic() - began
            # One that looks whether it is held has it for a moment, together with others: see `is_locked`.
            if waited >= timeout and (waited >= _MOMENT or is_held(path)):
                raise
        time.sleep(interval if waited < timeout else _LOOK)


@contextmanager
def locked(path: Path, *, together: bool = False) -> Iterator[None]:
    """Lock a file for the length of the block, as `hold` does; the file stays.

    Args:
        path: of the file.
        together: with others that do so; otherwise alone.
    """
    held = hold(path, together=together)
    try:
        yield
    finally:
        held.release()


def new(path: Path, text: str) -> Held | None:
    """Make a file that is locked from the moment at which it appears; None where there is one of that name."""
    while True:
        fresh = path.with_name(f"new-{token_hex(8)}")
        descriptor = open_file(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        held = Held(fresh, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.write(text)
            os.link(fresh, path)
        except FileExistsError:
            held.release(remove=True)
            return None
        except (BlockingIOError, FileNotFoundError):  # taken for a dead process's and removed, before it was locked
            held.release(remove=True)
            continue
        except BaseException:
            held.release(remove=True)
            raise
        fresh.unlink(missing_ok=True)
        held.path = path
        return held


def abandoned(path: Path) -> Held | None:
    """Lock a file whose holder is dead; None where the file does not exist or its holder lives."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, os.O_RDWR)
    except (FileNotFoundError, BlockingIOError, InvalidSetting):  # the last: a folder or a link, not a lock of ours
        return None


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove those of these files whose holders are dead."""
    for path in _found(folder, pattern):
        if held := abandoned(path):
            held.release(remove=True)


def is_held(path: Path) -> bool:
    """Whether the lock of this file is held by one holder alone. Two processes may ask at once."""
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


def any_held(folder: Path, pattern: str, besides: Held | None = None) -> bool:
    """Whether the lock of one of these files is held, apart from this one. Changes nothing."""
    return any(is_held(path) for path in _found(folder, pattern) if not besides or path != besides.path)


def _found(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except FileNotFoundError:  # the folder went just now
        return []


def _locked(path: Path, how: int, flags: int) -> Held:
    """The file once it is locked; raises what `hold` does."""
    while True:
        held = Held(path, open_file(path, flags))
        try:
            fcntl.flock(held.descriptor, how)
            if _is_at(path, held.descriptor):
                return held
        except BaseException:
            held.release()
            raise
        # It was removed since; perhaps there is another in its place.
        held.release()


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _hand_all_over() -> None:
    """In a forked child: it has copies of its parent's locks, and would keep them after the parent's death."""
    for held in tuple(_held):
        held.close_without_unlocking()


os.register_at_fork(after_in_child=_hand_all_over)
