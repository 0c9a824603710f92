"""What our Redis clients do beyond those of redis-py.

In a namespace, what empties all of the server empties the logical database alone. And where a server has died, a client
that cannot connect says so at once, rather than after seconds of tries.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.connection
import redis.client
import redis.connection

from triton_env.errors import ServiceDied

Died = Callable[[], ServiceDied | None]


class _Confined:
    """A client whose FLUSHALL is a FLUSHDB, for suites that call it before or after each test."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `redis.Redis.execute_command`; of an asynchronous client what is to be awaited."""
        name = args[0].decode() if isinstance(args[0], bytes) else args[0]
        if isinstance(name, str) and name.upper() == "FLUSHALL":
            args = ("FLUSHDB", *args[1:])
        return super().execute_command(*args, **options)  # type: ignore[misc]


class ConfinedPipeline(_Confined, redis.client.Pipeline):
    """A pipeline of `ConfinedRedis`."""


class ConfinedRedis(_Confined, redis.Redis):
    """See `_Confined`. Pipelines are made by their clients, and are clients themselves."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ConfinedPipeline:
        """See `redis.Redis.pipeline`."""
        return ConfinedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class AsyncConfinedPipeline(_Confined, redis.asyncio.client.Pipeline):  # type: ignore[misc] # within redis-py
    """A pipeline of `AsyncConfinedRedis`."""


class AsyncConfinedRedis(_Confined, redis.asyncio.Redis):  # type: ignore[misc] # within redis-py
    """See `ConfinedRedis`."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> AsyncConfinedPipeline:
        """See `redis.asyncio.Redis.pipeline`."""
        return AsyncConfinedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def watched(client: redis.Redis, died: Died) -> redis.Redis:
    """Have a client ask, where it cannot connect, whether the server has died; returns it."""
    pool = client.connection_pool
    if pool.connection_class is redis.connection.Connection:  # not one of the caller's own
        pool.connection_class = type("Connection", (_Connection,), {"_died": staticmethod(died)})
    return client


def async_watched(client: redis.asyncio.Redis, died: Died) -> redis.asyncio.Redis:
    """See `watched`."""
    pool = client.connection_pool
    if pool.connection_class is redis.asyncio.connection.Connection:
        pool.connection_class = type("Connection", (_AsyncConnection,), {"_died": staticmethod(died)})
    return client


class _Connection(redis.connection.Connection):
    _died: Died

    def _connect(self) -> Any:
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except OSError as error:
            if died := self._died():
                raise _final(self, died, error) from error
            raise


class _AsyncConnection(redis.asyncio.connection.Connection):
    _died: Died

    async def connect(self) -> None:
        with _unwrapped():
            await super().connect()  # type: ignore[no-untyped-call]

    # Called by `connect`, and by what sends a command on a lost connection. redis-py 5.2 does not have it.
    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        with _unwrapped():
            await super().connect_check_health(*args, **kwargs)

    async def _connect(self) -> None:
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except OSError as error:
            if died := self._died():
                raise _final(self, died, error) from error
            raise


def _final(connection: Any, died: ServiceDied, error: OSError) -> ServiceDied:
    """The error of a connection that is not tried again, which would take seconds."""
    connection.retry.update_retries(0)
    return died.beside(redis.ConnectionError(str(error)))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Take our error out of the one that redis-py makes of it."""
    try:
        yield
    except redis.ConnectionError as error:
        if isinstance(error.__cause__, ServiceDied):
            raise error.__cause__ from error.__cause__.__cause__
        raise
