"""Idle engine connections, kept for the next request that wants the same state.

A connection takes the engine longer to make than it sounds: it takes turns with all others at it, so that
making one for each request halves what many clients get together.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from .engine import Connection, Engine


@dataclass(frozen=True, slots=True)
class State:
    """What a connection was brought into, and a statement that only reads leaves it in."""

    database: str
    readonly: int
    settings: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, database: str, readonly: int, settings: Mapping[str, str]) -> State:
        """The state for a request."""
        return cls(database, readonly, frozenset(settings.items()))


class ConnectionPool:
    """May be used from any thread."""

    def __init__(self, engine: Engine, size: int) -> None:
        """Keep up to `size` idle connections."""
        self._engine, self._size = engine, size
        self._lock = threading.Lock()
        self._idle: list[tuple[State, Connection]] = []
        self._closed = False

    def take(self, state: State) -> Connection | None:
        """A connection in that state, None if there is none."""
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index][0] == state:
                    return self._idle.pop(index)[1]
        return None

    def give(self, state: State, connection: Connection) -> None:
        """Keep a connection, which must be in that state."""
        surplus: Connection | None = connection
        with self._lock:
            if not self._closed:
                self._idle.append((state, connection))
                surplus = self._idle.pop(0)[1] if len(self._idle) > self._size else None
        if surplus is not None:
            surplus.close()

    def clear(self) -> None:
        """Forget all: something changed that they may rest on, such as the database they are in."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def close(self) -> None:
        """Keep nothing from now on."""
        with self._lock:
            self._closed = True
        self.clear()
