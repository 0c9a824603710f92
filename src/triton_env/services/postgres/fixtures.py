"""The fixtures of PostgreSQL in the pytest plugin."""

from operator import methodcaller

from triton_env.services.base_fixtures import Fixtures

FIXTURES = Fixtures(
    words="PostgreSQL with a database for this test alone.",
    kind="Postgres",
    client_words="An asynchronous connection to this test's database (psycopg), closed after it.",
    client_kind="AsyncConnection[Any]",
    connect=methodcaller("aconnect"),
)
