"""The last queries of the server, for debugging: the engine has no `system.query_log`."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

_COUNT: Final = 256
_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class RecentQuery:
    """A query that has ended.

    Attributes:
        at: when it came, in seconds since the epoch.
        database: that it was sent to.
        milliseconds: that it took, without the sending of its result.
        text: its beginning.
        error: what became of it, where it failed.
    """

    at: float
    database: str
    milliseconds: float
    text: str
    error: str


class RecentQueries:
    """As many as one looks at; older ones are forgotten."""

    def __init__(self) -> None:
        self._queries: deque[RecentQuery] = deque(maxlen=_COUNT)

    @contextmanager
    def noting(self, database: str, text: bytes) -> Iterator[None]:
        """Note a query when the block ends."""
        at, began = time.time(), time.perf_counter()
        error = ""
        try:
            yield
        except Exception as failure:
            error = str(failure)[:_LENGTH]
            raise
        finally:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            beginning = text[:_LENGTH].decode("utf-8", "replace").strip()
            self._queries.append(RecentQuery(at, database, milliseconds, beginning, error))

    def as_lines(self) -> bytes:
        """One JSON object in each line, the oldest first."""
        return b"".join(json.dumps(asdict(query)).encode() + b"\n" for query in self._queries)
