"""The fixtures of PostgreSQL in the pytest plugin."""

from typing import TYPE_CHECKING, Any

from triton_env.services.base_fixtures import Fixtures

if TYPE_CHECKING:
    import psycopg

    from triton_env.services import Postgres


async def _connect(service: "Postgres") -> "psycopg.AsyncConnection[Any]":
    return await service.aconnect()


FIXTURES = Fixtures(
    words="PostgreSQL with a database for this test alone.",
    kind="Postgres",
    client_words="An asynchronous connection to this test's database (psycopg), closed after it.",
    client_kind="AsyncConnection[Any]",
    connect=_connect,
)
