"""Inserts that the engine reports as good, and that failed.

The engine (26.9) swallows what goes wrong once it has read the data of a streamed insert: a violated constraint, too
many partitions, a materialized view that throws, a full disk. It counts such an insert as failed, and has the reason in
its log. So the count is looked at after each insert, and the log only where it has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import querylog, sql
from .errors import UNKNOWN_STATUS_OF_INSERT, ServerError, from_engine

if TYPE_CHECKING:
    from .engine import Connection

_COUNT = "SELECT value FROM system.events WHERE event = 'FailedInsertQuery'"
_UNKNOWN = (
    "It is not known whether the data was stored: an INSERT failed, and the log of queries, in which the engine leaves"
    " the reason, has nothing about this one. hint: SET log_queries = 1, log_queries_probability = 1,"
    " log_queries_min_query_duration_ms = 0, log_queries_min_type = 'QUERY_START'"
)


class FailedInserts:
    """What is known of failed inserts in this process. For several threads.

    Args:
        connect: opens a connection for questions.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self.seen = 0
        """How many there were at the last look."""

    def check(self, seen: int, tag: str, since: float) -> None:
        """Raise what an insert failed with, if it did.

        Args:
            seen: what was `seen` before it began.
            tag: of the connection that made it.
            since: when it began, in seconds since the epoch.

        Raises:
            ServerError: the reason; or that it may have failed, where its client keeps it out of the log.
        """
        with self._lock:
            connection = self._opened()
            rows = connection.rows(_COUNT)
            self.seen = int(rows[0][0]) if rows else 0
            # Another one may have failed at the same time.
            outcome = _outcome(connection, tag, since) if self.seen != seen else ""
        if outcome is None:
            raise ServerError(UNKNOWN_STATUS_OF_INSERT, _UNKNOWN)
        if outcome:
            raise from_engine(outcome)

    def note(self) -> None:
        """An insert has failed with an error: the next one should not look for its reason."""
        with self._lock:
            rows = self._opened().rows(_COUNT)
            self.seen = int(rows[0][0]) if rows else 0

    def close(self) -> None:
        """Close its connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection


def _outcome(connection: Connection, tag: str, since: float) -> str | None:
    """What an insert failed with; empty for a good one, None where the log has nothing about it."""
    connection.run("SYSTEM FLUSH LOGS")
    # By the tag, which no other connection has; a connection does one thing at a time.
    found = connection.rows(
        f"SELECT exception FROM system.{querylog.ENGINE_TABLE}"  # noqa: S608 - all of it is ours
        f" WHERE startsWith(log_comment, {sql.quote(tag)}) AND query_kind = 'Insert'"
        " AND type IN ('QueryFinish', 'ExceptionWhileProcessing')"
        f" AND event_time_microseconds >= fromUnixTimestamp64Micro({int(since * 1e6)})"
        " ORDER BY event_time_microseconds DESC LIMIT 1"
    )
    return str(found[0][0]) if found else None
