"""Redis as it is on the wire: commands in pipelines, replies as the server sent them."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from triton_env.services import Redis
from triton_env.services.names import RESTORE
from triton_env.services.redis.names import RESTORE_KEY

if TYPE_CHECKING:
    import redis

Command = tuple[Any, ...]

KEY = RESTORE_KEY
_SAYS = re.compile(RESTORE.encode() + rb"[0-9a-f]{8} (new|old) [0-9]+")
_PATIENCE = 5
"""Seconds for an answer that can be done without."""
KEYS = 1000
"""Keys, and elements of a collection, that are asked for at once."""


class Connection:
    """One logical database. Use it in a `with` block.

    Args:
        name: by which others find the connection; empty for none.
        timeout: seconds to connect, and for one answer.
    """

    def __init__(self, service: Redis, number: int, name: str = "", timeout: float = 600) -> None:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # No second try of its own: it would write things twice. And no decoding of any kind: scores and ids stay what
        # they are.
        retry = Retry(NoBackoff(), 0)
        self._client: redis.Redis = service.client(
            db=number,
            protocol=2,
            decode_responses=False,
            retry=retry,
            socket_timeout=timeout,
            client_name=name or None,
        )
        self._client.response_callbacks.clear()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._client.close()

    def ask(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def ask_all(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands together and return their replies."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        replies: list[Any] = pipeline.execute()
        return replies

    def try_all(self, commands: Iterable[Command]) -> list[Any]:
        """As `ask_all`; a command that the server refuses has None as its reply, as one about a missing key has."""
        from redis.exceptions import ResponseError

        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        replies = pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return [None if isinstance(reply, Exception) else reply for reply in replies]

    def at_once(self, commands: Iterable[Command]) -> None:
        """Send commands as one transaction: no client sees a state in between."""
        pipeline = self._client.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        pipeline.execute()

    def raw(self) -> Any:
        """A further connection, which is not connected yet, and is the caller's to close."""
        return self._client.connection_pool.make_connection()

    def knows(self, command: str) -> bool:
        """Whether the server has this command."""
        (about,) = self.ask("COMMAND", "INFO", command)
        return bool(about)

    def scan(self, command: str, *key: bytes, count: int = KEYS) -> Iterator[list[bytes]]:
        """What SCAN, HSCAN, SSCAN or ZSCAN finds, about `count` keys or elements at a time."""
        cursor = b"0"
        while True:
            cursor, found = self.ask(command, *key, cursor, "COUNT", count)
            if found:
                yield found
            if cursor == b"0":
                return


def databases(service: Redis) -> int:
    """How many logical databases the server has."""
    with Connection(service, 0) as connection:
        return int(connection.ask("CONFIG", "GET", "databases")[1])


def is_single(service: Redis) -> bool:
    """Whether the server has one logical database; not where it does not say so at once."""
    from redis.exceptions import RedisError

    try:
        with Connection(service, 0, timeout=_PATIENCE) as connection:
            return int(connection.ask("CONFIG", "GET", "databases")[1]) == 1
    except (RedisError, OSError):
        return False  # what asks it next says why


def is_staged(service: Redis, number: int) -> bool:
    """Whether a restore uses a logical database: what it loads is there, or what it keeps until it is finished."""
    with Connection(service, number) as connection:
        # An application may have a key of that name for something else.
        return connection.ask("TYPE", KEY) == b"string" and bool(_SAYS.fullmatch(connection.ask("GET", KEY) or b""))


def used_databases(service: Redis) -> list[int]:
    """The numbers of the logical databases that hold keys."""
    with Connection(service, 0) as connection:
        lines = connection.ask("INFO", "keyspace").decode().split()
    return sorted(int(line.partition(":")[0].removeprefix("db")) for line in lines if line.startswith("db"))


def functions(connection: Connection) -> list[bytes]:
    """The code of each library of functions; none where the server knows no functions."""
    if not connection.knows("FUNCTION"):
        return []
    libraries = [
        dict(zip(fields[::2], fields[1::2], strict=True)) for fields in connection.ask("FUNCTION", "LIST", "WITHCODE")
    ]
    return [library[b"library_code"] for library in libraries]
