"""Redis: a space is a logical database. Keys are copied inside the server, by COPY.

Channels of pub/sub, functions and users are the server's: spaces share them.
"""

import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from triton_env.isolation.base import SNAPSHOT, Isolation, Space
from triton_env.isolation.ours import OWN_NUMBERS
from triton_env.services import Redis

Connection = Any
"""`redis.connection.Connection`, whose methods say nothing about types."""

_BATCH = 500
"""Keys that are copied in one exchange."""
_TIMEOUT = 60
"""Seconds for one answer."""
_FILLED = re.compile(rb"^db(\d+):", re.MULTILINE)


class RedisIsolation(Isolation[Redis]):
    """Spaces in a Redis server, 6.2 or later: COPY is new there. https://redis.io/docs/latest/commands/copy/

    A snapshot takes as many logical databases as the environment itself has, one after the other; any other space
    takes one.
    """

    name = "redis"

    def __init__(self, service: Redis) -> None:
        super().__init__(service)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._databases = 0

    def numbers(self, identifier: str) -> tuple[range, int]:
        """The logical databases to choose from for a space of that id, and how many it takes."""
        own = self._own()
        return range(own.stop, self._databases), len(own) if identifier.startswith(SNAPSHOT) else 1

    def filled(self) -> frozenset[int]:
        """The numbers of the logical databases that hold keys."""
        with self._exchange() as exchange:
            return exchange.filled()

    def bound(self, space: Space) -> Redis:
        return self._service if space.is_own else self._service.in_database(space.number, channel_prefix=f"{space.id}:")

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        self.replace(space, source)

    def drop(self, space: Space) -> None:
        self.replace(space, None)

    def replace(self, space: Space, source: Space | None) -> None:
        numbers = self._numbers_of(space)
        # Of a snapshot, a namespace gets what was in the first: it has no more.
        pairs = list(zip(self._numbers_of(source), numbers, strict=False)) if source else []
        with self._exchange() as exchange:
            filled = exchange.filled() if pairs else frozenset()
            exchange.flush(numbers)
            for origin, number in pairs:
                if origin in filled:
                    exchange.copy(origin, number)

    def is_empty(self, space: Space) -> bool:
        return self.filled().isdisjoint(self._numbers_of(space))

    def clear(self, kept: Collection[Space]) -> None:
        from redis.exceptions import ResponseError

        # A space of other services has no number.
        spared = {number for space in kept if space.number for number in self._numbers_of(space)}
        with self._exchange() as exchange:
            exchange.flush(sorted(exchange.filled() - spared))
            exchange.call("SCRIPT", "FLUSH")
            with suppress(ResponseError):  # before 7.0 there are none
                exchange.call("FUNCTION", "FLUSH")
            users = [name for name in exchange.call("ACL", "USERS") if name != b"default"]
            if users:
                exchange.call("ACL", "DELUSER", *users)

    def found(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.disconnect()

    def _own(self) -> range:
        if not self._databases:
            with self._exchange() as exchange:
                self._databases = int(exchange.call("CONFIG", "GET", "databases")[1])
        return OWN_NUMBERS if self._databases > len(OWN_NUMBERS) else range(1)

    def _numbers_of(self, space: Space) -> range:
        if space.is_own:
            return self._own()
        assert space.number, f"{space.id} has no logical database, and number 0 is the environment's"
        count = len(self._own()) if space.id.startswith(SNAPSHOT) else 1
        return range(space.number, space.number + count)

    @contextmanager
    def _exchange(self) -> Iterator["_Exchange"]:
        with self._lock:
            if self._connection is None:
                self._connection = _connection(self._service)
            elif _is_over(self._connection):
                self._connection.disconnect()  # it connects again by itself
            try:
                yield _Exchange(self._connection)
            except BaseException:
                # An answer may be on its way that nobody waits for.
                self._connection.disconnect()
                raise


class _Exchange:
    """Commands and answers on one connection, without a client's retries.

    A client that connects again would be in logical database 0, and what was meant for another would hit that one. A
    pipeline would go on after a SELECT that failed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def call(self, *command: Any) -> Any:
        """The answer to one command."""
        self._connection.send_command(*command)
        return self._connection.read_response()

    def filled(self) -> frozenset[int]:
        """The numbers of the logical databases that hold keys."""
        return frozenset(int(number) for number in _FILLED.findall(self.call("INFO", "keyspace")))

    def flush(self, numbers: Sequence[int]) -> None:
        """Empty logical databases."""
        for number in numbers:
            self.call("SELECT", number)
            # The memory is given back by another thread: large ones would hold up everybody.
            self.call("FLUSHDB", "ASYNC")

    def copy(self, source: int, target: int) -> None:
        """Copy all keys, with their times to live."""
        cursor: bytes | int = 0
        while True:
            self.call("SELECT", source)
            cursor, keys = self.call("SCAN", cursor, "COUNT", _BATCH)
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
        client_name="triton-env",
        socket_connect_timeout=_TIMEOUT,
        socket_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def _is_over(connection: Connection) -> bool:
    """Whether the server has ended the connection, as after a restart. Nothing else comes without being asked for."""
    from redis.exceptions import ConnectionError as Broken

    try:
        return bool(connection.can_read(0))
    except Broken:
        return True
