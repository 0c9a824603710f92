"""Engine connections with the state that a request asks for: its own, or that of a named session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from . import sql
from .engine import Connection, Engine
from .errors import SESSION_IS_LOCKED, SESSION_NOT_FOUND, UNKNOWN_SETTING, ServerError
from .pool import ConnectionPool, State
from .request import QueryRequest

DEFAULT_DATABASE: Final = "default"
"""The database of a request that names none, as in the image. Every new connection is in it."""


@dataclass(slots=True)
class Session:
    """A connection kept between requests.

    Settings and database of a request are for that request only, but stay on the connection until a
    later request wants something else: a client that sends the same ones every time then pays nothing.
    """

    connection: Connection
    timeout: float
    database: str = DEFAULT_DATABASE
    busy: bool = True
    last_used: float = 0.0
    current_database: str = DEFAULT_DATABASE
    applied: dict[str, str] | None = field(default_factory=dict)  # None: unknown, after a failure
    originals: dict[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] | None = None  # what SET ROLE has chosen
    is_begun: bool = False  # whether it has what its user begins with
    custom: dict[str, str] = field(default_factory=dict)  # the settings that its client made up

    def prepare(self, request: QueryRequest, verb: str) -> None:
        """Bring the connection into the state that `request` wants. Blocks."""
        if not self.is_begun and (request.defaults or request.home):
            set_settings(self.connection, request.defaults)
            if request.home and self.database == DEFAULT_DATABASE:
                self.database = request.home
            self.is_begun = True
        # What SET changes belongs to the session: it must not meet, nor be undone with, another value.
        self._apply_settings({} if verb == "SET" else dict(request.settings))
        database = request.database or self.database
        if database != self.current_database:
            _use(self.connection, database)
            self.current_database = database

    def settle(self, verb: str) -> None:
        """Take over what the statement changed for the session. Blocks."""
        if verb == "USE":
            self.database = self.current_database = str(self.connection.rows("SELECT currentDatabase()")[0][0])

    def _apply_settings(self, wanted: Mapping[str, str]) -> None:
        if wanted == self.applied:
            return
        self.applied = None
        gone = {name: self.originals.pop(name) for name in list(self.originals) if name not in wanted}
        if gone:
            self.connection.run("SET " + ", ".join(f"{_setting(name)} = {value}" for name, value in gone.items()))
        if added := [name for name in wanted if name not in self.originals]:
            for name, value, changed in self.connection.settings(added):
                self.originals[name] = sql.quote(value) if changed else "DEFAULT"
        set_settings(self.connection, wanted)
        self.applied = dict(wanted)


class Lease:
    """One request's use of a connection. Its methods block, and may be called from any worker thread."""

    def __init__(
        self,
        engine: Engine,
        pool: ConnectionPool,
        readonly: int = 0,
        session: Session | None = None,
        is_interactive: bool = False,
    ) -> None:
        """With `is_interactive` its client knows that stopping a query may leave something half done."""
        self._is_interactive = is_interactive
        self._engine, self._pool, self._readonly, self.session = engine, pool, readonly, session
        self._connection = None if session is None else session.connection
        self._state: State | None = None
        self._prepared = False
        # A request that is given up may be cleaned up while its last call still runs.
        self.lock = threading.RLock()
        self._cancel_lock = threading.Lock()
        self._cancelled = False
        self.cancellable = False
        self.user = ""
        self.reusable = False

    @property
    def connection(self) -> Connection:
        """The connection, opened when it is needed first."""
        if self._connection is None:
            self._connection = self._engine.connect(self._readonly)
        return self._connection

    def prepare(self, request: QueryRequest, verb: str) -> None:
        """Bring the connection into the state that `request` wants; once is enough."""
        if self._prepared:
            return
        self._prepared = True
        if self.session is not None:
            self.session.prepare(request, verb)
        else:
            self._prepare_own(request)
        self.connection.label(request.query_id, request.account.name, request.sender, request.log_comment)

    def _prepare_own(self, request: QueryRequest) -> None:
        database = request.database or request.home or DEFAULT_DATABASE
        settings = {**request.defaults, **request.settings}
        state = State.of(database, self._readonly, settings)
        self._connection = self._pool.take(state)
        if self._connection is None:
            if database != DEFAULT_DATABASE:
                _use(self.connection, database)
            set_settings(self.connection, settings)
        self._state = state

    def keep_from_others(self) -> None:
        """The connection gets something of this request's own: no other request may have it afterwards."""
        self._state = None

    def forget_others(self) -> None:
        """A statement changed more than data: idle connections may rest on what it changed."""
        self._pool.clear()

    def cancel(self) -> None:
        """Ask the engine to stop the query, if stopping it leaves nothing half done."""
        with self._cancel_lock:
            connection = self._connection
            if (self.cancellable or self._is_interactive) and connection is not None:
                self._cancelled = True
                self._engine.cancel(connection)

    @property
    def closed(self) -> bool:
        """Whether there is nothing to close."""
        return self.session is not None or self._connection is None

    def close(self) -> None:
        """Give the connection up; harmless when repeated."""
        if self.session is not None:
            return
        # The next request on this connection must not be hit by a cancellation that was meant for this one.
        with self.lock, self._cancel_lock:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.reusable and self._state is not None and not self._cancelled:
            self._pool.give(self._state, connection)
        else:
            connection.close()


def _use(connection: Connection, database: str) -> None:
    """Move a connection to a database. Blocks."""
    connection.run(f"USE {sql.identifier(database)}")


def set_settings(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set them, in one statement. Blocks."""
    if settings:
        connection.run("SET " + ", ".join(f"{_setting(name)} = {sql.quote(value)}" for name, value in settings.items()))


def _setting(name: str) -> str:
    """`name` as SET takes it: it knows no quoted names, so anything but a plain one must not reach it."""
    if not name.isascii() or not name.isidentifier():
        raise ServerError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
    return name


class SessionManager:
    """The named sessions of a server. For the event loop only: nothing here is locked."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._sessions: dict[tuple[str, str], Session] = {}

    def acquire(self, user: str, session_id: str, timeout: float, must_exist: bool) -> Session:
        """Take the session `session_id` of `user`, made if there is none; `timeout` in seconds.

        Raises:
            ServerError: another request uses it, or `must_exist` and there is none.
        """
        self.expire()
        session = self._sessions.get((user, session_id))
        if session is None:
            if must_exist:
                raise ServerError(SESSION_NOT_FOUND, f"Session {session_id} not found")
            session = Session(self._engine.connect(), timeout)
            self._sessions[(user, session_id)] = session
        elif session.busy:
            raise ServerError(SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client")
        session.busy, session.timeout = True, timeout
        return session

    def release(self, user: str, session_id: str, close: bool) -> None:
        """Give it back, or end it."""
        session = self._sessions[(user, session_id)]
        session.busy, session.last_used = False, self._clock()
        if close:
            self._drop((user, session_id))

    def expire(self) -> None:
        """End the sessions that lay unused for longer than they wanted to."""
        now = self._clock()
        for key, session in list(self._sessions.items()):
            if not session.busy and now - session.last_used > session.timeout:
                self._drop(key)

    def close(self) -> None:
        """End all that are not in use."""
        for key, session in list(self._sessions.items()):
            if not session.busy:
                self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        self._sessions.pop(key).connection.close()
