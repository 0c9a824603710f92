"""What a backup or restore is doing, for display."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_PAUSE = 0.1
"""Seconds between two reports about bytes: they come by the thousand."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a backup or restore stands.

    Attributes:
        service: the service that it is about; empty for the archive as a whole.
        words: what is done now, or was done.
        size: bytes so far, uncompressed.
        done: whether that is all of this service.
        note: whether it is a remark that is to be read: what will not be as it was.
    """

    service: str
    words: str
    size: int = 0
    done: bool = False
    note: bool = False


Report = Callable[[Step], None]


def silent(step: Step) -> None:
    """Shows nothing."""


class Meter:
    """Counts the bytes of one service and reports them, not too often."""

    def __init__(self, service: str, report: Report) -> None:
        self._service = service
        self._report = report
        self._words = ""
        self._reported = 0.0
        self.size = 0

    def begin(self, words: str) -> None:
        """Something new is being done."""
        self._words = words
        self._tell()

    def count(self, size: int) -> None:
        """So many more bytes were read or written."""
        self.size += size
        if time.monotonic() - self._reported >= _PAUSE:
            self._tell()

    def note(self, words: str) -> None:
        """Something will not be as it was."""
        self._report(Step(self._service, words, note=True))

    def end(self, words: str) -> None:
        """That was all."""
        self._report(Step(self._service, words, self.size, done=True))

    def _tell(self) -> None:
        self._reported = time.monotonic()
        self._report(Step(self._service, self._words, self.size))
