"""Room set aside on the volume, so that a full disk can be freed over the S3 API: to delete needs room too."""

import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

SIZE = 1024 * 1024
"""Bytes. Deleting an object takes about 30 KB of log, and its body's room comes back seconds later."""


class Reserve:
    """A file that takes room and holds nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self.fill()

    def fill(self) -> None:
        """Take the room, if there is that much."""
        with self._lock:
            try:
                with self._path.open("ab") as file:
                    # Written, because on some file systems a length alone takes no room.
                    file.write(bytes(max(0, SIZE - file.tell())))
            except OSError:
                self._empty()

    def give(self) -> None:
        """Give the room to whoever comes next."""
        with self._lock:
            self._empty()

    def _empty(self) -> None:
        with suppress(OSError):
            os.truncate(self._path, 0)
