"""Initialised data directories, kept for later sessions: made once per version and settings, then unpacked.

Each is one archive: a directory of 1,300 files takes a journaling file system ten times as long, once to write and
each time to read.
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

from triton_env.errors import StartCancelled
from triton_env.model import DataTemplate
from triton_env.private import make_folders
from triton_env.runtimes.embedded import packages

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Goes up when templates are made in another way than before."""
_LOCK_INTERVAL = 0.1
_UNUSED_FOR = 30 * 24 * 3600
"""Seconds after which a template that nobody used is removed."""


class TemplateCache:
    """The templates of this user.

    Args:
        folder: where they are; the user's cache folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache_path("triton-env", appauthor=False) / "templates"

    def find(self, service: str, template: DataTemplate) -> Path:
        """Where the template of these very settings and this version is, or will be."""
        content = {
            "format": _FORMAT,
            "version": packages.version(template.distribution),
            "machine": platform.machine(),
            **asdict(template),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{service}-{digest[:20]}.tar"

    def get(self, path: Path, make: Callable[[Path], None], cancelled: threading.Event) -> bool:
        """See that the template `path` is there, making it where it is missing.

        One process makes it, others wait. It appears under its name when it is complete.

        Args:
            path: from `find`.
            make: writes it to the path that it is given.
            cancelled: ends the wait for another process when set.

        Returns:
            Whether it was there already, perhaps by another process just now.

        Raises:
            StartCancelled: `cancelled` was set.
            OSError: the cache folder cannot be used. Nothing that `make` raises is changed.
        """
        with suppress(OSError):
            self._check()
            os.utime(path)
            return True
        # Only here: most starts find what they need.
        from filelock import FileLock, Timeout

        make_folders(self.folder)
        self._check()
        lock = FileLock(path.with_suffix(".lock"), mode=0o600, thread_local=False)
        while True:
            with suppress(Timeout):
                lock.acquire(timeout=_LOCK_INTERVAL)
                break
            if cancelled.is_set():
                raise StartCancelled("The start was called off.")
        try:
            if path.exists():
                return True
            unfinished = path.with_suffix(".new")
            # Of somebody who was killed.
            unfinished.unlink(missing_ok=True)
            make(unfinished)
            unfinished.rename(path)
        finally:
            lock.release()
        self._remove_unused(path)
        return False

    def _check(self) -> None:
        """Raise `OSError` if another user may have put something into the folder: servers start on what is there."""
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "others can write to it", str(self.folder))

    def discard(self, path: Path) -> None:
        """Forget a template with which a server would not start: a power failure may have cut its files short."""
        _log.warning("the template %s is removed, since a server did not start with a copy of it", path)
        with suppress(OSError):
            path.unlink()

    def _remove_unused(self, kept: Path) -> None:
        oldest = time.time() - _UNUSED_FOR
        for path in self.folder.iterdir():
            with suppress(OSError):
                if path.suffix == kept.suffix and path.stat().st_mtime < oldest:
                    path.unlink()
                    path.with_suffix(".lock").unlink(missing_ok=True)
