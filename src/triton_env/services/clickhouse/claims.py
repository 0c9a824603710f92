"""What a ClickHouse keeps of those who make spaces on it: rows of one table, in a database of its own."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

import urllib3

from triton_env.services import ClickHouse
from triton_env.services.base_claims import Board, BoardClosed, Note
from triton_env.services.clickhouse.http import Http, ServerError, literal
from triton_env.services.names import CLAIMS

_Answer = TypeVar("_Answer")

_TABLE: Final = f"{CLAIMS}.notes"
_TIMEOUT: Final = urllib3.Timeout(connect=10, read=60)
"""Seconds to connect, and for one answer. Claims hold for longer."""
# Rows that say that a note is gone stay: the note may be in a part that is merged later than one in which they expire.
_MAKE: Final = (
    f"CREATE DATABASE IF NOT EXISTS {CLAIMS}",
    f"CREATE TABLE IF NOT EXISTS {_TABLE}"
    " (key String, text String, is_gone UInt8 DEFAULT 0, at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))"
    " ENGINE = ReplacingMergeTree ORDER BY key",
)
_NOTES: Final = f"""
SELECT key, text, least(dateDiff('millisecond', at, now64(3, 'UTC')) / 1000, toFloat64(uptime())) AS age
FROM {_TABLE} FINAL WHERE startsWith(key, {{}}) AND NOT is_gone
"""  # noqa: S608
_MISSING: Final = (60, 81)
"""The numbers of the errors that say that a table or a database is missing."""


class ClickHouseBoard(Board):
    """The notes on one ClickHouse; see `Board`. Of the rows of a key, the last is its note."""

    def __init__(self, service: ClickHouse) -> None:
        self._http = Http(service, timeout=_TIMEOUT)
        self.break_off = self._http.break_off
        self._lock = threading.Lock()
        self._is_closed = False

    def put(self, key: str, text: str) -> None:
        self._insert("key, text", [f"({literal(key)}, {literal(text)})"])

    def notes(self, prefix: str) -> Mapping[str, Note]:
        with self._open():
            try:
                rows = self._http.rows(_NOTES.format(literal(prefix)))
            except ServerError as error:
                # What only reads makes no place for notes.
                if error.code not in _MISSING:
                    raise
                return {}
        return {row["key"]: Note(row["text"], float(row["age"])) for row in rows}

    def remove(self, *keys: str) -> None:
        if keys:
            self._insert("key, is_gone", [f"({literal(key)}, 1)" for key in keys])

    def close(self) -> None:
        self._is_closed = True
        self.break_off()
        self._http.close()

    def _insert(self, columns: str, rows: list[str]) -> None:
        # A server may be set to answer before a row can be seen.
        settings = {"async_insert": "0"}
        statement = f"INSERT INTO {_TABLE} ({columns}) VALUES {', '.join(rows)}"  # noqa: S608
        self._again(lambda: self._http.run(statement, settings))

    def _again(self, act: Callable[[], _Answer]) -> _Answer:
        with self._open():
            try:
                return act()
            except ServerError as error:
                if error.code not in _MISSING:
                    raise
            for statement in _MAKE:
                self._http.run(statement)
            return act()

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise BoardClosed
            yield
