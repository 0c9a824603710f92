"""Tests that reach the whole server: what templates, snapshots and namespaces in advance hold is not lost silently."""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest
import redis
from clickhouse_connect.driver.exceptions import DatabaseError

import contents
from patience import until
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.errors import IsolationFailed, SnapshotFailed
from triton_env.services.redis.isolation import _Session


@pytest.fixture(scope="module")
def env(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """All services, with one namespace of each kind in advance."""
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=1)
    with TritonEnvironment(settings, runtime="embedded") as environment:
        yield environment


def build(namespace: Namespace) -> None:
    contents.fill(namespace, "template")


def flush_all(env: TritonEnvironment) -> None:
    with env.redis.client() as client:
        client.flushall()


def drop_postgres_databases(env: TritonEnvironment) -> None:
    with env.postgres.connect(autocommit=True) as connection:
        query = "select datname from pg_database where datname like 'triton\\_%'"
        names = [name for (name,) in connection.execute(query).fetchall()]
    for name in names:
        # One that was closed may have been removed by now, or be removed at this moment, which ends the session.
        with (
            suppress(psycopg.errors.InvalidCatalogName, psycopg.errors.ObjectNotInPrerequisiteState),
            env.postgres.connect(autocommit=True) as connection,
        ):
            connection.execute(f"alter database {name} is_template false")
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")


def drop_clickhouse_databases(env: TritonEnvironment) -> None:
    with closing(env.clickhouse.client()) as client:
        for (name,) in client.query("select name from system.databases where name like 'triton\\_%'").result_rows:
            client.command(f"drop database if exists {name} sync")


def truncate_clickhouse_tables(env: TritonEnvironment) -> None:
    with closing(env.clickhouse.client()) as client:
        query = "select database, name from system.tables where database like 'triton\\_%' and name = 'words'"
        for database, name in client.query(query).result_rows:
            try:
                client.command(f"truncate table if exists {database}.{name} sync")
            except DatabaseError as error:  # of a namespace that was closed, and is removed at this moment
                if "UNKNOWN_DATABASE" not in str(error):
                    raise


def empty_buckets(env: TritonEnvironment) -> None:
    s3 = env.s3.resource()
    for bucket in s3.buckets.all():
        with suppress(s3.meta.client.exceptions.NoSuchBucket):
            bucket.objects.all().delete()


def delete_buckets(env: TritonEnvironment) -> None:
    empty_buckets(env)
    with closing(env.s3.client()) as client:
        for bucket in client.list_buckets()["Buckets"]:
            with suppress(client.exceptions.NoSuchBucket):
                client.delete_bucket(Bucket=bucket["Name"])
        client.create_bucket(Bucket=env.s3.bucket)


WIPES = (
    (flush_all, "Redis"),
    (drop_postgres_databases, "PostgreSQL"),
    (drop_clickhouse_databases, "ClickHouse"),
    (truncate_clickhouse_tables, "ClickHouse"),
    (empty_buckets, "S3"),
    (delete_buckets, "S3"),
)
LONG = (truncate_clickhouse_tables, delete_buckets)
"""Each of these servers is wiped in another way too."""


@pytest.mark.parametrize(
    ("wipe", "title"),
    [pytest.param(*each, id=each[0].__name__, marks=pytest.mark.long if each[0] in LONG else ()) for each in WIPES],
)
def test_what_is_wiped_is_built_again_or_refused(
    env: TritonEnvironment, wipe: Callable[[TritonEnvironment], None], title: str
) -> None:
    contents.fill(env, "kept")
    env.snapshot("kept")
    everything = contents.everywhere(env, "template")
    with env.namespace(template=build) as namespace:
        assert contents.look(namespace) == everything
    # There is one in advance as well, which is wiped with the rest.
    assert until(lambda: any(env._isolation()._open().pool.counts().values()))
    wipe(env)
    for _ in range(3):
        with env.namespace(template=build) as namespace:
            assert contents.look(namespace) == everything
    contents.fill(env, "later")
    with pytest.raises(SnapshotFailed, match="'kept' has lost what it held") as caught:
        env.restore("kept")
    assert caught.value.where.startswith(f"{title}: ")
    assert "FLUSHALL" in caught.value.cause
    # Nothing was changed, of no service.
    assert contents.look(env) == contents.everywhere(env, "later")
    with pytest.raises(SnapshotFailed, match="'kept' has lost what it held"), env.namespace(template="kept") as refused:
        contents.look(refused)


def test_a_namespace_is_reset_to_what_it_was_though_its_template_was_wiped(env: TritonEnvironment) -> None:
    with env.namespace(template=build) as namespace:
        contents.fill(namespace, "mine")
        flush_all(env)
        namespace.reset()
        assert contents.look(namespace) == contents.everywhere(namespace, "template")


