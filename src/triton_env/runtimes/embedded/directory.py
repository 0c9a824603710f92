"""The private directory of one environment, and the removal of those that dead owners left."""

import errno
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.embedded.account import Account
from triton_env.runtimes.embedded.guard import remove

LOCK_NAME = "lock"
_PREFIX = "triton-env-"
_FRESH_PREFIX = f"{_PREFIX}new-"
_NAME = re.compile(r"triton-env-(new-)?[0-9a-f]{8}")
_FRESH_FOR = 60
"""Seconds in which a directory without a lock may be one that is being made."""
_LONGEST_SOCKET = 103
"""Bytes in the path of a Unix socket: 107 on Linux, 103 on macOS."""
_SOCKET_NAME = len("/.s.PGSQL.65535.lock")


class PrivateDirectory:
    """A directory that only its environment can enter, with a lock that its owner and its guard hold while they live.

    Where root is the owner it stays root's, and the servers' group may pass through: nothing that servers could
    exchange for a link lies on the way to a file that root writes.

    Args:
        environment: the environment's id.
        account: the servers' user; None where that is this process's.
        base: the folder to make it in; the system's folder for temporary files by default.

    Raises:
        RuntimeUnavailable: it cannot be made.
    """

    def __init__(self, environment: str, account: Account | None, base: Path | None = None) -> None:
        base = base or Path(tempfile.gettempdir())
        self.path = base / f"{_PREFIX}{environment}"
        self.account = account
        self.sockets = self.path / "run"
        self.temporary = self.path / "tmp"
        self.logs = self.path / "logs"
        self._inputs = self.path / "input"
        _check(base, self.sockets, account)
        # Under its name only once it is locked: an unlocked one looks as if its owner were dead.
        fresh = base / f"{_FRESH_PREFIX}{environment}"
        try:
            fresh.mkdir(mode=0o700)
            self.lock = os.open(fresh / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if account is not None:
                os.chown(fresh, -1, account.gid)
                fresh.chmod(0o710)
            fresh.rename(self.path)
            for folder in (self.logs, self._inputs, self.sockets, self.temporary):
                folder.mkdir(mode=0o700)
            for folder in (self.sockets, self.temporary):
                self._give(folder)
        except OSError as error:
            raise RuntimeUnavailable(
                "No private directory can be made for the servers.",
                where=str(error.filename or base),
                cause=error.strerror or str(error),
                hint="set TMPDIR to a folder on a local disk that you can write to",
            ) from error

    def make(self, service: str, files: Mapping[str, str], *, with_data: bool) -> Path:
        """Make the folder of a service.

        Args:
            service: its name.
            files: what to write into it, by name. Only the servers' user can read them.
            with_data: make an empty folder `data` in it.
        """
        folder = self.path / service
        folder.mkdir(mode=0o700)
        for name, content in files.items():
            self._give(_write(folder / name, content))
        if with_data:
            (folder / "data").mkdir(mode=0o700)
            self._give(folder / "data")
        # Last: from here on it is the servers'.
        self._give(folder)
        return folder

    def input(self, name: str, content: str) -> Path:
        """A file for the guard to open as a program's standard input."""
        return _write(self._inputs / name, content)

    def remove(self) -> None:
        """Remove it with everything in it. Does nothing where it is gone.

        Raises:
            OSError: something of it cannot be removed.
        """
        remove(str(self.path), LOCK_NAME)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _give(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)


def sweep(base: Path | None = None) -> list[Path]:
    """Remove the directories of dead owners; returns them. Those of the living and of other users stay."""
    removed: list[Path] = []
    with suppress(OSError), os.scandir(base or tempfile.gettempdir()) as entries:
        for entry in entries:
            with suppress(OSError):  # somebody else was quicker, or it cannot be removed
                if _NAME.fullmatch(entry.name) and _is_our_folder(entry) and _removed_if_stale(Path(entry.path)):
                    removed.append(Path(entry.path))
    return removed


def _check(base: Path, sockets: Path, account: Account | None) -> None:
    hint = "export TMPDIR=/tmp"
    if len(os.fsencode(sockets)) + _SOCKET_NAME > _LONGEST_SOCKET:
        raise RuntimeUnavailable(
            "The path of the folder for temporary files is too long for Unix sockets.", where=str(base), hint=hint
        )
    if account is not None and not account.can_pass(base):
        raise RuntimeUnavailable(
            "The folder for temporary files is closed to ordinary users, and the servers run as one of them.",
            where=str(base),
            hint=hint,
        )


def _write(path: Path, content: str) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    return path


def _is_our_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()


def _removed_if_stale(directory: Path) -> bool:
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Being made, or its removal was broken off at the very end. One with content is not ours.
        if time.time() - directory.stat().st_mtime < _FRESH_FOR:
            return False
        directory.rmdir()
        return True
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(str(directory), LOCK_NAME)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            return False
        raise
    finally:
        os.close(lock)
