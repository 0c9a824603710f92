"""Locks of the kernel on files: given back however their holder ends, and not shared with forked children."""

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from triton_env.core.private import open_file
from triton_env.errors import InvalidSetting

_held: "weakref.WeakSet[Held]" = weakref.WeakSet()


class Held:
    """A file whose lock is this process's until `release`, or until the process ends.

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
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back, and with `remove` delete the file before that. Does nothing a second time."""
        if not self.is_locked:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        # By name: closing alone would leave it to a child that was forked a moment ago and still has a copy.
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """Close the file without giving the lock back, which is somebody else's in a forked child."""
        descriptor, self.descriptor = self.descriptor, -1
        _held.discard(self)
        if descriptor >= 0:
            os.close(descriptor)


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
    """Lock a file whose holder is dead; None where there is no such file or its holder lives."""
    return _locked(path, fcntl.LOCK_EX, os.O_RDWR, wait=False)


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove those of these files whose holders are dead."""
    for path in folder.glob(pattern):
        if held := abandoned(path):
            held.release(remove=True)


def shared(path: Path) -> Held | None:
    """Lock a file together with others that do so, once nobody excludes these; None where its folder is gone.

    The file is made where it is missing.
    """
    return _locked(path, fcntl.LOCK_SH, os.O_RDWR | os.O_CREAT, wait=True)


def at_once(path: Path, *, together: bool = False) -> Held | None:
    """Lock a file without waiting; the file is made where it is missing. None where another holder excludes it.

    Args:
        path: of the file.
        together: with others that do so; otherwise alone.
    """
    return _locked(path, fcntl.LOCK_SH if together else fcntl.LOCK_EX, os.O_RDWR | os.O_CREAT, wait=False)


@contextmanager
def locked(path: Path, *, together: bool = False) -> Iterator[None]:
    """Lock a file for the length of the block; the file is made where it is missing, and stays.

    Args:
        path: of the file.
        together: with others that do so; otherwise alone.
    """
    held = _locked(path, fcntl.LOCK_SH if together else fcntl.LOCK_EX, os.O_RDWR | os.O_CREAT, wait=True)
    try:
        yield
    finally:
        if held:
            held.release()


def _locked(path: Path, how: int, flags: int, *, wait: bool) -> Held | None:
    """The file once it is locked; None where it is not there, or is somebody else's and that is not waited for."""
    while True:
        try:
            held = Held(path, open_file(path, flags))
        except FileNotFoundError:
            return None
        except InvalidSetting:
            # A lock that is looked for is not one of ours then.
            if flags & os.O_CREAT:
                raise
            return None
        try:
            fcntl.flock(held.descriptor, how if wait else how | fcntl.LOCK_NB)
            if _is_at(path, held.descriptor):
                return held
        except BlockingIOError:
            held.forget()
            return None
        except BaseException:
            held.release()
            raise
        # It was removed meanwhile; perhaps there is another in its place.
        held.release()


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _forget_all() -> None:
    """In a forked child: it has copies of its parent's locks, and would keep them after the parent's death."""
    for held in tuple(_held):
        held.forget()


os.register_at_fork(after_in_child=_forget_all)
