"""Clients of one logical database: what empties all of the server empties that database alone."""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.client
import redis.client

# The same in all four: pipelines are made by their clients, and are clients themselves.


def _confined(command: tuple[Any, ...]) -> tuple[Any, ...]:
    name = command[0]
    name = name.decode() if isinstance(name, bytes) else name
    return ("FLUSHDB", *command[1:]) if isinstance(name, str) and name.upper() == "FLUSHALL" else command


class ConfinedPipeline(redis.client.Pipeline):
    """A pipeline of `ConfinedRedis`."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """See `redis.Redis.execute_command`."""
        return super().execute_command(*_confined(args), **kwargs)  # type: ignore[no-untyped-call]


class ConfinedRedis(redis.Redis):
    """A client whose FLUSHALL is a FLUSHDB, for suites that call it before or after each test."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `redis.Redis.execute_command`."""
        return super().execute_command(*_confined(args), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ConfinedPipeline:
        """See `redis.Redis.pipeline`."""
        return ConfinedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class AsyncConfinedPipeline(redis.asyncio.client.Pipeline):
    """A pipeline of `AsyncConfinedRedis`."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """See `redis.asyncio.Redis.execute_command`."""
        return super().execute_command(*_confined(args), **kwargs)


class AsyncConfinedRedis(redis.asyncio.Redis):
    """See `ConfinedRedis`."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `redis.asyncio.Redis.execute_command`."""
        return await super().execute_command(*_confined(args), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> AsyncConfinedPipeline:
        """See `redis.asyncio.Redis.pipeline`."""
        return AsyncConfinedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
