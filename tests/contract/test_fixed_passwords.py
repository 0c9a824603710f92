"""Sessions with the passwords of the settings, which are asked for: for applications that cannot take others."""

from collections.abc import Iterator

import psycopg
import pytest
import redis
import sqlalchemy
from clickhouse_connect.driver.exceptions import DatabaseError

from triton_env import Settings, TritonEnvironment
from triton_env.errors import InvalidSetting
from triton_env.sharing.key import key_of

FIXED = {
    "triton_passwords": "fixed",
    "postgres_user": "app",
    "postgres_password": "a@b/c%d",
    "clickhouse_user": "app",
    "clickhouse_password": "clicks",
}


# Containers with fixed passwords are also those of all persistent services.
@pytest.fixture(
    scope="module",
    params=[pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.long]), pytest.param("embedded")],
)
def fixed(request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
    with TritonEnvironment(Settings(**FIXED), runtime=request.param) as env:
        yield env


def test_users_and_passwords_are_those_of_the_settings(fixed: TritonEnvironment) -> None:
    assert (fixed.postgres.user, fixed.postgres.password) == ("app", "a@b/c%d")
    with fixed.postgres.connect() as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        fixed.postgres.connect(password="wrong")
    with fixed.clickhouse.client() as client:
        assert client.command("select 1") == 1
    assert (fixed.clickhouse.user, fixed.clickhouse.password) == ("app", "clicks")
    with pytest.raises(DatabaseError, match="AUTHENTICATION_FAILED"):
        fixed.clickhouse.client(password="wrong")
    assert fixed.s3.access_key == "test"
    assert fixed.s3.client().list_buckets()["Buckets"]


def test_redis_has_no_password_where_none_is_set(fixed: TritonEnvironment) -> None:
    assert fixed.redis.url == f"redis://127.0.0.1:{fixed.redis.port}/0"
    assert redis.Redis(port=fixed.redis.port).ping()
    with fixed.namespace() as namespace:
        assert redis.Redis.from_url(namespace.redis.url).set("key", 1)
        assert not fixed.redis.client().exists("key")


@pytest.mark.filterwarnings("ignore:The 'clickhouse.//' URL remains registered:UserWarning")
def test_urls_for_drivers_lead_there(fixed: TritonEnvironment) -> None:
    urls = [fixed.postgres.url_for("psycopg"), fixed.clickhouse.url_for("connect"), fixed.clickhouse.url_for("http")]
    for url in urls:
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("select 42")).scalar() == 42
        engine.dispose()


@pytest.mark.docker
class TestPortsThatOthersReach:
    @pytest.mark.parametrize("service", ["postgres", "clickhouse", "redis"])
    def test_a_password_that_everybody_knows_is_refused(self, service: str) -> None:
        settings = Settings(triton_passwords="fixed", triton_bind_address="0.0.0.0")
        with pytest.raises(InvalidSetting, match=f"{service.upper()}_PASSWORD is empty or the default"):
            TritonEnvironment(settings, services=(service,)).start()

    def test_one_of_ones_own_is_not(self) -> None:
        settings = Settings(triton_passwords="fixed", triton_bind_address="0.0.0.0", redis_password="mine")
        with TritonEnvironment(settings, services=("redis",)) as env:
            assert env.redis.password == "mine"


def test_shared_environments_are_kept_apart_by_fixed_passwords_alone() -> None:
    def key(**values: str) -> str:
        return key_of(Settings(**values), ("redis",), "embedded")

    assert key(redis_password="a") == key(redis_password="b")
    assert key(redis_password="a", triton_passwords="fixed") != key(redis_password="b", triton_passwords="fixed")
    assert key(triton_variables="A={redis.url}") == key()
