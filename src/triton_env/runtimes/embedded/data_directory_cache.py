"""Initialised data directories, kept for later sessions: made once per version and settings, then unpacked.

Each is one archive: a directory of 1,300 files takes a journaling file system ten times as long, once to write and
each time to read. Its seal says whether it is still what was written.
"""

import errno
import hashlib
import json
import logging
import os
import platform
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from platformdirs import user_cache_path

from triton_env.core.model import DataDirectoryTemplate
from triton_env.core.private import make_folders, remove_anything, set_aside, sync_folder
from triton_env.errors import StartCancelled
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.seal import has_seal, is_intact, seal
from triton_env.state import locks

_log = logging.getLogger(__name__)

_FORMAT = 2
"""Goes up when templates are made in another way than before."""
_LOCK_INTERVAL = 0.1
_UNREADABLE = (errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.EIO)
"""As what opening it fails where it is a link, a socket, another user's, or on a failing disk."""
_UNUSED_FOR = 30 * 24 * 3600
"""Seconds after which an unused template is removed."""


class DataDirectoryCache:
    """The templates of this user.

    Args:
        folder: where they are; the user's cache folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache_path("triton-env", appauthor=False) / "templates"

    def find(self, service: str, template: DataDirectoryTemplate) -> Path:
        """Where the template of these very settings and this version is, or will be."""
        content = {
            "format": _FORMAT,
            "version": packages.version(template.distribution) if template.distribution else template.build,
            "machine": platform.machine(),
            **asdict(template),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{service}-{digest[:20]}.tar"

    def get(self, path: Path, make: Callable[[Path], None], cancelled: threading.Event, timeout: float) -> bool:
        """See that the template `path` is there, making it where it is missing or cannot be one.

        One process makes it, others wait. It appears under its name when all of it is on the disk.

        Args:
            make: writes it to the path that it is given.
            cancelled: ends the wait for another process when set.
            timeout: seconds to wait for another process, which may be stopped.

        Returns:
            Whether it was there already, perhaps by another process just now. Whether its content is as it was
            written is for `is_intact` to say, which takes longer.

        Raises:
            StartCancelled: `cancelled` was set.
            OSError: the cache folder cannot be used, or another process takes too long. Nothing that `make` raises is
                changed.
        """
        with suppress(FileNotFoundError):
            self._check()
            if self._is_there(path):
                return True
        make_folders(self.folder)
        self._check()
        lock_path = path.with_suffix(".lock")
        if lock_path.is_symlink() or lock_path.is_dir():
            # Which no process can lock.
            set_aside(lock_path)
        lock = self._locked(lock_path, cancelled, timeout)
        try:
            if self._is_there(path):
                return True
            unfinished = path.with_suffix(".new")
            # Of a process that was killed.
            remove_anything(unfinished)
            try:
                make(unfinished)
                seal(unfinished)
                unfinished.rename(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            sync_folder(self.folder)
        finally:
            lock.release()
        self._remove_unused(path)
        return False

    def _locked(self, path: Path, cancelled: threading.Event, timeout: float) -> locks.Held:
        deadline = time.monotonic() + timeout
        while True:
            with suppress(BlockingIOError):
                return locks.hold(path, timeout=_LOCK_INTERVAL)
            if cancelled.is_set():
                raise StartCancelled("The start was cancelled.")
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process takes too long to make it", str(path))

    def is_intact(self, path: Path) -> bool:
        """Whether all of a template can be read and is as it was written."""
        try:
            return is_intact(path)
        except OSError:
            return False

    def discard(self, path: Path, reason: str) -> bool:
        """Forget a template. Processes that copy from it at this moment have opened it, and read on.

        Args:
            reason: why it cannot be used, as a sentence without its full stop.

        Returns:
            Whether its name is free for another one.
        """
        try:
            set_aside(path)
        except OSError as error:
            _log.warning("cached data directory %s: %s, and it cannot be removed: %s", path, reason, error.strerror)
            return False
        _log.warning("cached data directory %s: %s, so it is made again", path, reason)
        return True

    def _is_there(self, path: Path) -> bool:
        """Whether there is something that looks like a template. Anything else is discarded.

        Raises:
            OSError: it cannot be looked at or discarded.
        """
        try:
            # Not to be held up by a named pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            reason = "it is a link" if error.errno == errno.ELOOP else f"it cannot be opened ({error.strerror})"
        else:
            try:
                reason = _unfit(descriptor)
                if not reason:
                    os.utime(descriptor)
                    return True
            finally:
                os.close(descriptor)
        if not self.discard(path, reason):
            raise FileExistsError(errno.EEXIST, reason, str(path))
        return False

    def _check(self) -> None:
        """Raise `OSError` if another user may have put something into the folder: servers start on what is there."""
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "others can write to it", str(self.folder))

    def _remove_unused(self, kept: Path) -> None:
        oldest = time.time() - _UNUSED_FOR
        for path in self.folder.iterdir():
            with suppress(OSError):
                if path.suffix == ".old":
                    # Of a process that was killed.
                    remove_anything(path)
                elif path.suffix == kept.suffix and path.stat().st_mtime < oldest:
                    path.unlink()
                    path.with_suffix(".lock").unlink(missing_ok=True)


def _unfit(descriptor: int) -> str:
    """Why an open file cannot be a template of this user's, in words; empty where it may be one."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return "it is not a file"
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return "other users can change it"
    return "" if has_seal(descriptor) else "it is cut short"
