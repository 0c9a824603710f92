"""The private directory of one environment, and the removal of those that dead owners left."""

import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from triton_env.core.private import make_folder, write_new
from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.embedded.account import Account
from triton_env.runtimes.embedded.bases import all_bases, projects_folder
from triton_env.runtimes.embedded.guard import remove
from triton_env.state import locks

LOCK_NAME = "lock"
_PREFIX = "triton-env-"
_FRESH_PREFIX = f"{_PREFIX}new-"
_NAME = re.compile(r"triton-env-(new-)?[0-9a-f]{8}")
_FRESH_FOR = 60
"""Seconds in which a directory without a lock, or with one that is not held yet, may be one that is being made."""


class OwnedFolder:
    """A folder in which some belongs to this process's user and some to the servers'.

    Args:
        path: of the folder.
        account: the servers' user; None where that is this process's.
    """

    def __init__(self, path: Path, account: Account | None) -> None:
        self.path = path
        self._account = account

    def own_folder(self, name: str) -> Path:
        """Make a folder in it for this process alone."""
        folder = self.path / name
        make_folder(folder)
        return folder

    def servers_folder(self, name: str, files: Mapping[str, str] | None = None) -> Path:
        """Make a folder in it for the servers' user, with files that only that user can read."""
        folder = self.own_folder(name)
        for file, content in (files or {}).items():
            self._give(write_new(folder / file, content))
        # Last: from here on it is theirs.
        self._give(folder)
        return folder

    def give(self, folder: Path, *, named: bool = False) -> None:
        """Give a folder and all that is in it to the servers' user, or to the one that has a name."""
        if self._account is not None:
            for path in (*folder.rglob("*"), folder):
                os.chown(path, *self._account.pair(named=named), follow_symlinks=False)

    def shared_copy(self, name: str, sources: Iterable[Path]) -> Path:
        """Make a folder in it with copies of folders, which the servers' user can read and run, and not change."""
        folder = self.own_folder(name)
        for source in sources:
            shutil.copytree(source, folder / source.name)
        if self._account is not None:
            for path in (folder, *folder.rglob("*")):
                if not path.is_symlink():
                    os.chown(path, -1, self._account.gid)
                    path.chmod(0o750 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o640)
        return folder

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)


class PrivateDirectory(OwnedFolder):
    """A directory that only its environment can enter, with a lock that its owner and its guard hold while they live.

    Where root is the owner it stays root's, and the servers' group may pass through: nothing that servers could
    exchange for a link lies on the way to a file that root writes.

    Args:
        account: the servers' user; None where that is this process's.
        base: the folder to make it in.
        name: of the directory, where the servers' user can pass to it; None for one by which the environment is
            recognised.

    Raises:
        RuntimeUnavailable: it cannot be made. Nothing of it is left.
    """

    def __init__(self, environment: str, account: Account | None, base: Path, name: str | None = None) -> None:
        super().__init__(base / (name or f"{_PREFIX}{environment}"), account)
        # Under its name only once it is locked: an unlocked one looks as if its owner were dead.
        fresh = base / (f"{name}-new" if name else f"{_FRESH_PREFIX}{environment}")
        self._lock: locks.Held | None = None
        try:
            make_folder(fresh)
            try:
                self._lock_and_publish(fresh)
            except BaseException:
                self.let_go()
                (fresh / LOCK_NAME).unlink(missing_ok=True)
                fresh.rmdir()
                raise
        except OSError as error:
            raise RuntimeUnavailable(
                "No private directory can be made for the servers.",
                where=str(error.filename or base),
                cause=error.strerror or str(error),
                hint="set TMPDIR to a folder on a local disk that you can write to",
            ) from error

    def _lock_and_publish(self, fresh: Path) -> None:
        self._lock = locks.hold(fresh / LOCK_NAME, timeout=0)
        if self._account is not None:
            os.chown(fresh, -1, self._account.gid)
            fresh.chmod(0o710)
        fresh.rename(self.path)

    @property
    def lock(self) -> int:
        """The open file that is locked, for processes that hold it too."""
        assert self._lock is not None
        return self._lock.descriptor

    def remove(self) -> None:
        """Remove it with everything in it. Does nothing where it is gone.

        Raises:
            OSError: something of it cannot be removed.
        """
        try:
            remove(str(self.path), LOCK_NAME)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Leave its lock to the guard and the servers, which have it too as long as they live."""
        if self._lock is not None:
            self._lock.close_without_unlocking()


def groups() -> set[int]:
    """The groups that directories of this user's environments and projects have, which are those of their servers."""
    found: set[int] = set()
    for directory in (*_directories(()), *projects_folder("").glob("*")):
        with suppress(OSError):
            found.add(directory.stat().st_gid)
    return found


def sweep(bases: Iterable[Path] = ()) -> list[Path]:
    """Remove the directories of dead owners; returns them. Those of the living and of other users stay.

    Args:
        bases: the folders to look in; by default all that environments of this user may use.
    """
    removed: list[Path] = []
    for directory in _directories(bases):
        with suppress(OSError):  # another process was quicker, or it cannot be removed
            if removed_if_abandoned(directory):
                removed.append(directory)
    return removed


def abandoned(bases: Iterable[Path] = ()) -> list[Path]:
    """The directories that `sweep` would remove."""
    found: list[Path] = []
    for directory in _directories(bases):
        with suppress(OSError), _abandoned(directory) as is_abandoned:
            if is_abandoned:
                found.append(directory)
    return found


def environment_of(directory: Path) -> str:
    """The id of the environment that has a directory."""
    return directory.name.rpartition("-")[2]


def removed_if_abandoned(directory: Path) -> bool:
    """Remove a directory if its owner is dead; whether that was so.

    Raises:
        OSError: it cannot be removed.
    """
    with _abandoned(directory) as is_abandoned:
        if is_abandoned:
            remove(str(directory), LOCK_NAME)
    return is_abandoned


def _directories(bases: Iterable[Path]) -> list[Path]:
    """All directories of this user's environments, of the living and the dead."""
    found: list[Path] = []
    for base in bases or all_bases():
        with suppress(OSError), os.scandir(base) as entries:
            for entry in entries:
                with suppress(OSError):
                    if _NAME.fullmatch(entry.name) and _is_our_folder(entry):
                        found.append(Path(entry.path))
    return found


def _is_our_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()


@contextmanager
def _abandoned(directory: Path) -> Iterator[bool]:
    """Whether a directory's owner is dead. It is ours alone until the block ends."""
    if directory.name.startswith(_FRESH_PREFIX) and not _is_old(directory):
        # Its owner may be just about to lock it, which must not find the lock in our hands.
        yield False
        return
    if not os.path.lexists(directory / LOCK_NAME):
        # Being made, or its removal was interrupted at the very end. One with content is not ours.
        yield _is_old(directory) and not any(directory.iterdir())
        return
    held = locks.abandoned(directory / LOCK_NAME)
    try:
        yield held is not None and stat.S_ISREG(os.fstat(held.descriptor).st_mode)
    finally:
        if held:
            held.release()


def _is_old(directory: Path) -> bool:
    return time.time() - directory.stat().st_mtime >= _FRESH_FOR
