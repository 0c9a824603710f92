"""The fixtures of ClickHouse in the pytest plugin."""

from operator import methodcaller

from triton_env.services.base_fixtures import Fixtures

FIXTURES = Fixtures(
    words="ClickHouse with a database for this test alone.",
    kind="ClickHouse",
    client_words="An asynchronous client of this test's database (clickhouse-connect), closed after it.",
    client_kind="AsyncClient",
    connect=methodcaller("aclient"),
)
