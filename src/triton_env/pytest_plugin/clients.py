"""The fixtures for asynchronous tests: connected clients, made and closed in the loop of the test.

pytest-asyncio and anyio run asynchronous fixtures each in its own way, both may be installed, and neither has to be. So
each public fixture is a synchronous one, which asks for the private one that fits its test: made by pytest-asyncio for
the loop of that test, or an ordinary one that anyio takes over.
"""

from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import SCOPES, SERVICES

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient
    from psycopg import AsyncConnection
    from redis.asyncio import Redis

    from triton_env.services.s3.service import AsyncS3


async def _postgres(service: Any) -> "AsyncConnection[Any]":
    connection: AsyncConnection[Any] = await service.aconnect()
    return connection


async def _clickhouse(service: Any) -> "AsyncClient":
    client: AsyncClient = await service.aclient()
    return client


async def _redis(service: Any) -> "Redis":
    client: Redis = service.aclient()
    try:
        await client.initialize()
    except BaseException:
        await client.aclose()
        raise
    return client


async def _s3(service: Any) -> "AsyncS3":
    import asyncio

    client: AsyncS3 = await asyncio.to_thread(service.aclient)
    return client


_OPEN: dict[str, Callable[[Any], Any]] = {
    "postgres": _postgres,
    "clickhouse": _clickhouse,
    "redis": _redis,
    "s3": _s3,
}


@pytest.fixture
def triton_postgres_async(request: pytest.FixtureRequest, triton_postgres: Any) -> "AsyncConnection[Any]":
    """An asynchronous connection to this test's database (psycopg), closed after it."""
    return _client(request, "postgres")  # type: ignore[no-any-return]


@pytest.fixture
def triton_clickhouse_async(request: pytest.FixtureRequest, triton_clickhouse: Any) -> "AsyncClient":
    """An asynchronous client of this test's database (clickhouse-connect), closed after it."""
    return _client(request, "clickhouse")  # type: ignore[no-any-return]


@pytest.fixture
def triton_redis_async(request: pytest.FixtureRequest, triton_redis: Any) -> "Redis":
    """An asynchronous client of this test's logical database (redis-py), closed after it."""
    return _client(request, "redis")  # type: ignore[no-any-return]


@pytest.fixture
def triton_s3_async(request: pytest.FixtureRequest, triton_s3: Any) -> "AsyncS3":
    """The methods of a boto3 client as coroutines, closed after this test."""
    return _client(request, "s3")  # type: ignore[no-any-return]


def _client(request: pytest.FixtureRequest, service: str) -> Any:
    plugins = request.config.pluginmanager
    # anyio goes by this too.
    if "anyio_backend" in request.fixturenames and plugins.has_plugin("anyio"):
        return request.getfixturevalue(f"_triton_{service}_anyio")
    if plugins.has_plugin("asyncio"):
        return request.getfixturevalue(f"_triton_{service}_asyncio_{_loop_scope(request)}")
    # Not for every run of pytest.

    from triton_env.core.commands import runnable

    pytest.fail(
        f"triton-env: {request.fixturename} needs pytest-asyncio, or anyio and a test that anyio runs"
        f" (@pytest.mark.anyio)\n\nhint: {runnable('pip install pytest-asyncio')}",
        pytrace=False,
    )


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """How long the loop lives in which pytest-asyncio runs this test."""
    mark = request.node.get_closest_marker("asyncio")
    if mark is None:
        return "function"
    scope = mark.kwargs.get("loop_scope") or mark.kwargs.get("scope")
    if scope is None:
        try:
            scope = request.config.getini("asyncio_default_test_loop_scope")
        except ValueError:  # before 0.26 there is no such option
            scope = "function"
    return str(scope)


def fixtures_for(plugins: pytest.PytestPluginManager) -> ModuleType:
    """A plugin with the private fixtures for those asynchronous plugins that are loaded."""
    module = ModuleType(f"{__name__}.private")
    asyncio_plugin = plugins.get_plugin("asyncio")
    for service in SERVICES:
        if asyncio_plugin is not None:
            for scope in SCOPES:
                name = f"_triton_{service}_asyncio_{scope}"
                # Through the plugin, not by an import: the name may be taken by another distribution.
                setattr(module, name, asyncio_plugin.fixture(loop_scope=scope, name=name)(_fixture_of(service)))
        name = f"_triton_{service}_anyio"
        setattr(module, name, pytest.fixture(name=name)(_fixture_of(service)))
    return module


def _fixture_of(service: str) -> Callable[..., AsyncIterator[Any]]:
    async def connected(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pytest.fail(
                "triton-env: the asynchronous clients need asyncio; this test runs on another backend of anyio"
                "\n\nhint: @pytest.fixture\ndef anyio_backend(): return 'asyncio'",
                pytrace=False,
            )
        client = await _OPEN[service](request.getfixturevalue(f"triton_{service}"))
        try:
            yield client
        finally:
            await getattr(client, "aclose", client.close)()

    return connected
