"""The fixtures of Redis in the pytest plugin."""

from typing import TYPE_CHECKING

from triton_env.services.base_fixtures import Fixtures

if TYPE_CHECKING:
    import redis.asyncio

    from triton_env.services import Redis


async def _connect(service: "Redis") -> "redis.asyncio.Redis":
    client = service.aclient()
    try:
        await client.initialize()
    except BaseException:
        await client.aclose()
        raise
    return client


FIXTURES = Fixtures(
    words="Redis with a logical database for this test alone.",
    kind="Redis",
    client_words="An asynchronous client of this test's logical database (redis-py), closed after it.",
    client_kind="Redis",
    connect=_connect,
)
