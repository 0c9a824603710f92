"""Redis: a space is a logical database. Keys are copied inside the server, by COPY.

Channels of pub/sub, functions and users are the server's: spaces share them. Clients of spaces log in as a user who may
not empty what is shared.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any

from triton_env.errors import IsolationFailed
from triton_env.services import Redis
from triton_env.services.base_isolation import SNAPSHOT, ContentLost, Isolation, Space
from triton_env.services.redis.claims import RedisBoard
from triton_env.services.redis.connection import is_single
from triton_env.services.redis.names import NAMESPACE_USER, OWN_NUMBERS

_FORBIDDEN = ("flushall", "swapdb", "replicaof", "slaveof")
"""Commands by which one namespace would empty or change all others. No rule confines a user to a database."""

Connection = Any
"""`redis.connection.Connection`, whose methods say nothing about types."""

_BATCH = 500
"""Keys that are copied in one exchange."""
_TIMEOUT = 60
"""Seconds for one answer."""
_SCRIPT_TIMEOUT = 30
"""Seconds that a script gets that runs longer than the server likes, and keeps it from answering."""
_SCRIPT_INTERVAL = 0.1
_CLOSE_INTERVAL = 0.05
"""Seconds that `close` waits for a thread at a time."""
_FILLED = re.compile(rb"^db(\d+):keys=(\d+),expires=(\d+)", re.MULTILINE)
_MARK = b"triton-env:"
"""With which the key begins that says that nothing has emptied a frozen space. It ends with a random word."""


class RedisIsolation(Isolation[Redis]):
    """Spaces in a Redis server, 6.2 or later: COPY is new there. https://redis.io/docs/latest/commands/copy/

    A snapshot takes as many logical databases as the environment itself has, one after the other; any other space
    takes one.
    """

    shared_kinds = ("library",)
    how_to_replace = "make it with FUNCTION LOAD REPLACE"

    def __init__(self, service: Redis) -> None:
        super().__init__(service)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._databases = 0
        self._user = ""
        self._configuration: Mapping[str, str] | None = None
        self._board: RedisBoard | None = None

    def board(self) -> RedisBoard | None:
        # A single logical database is the user's, and has no room for notes, nor for spaces.
        if self._board is None and not is_single(self._service):
            self._board = RedisBoard(self._service, lambda: self.slots.held())
        return self._board

    def filled(self) -> frozenset[int]:
        """The numbers of the logical databases that hold keys."""
        with self._exchange() as exchange:
            return frozenset(exchange.filled())

    def bound(self, space: Space) -> Redis:
        if space.is_own:
            return self._service
        (number, *_) = self._numbers_of(space)
        return self._service.in_database(number, channel_prefix=f"{space.id}:", user=self._user)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        if self._board and not is_new:
            self.drop(space)
        self._claim(space)
        self.replace(space, source)

    def drop(self, space: Space) -> None:
        if self._board:
            noted = [number for number, whose in self._board.numbers().items() if whose == space.id]
            for number in sorted({*noted, *self.slots.of(space)}):
                self._board.empty(number, space.id, goes=True)
        elif self.slots.of(space):
            self.replace(space, None)

    def replace(self, space: Space, source: Space | None) -> None:
        with self._exchange() as exchange:
            numbers = self._numbers_of(space)
            self._make_user(exchange)
            filled = exchange.filled() if source else {}
            if self._board and not space.is_own:
                self._empty(self._board, space, numbers)
            else:
                exchange.flush(numbers)
            # Of a snapshot, a namespace gets what was in the first: it has no more.
            for origin, number in zip(self._numbers_of(source) if source else (), numbers, strict=False):
                if origin in filled:
                    exchange.copy(origin, number)

    def _empty(self, board: RedisBoard, space: Space, numbers: Sequence[int]) -> None:
        for number in numbers:
            if not board.empty(number, space.id):
                raise IsolationFailed(
                    f"The logical database {number} of Redis does not belong to {space.id} any longer.",
                    where=f"{self._service.host}:{self._service.port}",
                    cause="this process was suspended or cut off for longer than its claim lasts",
                    hint="take another namespace: env.namespace()",
                )

    def record(self, space: Space) -> str:
        """How many keys without a time to live each logical database holds, and a key that only this record knows.

        Keys whose time is over go by themselves, and are not counted.
        """
        with self._exchange() as exchange:
            numbers = self._numbers_of(space)
            if exchange.filled().keys().isdisjoint(numbers):
                return ""
            mark = _MARK + token_hex(8).encode()
            exchange.call("SELECT", numbers[0])
            exchange.call("SET", mark, space.id)
            filled = exchange.filled()
            return json.dumps({"mark": mark.decode(), "keys": [filled.get(number, 0) for number in numbers]})

    def verify(self, source: Space, record: str) -> None:
        with self._exchange() as exchange:
            self._verify(exchange, source, record)

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        with self._exchange() as exchange:
            self._make_user(exchange)
            numbers = self._numbers_of(copy)
            if self._board and not all(self._board.has(number, copy.id) for number in numbers):
                raise ContentLost(f"{copy.id} has lost its logical database {numbers[0]}")
            if source is None:
                return
            filled = self._verify(exchange, source, record)
            for position, (expected, number) in enumerate(zip(json.loads(record)["keys"], numbers, strict=False)):
                if filled.get(number, 0) < expected - (position == 0):
                    raise ContentLost(_words(number, filled.get(number, 0), expected - (position == 0)))

    def _verify(self, exchange: "_Session", source: Space, record: str) -> Mapping[int, int]:
        known = json.loads(record)
        numbers = self._numbers_of(source)
        filled = exchange.filled()
        for number, expected in zip(numbers, known["keys"], strict=True):
            if filled.get(number, 0) != expected:
                raise ContentLost(_words(number, filled.get(number, 0), expected))
        # The last question: what is there now was there all the time.
        exchange.call("SELECT", numbers[0])
        if not exchange.call("EXISTS", known["mark"]):
            raise ContentLost(f"logical database {numbers[0]} was emptied")
        return filled

    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        spared = {number for space in kept for number in self.slots.of(space)}
        with self._exchange(ends_scripts_at_once=True) as exchange:
            exchange.attempt("REPLICAOF", "NO", "ONE")
            exchange.attempt("CLIENT", "UNPAUSE")
            exchange.configure(self._configuration or {})
            exchange.flush(sorted(exchange.filled().keys() - spared))
            exchange.call("SCRIPT", "FLUSH")
            exchange.attempt("FUNCTION", "FLUSH")  # before 7.0 there are none
            users = [
                name for name in exchange.call("ACL", "USERS") if name not in (b"default", NAMESPACE_USER.encode())
            ]
            if users:
                exchange.call("ACL", "DELUSER", *users)
            self._make_user(exchange)
            exchange.call("ACL", "SETUSER", "default", "reset", "on", self._password_rule(), "~*", "&*", "+@all")
            for log in ("SLOWLOG", "LATENCY"):
                exchange.attempt(log, "RESET")
            exchange.attempt("ACL", "LOG", "RESET")

    def found(self) -> frozenset[str]:
        # Logical databases have no names: whose they are is noted where machines share the server.
        return frozenset(self._board.numbers().values()) if self._board else frozenset()

    def close(self) -> None:
        # It stays: a thread that still works would take the server for one that no other machine uses.
        if self._board is not None:
            self._board.close()
        while not self._lock.acquire(timeout=_CLOSE_INTERVAL):
            # A thread that waits for a server that hangs has it.
            self.break_off()
        try:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.disconnect()
        finally:
            self._lock.release()

    def break_off(self) -> None:
        if self._board is not None:
            self._board.break_off()
        # Not closed: of a closed connection, the thread would make a new one.
        if self._connection is not None and (stream := self._connection._sock) is not None:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def _own(self) -> range:
        return OWN_NUMBERS if self._databases > len(OWN_NUMBERS) else range(1)

    def _numbers_of(self, space: Space) -> range:
        if space.is_own:
            return self._own()
        numbers = self.slots.of(space)
        if not numbers:
            # What another machine has made is known by its notes alone, and something has wiped them.
            raise ContentLost(f"{space.id} has no logical database")
        return numbers

    def _claim(self, space: Space) -> None:
        with self._exchange():
            own = self._own()
            # The last is that of the board.
            among = range(own.stop, self._databases - bool(self._board))
        count = len(own) if space.id.startswith(SNAPSHOT) else 1
        # Where data of others is, a number that no space has may hold some of it.
        avoided = self.filled if self.is_lasting else tuple
        if not self.slots.claim(space, among, count, avoided=avoided):
            raise IsolationFailed(
                "No logical database of Redis is free for a namespace.",
                where=f"{len(self.slots.taken())} are taken",
                hint="close namespaces that are no longer needed, or run a server with more: "
                "redis-server --databases 1024",
            )

    @contextmanager
    def _exchange(self, *, ends_scripts_at_once: bool = False) -> Iterator["_Session"]:
        with self._lock:
            connection = self._connection
            is_new = connection is None
            if connection is None:
                connection = self._connection = _connection(self._service)
            elif _is_over(connection):
                connection.disconnect()  # it connects again by itself
                is_new = True
            try:
                # Whose script it is is not known. On a server with data of others, only they end it.
                patience = 0 if ends_scripts_at_once else _SCRIPT_TIMEOUT
                exchange = _Session(connection, patience, ends_scripts=not self.is_lasting)
                if is_new:
                    self._greet(exchange)
                yield exchange
            except BaseException:
                # An answer may be on its way that is no longer waited for. The next one greets the server, which may
                # not have answered a greeting yet.
                self._connection = None
                connection.disconnect()
                raise

    def _greet(self, exchange: "_Session") -> None:
        """What is to be known of a server, and the user of namespaces, whom a server that started again has lost."""
        exchange.call("CLIENT", "SETNAME", "triton-env")
        self._databases = int(exchange.call("CONFIG", "GET", "databases")[1])
        if self._configuration is None:
            self._configuration = self._service.configuration_at_start or exchange.configuration()
        self._make_user(exchange)

    def _make_user(self, exchange: "_Session") -> None:
        """Make the user of namespaces, whom a test may have deleted or changed, for each of them."""
        rules = ["reset", "on", self._password_rule(), "~*", "&*", "+@all", *(f"-{name}" for name in _FORBIDDEN)]
        # An external server may not let us.
        self._user = NAMESPACE_USER if exchange.attempt("ACL", "SETUSER", NAMESPACE_USER, *rules) else ""

    def _password_rule(self) -> str:
        return f">{self._service.password}" if self._service.password else "nopass"


class _Session:
    """Commands and answers on one connection, without a client's retries.

    A client that connects again would be in logical database 0, and what was meant for another would hit that one. A
    pipeline would go on after a SELECT that failed.

    Args:
        patience: seconds that a script gets which keeps the server from answering.
        ends_scripts: whether it is ended then.
    """

    def __init__(self, connection: Connection, patience: float, *, ends_scripts: bool) -> None:
        self._connection = connection
        self._patience = patience
        self._ends_scripts = ends_scripts

    def call(self, *command: Any) -> Any:
        """The answer to one command.

        Raises:
            IsolationFailed: a script keeps the server from answering, and cannot be ended.
        """
        from redis.exceptions import ResponseError

        began = time.monotonic()
        while True:
            self._connection.send_command(*command)
            try:
                return self._connection.read_response()
            except ResponseError as error:
                # Nothing else has been done for it.
                if not str(error).startswith("BUSY"):
                    raise
                waited = time.monotonic() - began
                if waited >= self._patience:
                    self._end_script(error, is_last=waited >= _SCRIPT_TIMEOUT)
            time.sleep(_SCRIPT_INTERVAL)

    def _end_script(self, busy: Exception, *, is_last: bool) -> None:
        """End the script or function that runs, unless it has written something: then nothing but the server can.

        Args:
            busy: the server's answer.
            is_last: whether it is not waited for any longer.

        https://redis.io/docs/latest/commands/script-kill/
        """
        from redis.exceptions import ResponseError

        kind = "FUNCTION" if "FUNCTION KILL" in str(busy) else "SCRIPT"
        what, hint = f"A {kind.lower()} keeps Redis from answering.", f"end it: redis-cli {kind} KILL"
        if self._ends_scripts:
            self._connection.send_command(kind, "KILL")
            try:
                self._connection.read_response()
            except ResponseError as error:
                if str(error).startswith("NOTBUSY") or not is_last:  # it has ended just now, or may end yet
                    return
                what = f"A {kind.lower()} keeps Redis from answering, and cannot be ended."
                hint = "wait until it ends, or start the environment again; redis-cli SHUTDOWN NOSAVE ends the server"
                raise IsolationFailed(what, where="Redis", cause=str(error), hint=hint) from error
            return
        raise IsolationFailed(what, where="Redis", cause=str(busy), hint=hint) from busy

    def attempt(self, *command: Any) -> bool:
        """Send a command that a server may not know or allow; whether it has done it."""
        from redis.exceptions import ResponseError

        try:
            self.call(*command)
        except ResponseError:
            return False
        return True

    def configuration(self) -> dict[str, str]:
        """Everything that CONFIG SET may change, and more."""
        words = [word.decode(errors="surrogateescape") for word in self.call("CONFIG", "GET", "*")]
        return dict(zip(words[::2], words[1::2], strict=True))

    def configure(self, wanted: Mapping[str, str]) -> None:
        """Set what is not as wanted."""
        found = self.configuration()
        for name, value in wanted.items():
            if name in found and found[name] != value:
                self.attempt("CONFIG", "SET", name, value.encode(errors="surrogateescape"))

    def filled(self) -> dict[int, int]:
        """The logical databases that hold keys: by number, how many have no time to live."""
        found = _FILLED.findall(self.call("INFO", "keyspace"))
        return {int(number): int(keys) - int(expiring) for number, keys, expiring in found}

    def flush(self, numbers: Sequence[int]) -> None:
        """Empty logical databases."""
        for number in numbers:
            self.call("SELECT", number)
            # The memory is given back by another thread: large ones would hold up all clients.
            self.call("FLUSHDB", "ASYNC")

    def copy(self, source: int, target: int) -> None:
        """Copy all keys, with their times to live."""
        cursor: bytes | int = 0
        while True:
            self.call("SELECT", source)
            cursor, found = self.call("SCAN", cursor, "COUNT", _BATCH)
            keys = [key for key in found if not key.startswith(_MARK)]
            packed = [self._connection.pack_command("COPY", key, key, "DB", target, "REPLACE") for key in keys]
            if packed:
                self._connection.send_packed_command([part for command in packed for part in command])
            answers = [self._connection.read_response() for _ in packed]
            assert len(answers) == len(keys)
            if int(cursor) == 0:
                return


def _connection(service: Redis) -> Connection:
    from redis import connection
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    kind: Any = connection.Connection
    return kind(
        host=service.host,
        port=service.port,
        password=service.password or None,
        protocol=2,
        socket_connect_timeout=_TIMEOUT,
        socket_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def _words(number: int, found: int, expected: int) -> str:
    return f"logical database {number} has {found} keys without a time to live instead of {expected}"


def _is_over(connection: Connection) -> bool:
    """Whether the server has ended the connection, as after a restart. Nothing else comes without being asked for."""
    from redis.exceptions import ConnectionError as Broken

    try:
        return bool(connection.can_read(0))
    except Broken:
        return True
