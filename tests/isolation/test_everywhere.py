"""Namespaces, templates, snapshots and reset of all services: the same on every runtime."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from contents import CONTENTS, fill, look
from contents import everywhere as all_hold
from triton_env import TritonEnvironment
from triton_env.errors import ServiceNotSelected
from triton_env.testing import Contents, IsolationContract

# Starts of all services, and work on them, take their time on a busy machine.
pytestmark = [pytest.mark.timeout(300), pytest.mark.long_on("persistent")]


@pytest.fixture
def env(everywhere: TritonEnvironment) -> TritonEnvironment:
    return everywhere


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return CONTENTS


class TestIsolation(IsolationContract):
    """The contract of all services."""

    @pytest.mark.long_on
    def test_servers_of_ours_have_numbers_beyond_those_that_applications_use(self, env: TritonEnvironment) -> None:
        with env.namespace() as one, env.namespace() as other:
            assert min(one.redis.database, other.redis.database) >= 16


@pytest.mark.long_on
def test_its_variables_lead_into_it(env: TritonEnvironment) -> None:
    import psycopg
    import redis

    with env.namespace() as namespace:
        fill(namespace, "mine")
        variables = namespace.environ()
        assert set(variables) == set(env.environ())
        with psycopg.connect(variables["DATABASE_URL"]) as connection:
            assert connection.execute("select word from words").fetchone() == ("mine",)
        with redis.Redis.from_url(variables["REDIS_URL"], decode_responses=True) as client:
            assert client.get("word") == "mine"
        assert variables["POSTGRES_DB"] == variables.get("CLICKHOUSE_DB", namespace.id) == namespace.id


@pytest.mark.long_on("docker", "persistent")
def test_the_files_of_a_template_are_kept_as_they_are(env: TritonEnvironment, tmp_path: Path) -> None:
    for name, text in {
        "postgres/1.sql": "create table a (id int primary key);",
        "postgres/2/data.sql": "insert into a values (1); insert into a values (2);",
        "clickhouse/all.sql": "create table a (t String) engine Memory; -- ';' and ;\ninsert into a values ('x;y')",
        "s3/claims/2026.json": "{}",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with env.namespace(template=tmp_path) as namespace:
        with namespace.postgres.connect() as connection:
            assert connection.execute("select count(*) from a").fetchone() == (2,)
        if "clickhouse" in namespace.services:
            client = namespace.clickhouse.client()
            assert client.query("select t from a").result_rows == [("x;y",)]
            client.close()
        if "s3" in namespace.services:
            s3 = namespace.s3.client()
            found = s3.get_object(Bucket=namespace.s3.bucket, Key="claims/2026.json")
            assert (found["Body"].read(), found["ContentType"]) == (b"{}", "application/json")
            s3.close()


def test_with_some_services_only(env: TritonEnvironment) -> None:
    with env.namespace(services=("redis", "postgres")) as namespace:
        assert namespace.services == ("postgres", "redis")
        with pytest.raises(ServiceNotSelected):
            _ = namespace.s3
        assert "S3_BUCKET" not in namespace.environ()


@pytest.mark.long_on("docker", "persistent")
def test_eight_threads_get_eight(env: TritonEnvironment) -> None:
    found: list[str | None] = []

    def work(word: str) -> None:
        with env.namespace(services=("postgres", "redis")) as namespace:
            fill(namespace, word)
            found.append(word if look(namespace) == all_hold(namespace, word) else None)

    threads = [threading.Thread(target=work, args=(f"word {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(word or "" for word in found) == [f"word {n}" for n in range(8)]
