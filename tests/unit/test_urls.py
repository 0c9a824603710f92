"""URLs with any password are read back right, by Python and by the drivers."""

from urllib.parse import unquote, urlsplit

import psycopg.conninfo
import pytest
import redis.connection
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triton_env import ClickHouse, Postgres, Redis, Settings
from triton_env.core.model import Endpoint, Placement
from triton_env.core.setting_types import SecretStr
from triton_env.errors import NoSharedNetwork

# No server takes control characters or lone surrogates in a password.
passwords = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
hosts = st.sampled_from(["127.0.0.1", "localhost", "::1", "docker.example"])


def hard_ones(test: object) -> object:
    for password in ("@:/%#", "p@ss:w/rd?#[x]&=+ %25", "ä€😀", "'\"\\$`"):
        test = example(password=password, host="127.0.0.1")(test)  # type: ignore[type-var]
    return test


@hard_ones  # type: ignore[misc]
@settings(database=None)
@given(password=passwords, host=hosts)
def test_postgres(password: str, host: str) -> None:
    service = Postgres(Settings(postgres_password=SecretStr(password)), Placement({"postgres": Endpoint(host, 1234)}))
    parts = urlsplit(service.url)
    assert unquote(parts.password or "") == password
    assert (parts.hostname, parts.port, parts.username, parts.path) == (host, 1234, "triton_user", "/triton")
    assert psycopg.conninfo.conninfo_to_dict(service.url) == {
        "user": "triton_user",
        "password": password,
        "host": host,
        "port": "1234",
        "dbname": "triton",
    }


@hard_ones  # type: ignore[misc]
@settings(database=None)
@given(password=passwords, host=hosts)
def test_redis(password: str, host: str) -> None:
    service = Redis(Settings(redis_password=SecretStr(password)), Placement({"redis": Endpoint(host, 1234)}))
    assert unquote(urlsplit(service.url).password or "") == password
    assert redis.connection.parse_url(service.url) == {"password": password, "host": host, "port": 1234, "db": 0}


@hard_ones  # type: ignore[misc]
@settings(database=None)
@given(password=passwords, host=hosts)
def test_clickhouse(password: str, host: str) -> None:
    service = ClickHouse(Settings(clickhouse_password=SecretStr(password)), Placement({"http": Endpoint(host, 1234)}))
    parts = urlsplit(service.url)
    assert unquote(parts.password or "") == password
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("http", host, 1234, "/triton")


def test_redis_without_a_password() -> None:
    service = Redis(Settings(), Placement({"redis": Endpoint("localhost", 6379)}))
    assert service.url == Settings().redis_url.get_secret_value()


def test_the_default_settings_make_the_default_urls() -> None:
    service = Postgres(Settings(), Placement({"postgres": Endpoint("localhost", 5432)}))
    assert service.url == Settings().database_url.get_secret_value()


def test_without_a_network_there_are_no_internal_addresses() -> None:
    service = ClickHouse(Settings(), Placement({"http": Endpoint("127.0.0.1", 1234)}))
    assert service.internal_url is None
    assert service.native_port is None
    assert "CLICKHOUSE_PORT" not in service.environ()
    with pytest.raises(NoSharedNetwork, match="no address on a shared network"):
        service.environ(internal=True)