@pytest.mark.parametrize(
    "statements",
    [
        ("exchange tables one and two",),
        pytest.param(
            (
                "rename table one to three",
                "create or replace table one (word String) engine Memory as select 'c' as word",
            ),
            marks=pytest.mark.long,
        ),
    ],
    ids=["each server", "ClickHouse in other ways"],
)
def test_a_template_that_was_changed_is_built_again(env: TritonEnvironment, statements: tuple[str, ...]) -> None:
    def build(namespace: Namespace) -> None:
        with namespace.postgres.connect() as connection:
            connection.execute("create table words (word text)")
            connection.execute("insert into words values ('a')")
        with closing(namespace.clickhouse.client()) as client:
            for table, word in (("one", "a"), ("two", "b")):
                client.command(f"create table {table} (word String) engine MergeTree order by word")
                client.command(f"insert into {table} values ('{word}')")
        with closing(namespace.s3.client()) as client_of_s3:
            client_of_s3.put_object(Bucket=namespace.s3.bucket, Key="word", Body=b"a")

    def postgres(name: str) -> None:
        for statements, database in (
            ([f"alter database {name} allow_connections true"], env.postgres.database),
            (["truncate words"], name),
            ([f"alter database {name} allow_connections false"], env.postgres.database),
        ):
            with env.postgres.connect(dbname=database, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)

    def clickhouse(statement: str) -> Callable[[str], None]:
        def change(name: str) -> None:
            with closing(env.clickhouse.client(database=name)) as client:
                client.command(statement)

        return change

    def s3(_: str) -> None:
        with closing(env.s3.client()) as client:
            for bucket in client.list_buckets()["Buckets"]:
                with suppress(client.exceptions.NoSuchBucket):  # one that was closed, and was removed at this moment
                    for found in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
                        client.put_object(Bucket=bucket["Name"], Key=found["Key"], Body=b"changed")

    services = ("postgres", "clickhouse", "s3")
    for change in (postgres, s3, *map(clickhouse, statements)):
        with env.namespace("first", template=build, services=services) as namespace:
            assert namespace.source
            change(namespace.source.space.id)
        with env.namespace("second", template=build, services=services) as namespace:
            with namespace.postgres.connect() as connection:
                assert connection.execute("select * from words").fetchall() == [("a",)]
            with closing(namespace.clickhouse.client()) as client:
                assert client.query("select * from one").result_rows == [("a",)]
            with closing(namespace.s3.client()) as client_of_s3:
                assert client_of_s3.get_object(Bucket=namespace.s3.bucket, Key="word")["Body"].read() == b"a"


def test_a_server_that_is_wiped_between_check_and_copy(env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = _Session.copy
    left = 1

    def wiped(self: _Session, source: int, target: int) -> None:
        nonlocal left
        if left:
            left -= 1
            flush_all(env)
        copy(self, source, target)

    monkeypatch.setattr(_Session, "copy", wiped)
    with env.namespace("named", template=build, services=("redis",)) as namespace:
        assert contents.look(namespace) == {"redis": "template"}
    assert not left
    left = 1000
    with pytest.raises(IsolationFailed, match="wiped from the servers each time") as caught:
        env.namespace("named_again", template=build, services=("redis",))
    assert "FLUSHALL" in caught.value.hint


async def flushes(namespace: Namespace) -> None:
    async with namespace.redis.aclient() as client:
        await client.set("a", 1)
        await client.flushall()
        assert await client.dbsize() == 0
        await client.set("a", 1)
        async with client.pipeline() as pipe:
            await pipe.flushall().execute()  # type: ignore[attr-defined]
        assert await client.dbsize() == 0


def test_flushall_in_a_namespace_empties_that_one_alone(env: TritonEnvironment) -> None:
    import asyncio

    with env.redis.client() as own:
        own.set("own", 1)
    with env.namespace() as one, env.namespace() as other:
        with other.redis.client() as client:
            client.set("b", 1)
        with one.redis.client() as client:
            client.set("a", 1)
            assert client.flushall() is True
            assert client.dbsize() == 0
            client.set("a", 1)
            with client.pipeline() as pipe:
                assert pipe.flushall().dbsize().execute() == [True, 0]
            client.set("a", 1)
        asyncio.run(flushes(one))
        # Clients that an application makes from the URL, also in scripts.
        with redis.Redis.from_url(one.environ()["REDIS_URL"]) as client:
            client.set("a", 1)
            for refused in (
                client.flushall,
                lambda: client.swapdb(0, 1),
                lambda: client.eval("redis.call('flushall')", 0),
            ):
                with pytest.raises(redis.RedisError, match=r"no permissions|can't run this command|ACL"):
                    refused()
            client.flushdb()
        with other.redis.client() as client, env.redis.client() as own:
            assert (client.get("b"), own.get("own")) == (b"1", b"1")
            # The environment's own clients can do everything.
            assert own.flushall() is True
            assert client.get("b") is None


def test_keys_whose_time_is_over_are_not_missed(env: TritonEnvironment) -> None:
    def expires(namespace: Namespace) -> None:
        with namespace.redis.client() as client:
            client.set("stays", 1)
            client.set("goes", 1, px=1)

    for _ in range(3):
        with env.namespace(template=expires, services=("redis",)) as namespace, namespace.redis.client() as client:
            assert client.keys() == [b"stays"]
