"""What a service can say about a test that failed: the part `diagnostics` of a service."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from triton_env.services.base import Service

LINES = 40
"""Lines that an answer may have; of a longer one the last are shown."""

ServiceT = TypeVar("ServiceT", bound=Service)


class Diagnostics(ABC, Generic[ServiceT]):
    """What is asked of a server when a test has failed.

    Args:
        service: bound to the namespace of the test.
        timeout: seconds that a connection or an answer may take.
    """

    title: ClassVar[str]
    """What the answer is about, for people."""

    def __init__(self, service: ServiceT, timeout: int) -> None:
        self._service = service
        self._timeout = timeout

    @abstractmethod
    def answer(self, since: float) -> str:
        """What the server says, in lines.

        Args:
            since: when the test began, in seconds since the epoch.

        Raises:
            Exception: whatever a client raises where the server does not answer.
        """

    def is_noise(self, line: str) -> bool:
        """Whether a line of the log is about the making of namespaces, or about those of other tests."""
        return False

    def advice(self, line: str) -> str:
        """What to do about what a line of the log says, which its own words do not say; empty for nothing."""
        return ""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns for reading."""
    if not rows:
        return "(none)"
    cells = [tuple(" ".join(text(cell).split()) for cell in row) for row in (head, *rows)]
    widths = [min(40, max(len(row[column]) for row in cells)) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
        for row in cells
    )


def text(value: object) -> str:
    """A value as it is read; bytes that are not text are replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
