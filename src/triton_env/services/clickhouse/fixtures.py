"""The fixtures of ClickHouse in the pytest plugin."""

from typing import TYPE_CHECKING

from triton_env.services.base_fixtures import Fixtures

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient

    from triton_env.services import ClickHouse


async def _connect(service: "ClickHouse") -> "AsyncClient":
    return await service.aclient()


FIXTURES = Fixtures(
    words="ClickHouse with a database for this test alone.",
    kind="ClickHouse",
    client_words="An asynchronous client of this test's database (clickhouse-connect), closed after it.",
    client_kind="AsyncClient",
    connect=_connect,
)
