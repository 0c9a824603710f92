"""Namespaces, templates, snapshots and reset of all services: the same on every runtime."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isolation import contents
from triton_env import Namespace, TritonEnvironment
from triton_env.errors import ServiceNotSelected, UsageError
from triton_env.services.base_isolation import SNAPSHOT

# Starts of all services, and work on them, take their time on a busy machine.
pytestmark = pytest.mark.timeout(300)


def is_lasting(env: TritonEnvironment) -> bool:
    return env.settings.triton_namespaces == "everywhere"


@pytest.fixture(autouse=True)
def cleared(request: pytest.FixtureRequest) -> Iterator[None]:
    """The environment's own is empty after each test."""
    yield
    env: TritonEnvironment = request.getfixturevalue("everywhere")
    if not is_lasting(env):
        env.reset()


def test_what_one_writes_no_other_sees(everywhere: TritonEnvironment) -> None:
    with everywhere.namespace() as one, everywhere.namespace() as other:
        assert one.services == other.services == everywhere.services
        # Servers of ours have numbers beyond those that applications use.
        assert min(one.redis.database, other.redis.database) >= 16
        contents.fill(one, "one")
        assert contents.look(other) == contents.everywhere(other, None)
        contents.fill(other, "other")
        assert contents.look(one) == contents.everywhere(one, "one")
        assert contents.look(everywhere) == contents.everywhere(everywhere, None)


def test_its_variables_lead_into_it(everywhere: TritonEnvironment) -> None:
    import psycopg
    import redis

    with everywhere.namespace() as namespace:
        contents.fill(namespace, "mine")
        variables = namespace.environ()
        assert set(variables) == set(everywhere.environ())
        with psycopg.connect(variables["DATABASE_URL"]) as connection:
            assert connection.execute("select word from words").fetchone() == ("mine",)
        with redis.Redis.from_url(variables["REDIS_URL"], decode_responses=True) as client:
            assert client.get("word") == "mine"
        assert variables["POSTGRES_DB"] == variables.get("CLICKHOUSE_DB", namespace.id) == namespace.id


def test_it_starts_with_its_template_and_goes_back_to_it(everywhere: TritonEnvironment) -> None:
    built = []

    def build(namespace: Namespace) -> None:
        built.append(namespace.id)
        contents.fill(namespace, "template")

    with everywhere.namespace(template=build) as one, everywhere.namespace(template=build) as other:
        assert len(built) == 1
        assert contents.look(one) == contents.everywhere(one, "template")
        contents.fill(one, "changed")
        assert contents.look(other) == contents.everywhere(other, "template")
        one.reset()
        assert contents.look(one) == contents.everywhere(one, "template")


def test_a_template_from_a_folder(everywhere: TritonEnvironment, tmp_path: Path) -> None:
    for name, text in {
        "postgres/1.sql": "create table a (id int primary key);",
        "postgres/2/data.sql": "insert into a values (1); insert into a values (2);",
        "clickhouse/all.sql": "create table a (t String) engine Memory; -- ';' and ;\ninsert into a values ('x;y')",
        "s3/claims/2026.json": "{}",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with everywhere.namespace(template=tmp_path) as namespace:
        with namespace.postgres.connect() as connection:
            assert connection.execute("select count(*) from a").fetchone() == (2,)
        if "clickhouse" in namespace.services:
            client = namespace.clickhouse.client()
            assert client.query("select t from a").result_rows == [("x;y",)]
            client.close()
        s3 = namespace.s3.client()
        found = s3.get_object(Bucket=namespace.s3.bucket, Key="claims/2026.json")
        assert (found["Body"].read(), found["ContentType"]) == (b"{}", "application/json")
        s3.close()


def test_a_snapshot_is_a_template(everywhere: TritonEnvironment) -> None:
    contents.fill(everywhere, "seeded")
    everywhere.snapshot("seeded")
    contents.fill(everywhere, "later")
    with everywhere.namespace(template="seeded") as namespace:
        assert contents.look(namespace) == contents.everywhere(namespace, "seeded")
        contents.fill(namespace, "mine")
        assert contents.look(everywhere) == contents.everywhere(everywhere, "later")
        if is_lasting(everywhere):
            everywhere.delete_snapshot("seeded")
            contents.remove(everywhere)  # by hand: there is no reset here
            return
        everywhere.restore("seeded")
        assert contents.look(everywhere) == contents.everywhere(everywhere, "seeded")
        assert contents.look(namespace) == contents.everywhere(namespace, "mine")


def test_a_deleted_snapshot_leaves_nothing(everywhere: TritonEnvironment) -> None:
    isolator = everywhere._isolation()._open()

    def found() -> set[str]:
        names = [name for name in everywhere.services if name != "redis"]
        answers = isolator.spaces.each(names, lambda each: each.found(), "say what it has")
        on_servers = {name for answer in answers.values() for name in answer if name.startswith(SNAPSHOT)}
        owners = {path.name for path in (isolator.ledger.path / "slots" / "redis").iterdir()}
        return on_servers | {name for name in owners if name.startswith(SNAPSHOT)}

    before = found()
    contents.fill(everywhere, "short")
    everywhere.snapshot("short")
    assert "short" in everywhere.snapshots()
    assert len(found() - before) == 1
    with everywhere.namespace(template="short") as namespace:
        everywhere.delete_snapshot("short")
        assert contents.look(namespace) == contents.everywhere(namespace, "short")
    assert found() == before
    assert "short" not in everywhere.snapshots()
    with pytest.raises(UsageError, match="no snapshot 'short'"):
        everywhere.delete_snapshot("short")
    if is_lasting(everywhere):
        contents.remove(everywhere)


def test_reset_leaves_what_is_not_the_environments_own(everywhere: TritonEnvironment) -> None:
    if is_lasting(everywhere):
        with pytest.raises(UsageError, match="hold your data"):
            everywhere.reset()
        with pytest.raises(UsageError, match="hold your data"):
            everywhere.restore("any")
        return
    contents.fill(everywhere, "own")
    everywhere.snapshot("kept")
    with everywhere.namespace() as namespace:
        contents.fill(namespace, "mine")
        everywhere.reset()
        assert contents.look(everywhere) == contents.everywhere(everywhere, None)
        assert contents.look(namespace) == contents.everywhere(namespace, "mine")
        everywhere.restore("kept")
        assert contents.look(everywhere) == contents.everywhere(everywhere, "own")


def test_with_some_services_only(everywhere: TritonEnvironment) -> None:
    with everywhere.namespace(services=("redis", "postgres")) as namespace:
        assert namespace.services == ("postgres", "redis")
        with pytest.raises(ServiceNotSelected):
            _ = namespace.s3
        assert "S3_BUCKET" not in namespace.environ()


def test_eight_threads_get_eight(everywhere: TritonEnvironment) -> None:
    found: list[str | None] = []

    def work(word: str) -> None:
        with everywhere.namespace(services=("postgres", "redis")) as namespace:
            contents.fill(namespace, word)
            found.append(word if contents.look(namespace) == contents.everywhere(namespace, word) else None)

    threads = [threading.Thread(target=work, args=(f"word {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(word or "" for word in found) == [f"word {n}" for n in range(8)]
