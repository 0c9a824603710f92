"""What was saved on one runtime is there after a restore on another, kind by kind."""

import functools
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.conftest import Started
from backup.contents import FILL, LOOK
from backup.redis_contents import NOON
from triton_env import Settings, TritonEnvironment, backup
from triton_env.errors import RestoreFailed, ServiceNotSelected, UnknownService

# Starts of all services, and all that is saved and restored, take their time on a busy machine.
pytestmark = pytest.mark.timeout(900)

SERVICES = tuple(FILL)


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same, short enough to be read."""
    names = sorted({*before, *after})
    return {
        name: (repr(before.get(name))[:500], repr(after.get(name))[:500])
        for name in names
        if before.get(name) != after.get(name)
    }


def assert_same(before: TritonEnvironment, after: TritonEnvironment, services: tuple[str, ...] = SERVICES) -> None:
    for name in services:
        assert differences(seen(before, name), LOOK[name](after)) == {}


@functools.cache
def seen(environment: TritonEnvironment, service: str) -> dict[str, Any]:
    """What was in a full environment before anything was restored to it."""
    return LOOK[service](environment)


@pytest.fixture(scope="module")
def full_docker(started: Started) -> TritonEnvironment:
    environment = started("docker")
    for fill in FILL.values():
        fill(environment)
    return environment


@pytest.fixture(scope="module")
def saved_docker(full_docker: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "docker.backup"
    backup.create(full_docker, path)
    return path


@pytest.fixture(scope="module")
def another_docker(started: Started) -> TritonEnvironment:
    return started("docker")


class Restored:
    """An environment to which a backup is restored, again where a test has changed what it holds.

    Attributes:
        changed: the services that hold anything else.
    """

    def __init__(self, environment: TritonEnvironment, saved: Path) -> None:
        self._environment = environment
        self._saved = saved
        self.changed = set(SERVICES)

    def holding(self, *services: str) -> TritonEnvironment:
        """Give it with what was saved of these services."""
        if missing := self.changed.intersection(services):
            backup.restore(self._environment, self._saved, services=tuple(missing), replace=True)
            self.changed -= missing
        return self._environment

    def emptied(self) -> TritonEnvironment:
        """Give it with nothing in it."""
        self.changed.update(SERVICES)
        self._environment.reset()
        return self._environment


@pytest.fixture(scope="module")
def restored(embedded: TritonEnvironment, saved: Path) -> Restored:
    return Restored(embedded, saved)


class TestEmbedded:
    def test_into_an_empty_environment(self, full: TritonEnvironment, saved: Path, restored: Restored) -> None:
        embedded = restored.emptied()
        manifest = backup.restore(embedded, saved)
        assert manifest == backup.read_manifest(saved) == backup.verify(saved)
        assert manifest.runtime == "embedded"
        assert manifest.services["postgres"].contents == ("latin", "limited", 'odd "name"=x', "postgres", "triton")
        assert_same(full, embedded)
        restored.changed.clear()

    def test_its_own_users_stay_and_the_others_come_along(self, restored: Restored) -> None:
        postgres = restored.holding("postgres").postgres
        with postgres.connect(user="owner_of_claims", password="one", dbname="triton") as connection:
            assert connection.execute("select count(*) from claims.claim").fetchone() == (2000,)
        with pytest.raises(psycopg.OperationalError, match="password"):
            postgres.connect(user="owner_of_claims", password="two")

    def test_what_is_there_is_not_replaced_unless_asked_to(self, restored: Restored, saved: Path) -> None:
        embedded = restored.holding(*SERVICES)
        before = LOOK["postgres"](embedded)
        for name, words in {
            "postgres": "PostgreSQL is not empty.*: the database latin, .*, the database triton. Nothing",
            "clickhouse": "ClickHouse is not empty.*: the database sums, the database triton. Nothing",
            "redis": "Redis is not empty.*: the logical database 0, the logical database 3, functions. Nothing",
            "s3": "S3 is not empty.*: the bucket empty-bucket, the bucket triton-documents, the bucket versions. N",
        }.items():
            with pytest.raises(RestoreFailed) as raised:
                backup.restore(embedded, saved, services=(name,))
            assert re.search(words, raised.value.what)
            assert raised.value.what.endswith("Nothing was changed.")
        assert differences(before, LOOK["postgres"](embedded)) == {}

    def test_rows_go_through_a_materialized_view_once(self, restored: Restored) -> None:
        embedded = restored.holding("clickhouse")
        restored.changed.add("clickhouse")
        with embedded.clickhouse.client() as client:
            before = client.query("SELECT sum(n) FROM sums.target").result_rows[0][0]
            client.command("INSERT INTO triton.claims (id, day, kind) VALUES (2000001, '2026-05-05', 'a')")
            assert client.query("SELECT sum(n) FROM sums.target").result_rows[0][0] == before + 1
            assert client.query("SELECT uniqExactMerge(ids) FROM triton.inner_one").result_rows == [(100_002,)]

    def test_delete_markers_are_where_they_were(self, restored: Restored) -> None:
        client = restored.holding("s3").s3.client()
        restored.changed.add("s3")
        bodies = []
        while True:
            page = client.list_object_versions(Bucket="versions", Prefix="key v")
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if not entries:
                break
            (latest,) = [entry for entry in entries if entry["IsLatest"]]
            if latest in page.get("DeleteMarkers", ()):
                bodies.append("deleted")
            else:
                bodies.append(client.get_object(Bucket="versions", Key="key v")["Body"].read().decode())
            client.delete_object(Bucket="versions", Key="key v", VersionId=latest["VersionId"])
        assert bodies == ["again", "deleted", "2", "1", "0"]

    def test_over_what_is_there(self, full: TritonEnvironment, saved: Path, restored: Restored) -> None:
        embedded = restored.holding("postgres")
        restored.changed.update(SERVICES)
        # Things that are not in the backup, and things that are in use.
        with embedded.postgres.connect(autocommit=True) as connection:
            connection.execute("create database superfluous")
            connection.execute("drop schema claims cascade")
            connection.execute("alter role owner_of_claims valid until '2030-01-01' nologin password 'other'")
        idle = embedded.postgres.connect(dbname="triton")
        with embedded.clickhouse.client() as client:
            client.command("CREATE DATABASE superfluous")
            client.command("CREATE TABLE superfluous.t (a Int8) ENGINE = Memory")
            client.command("DROP VIEW IF EXISTS sums.a_view")
        with embedded.redis.client(db=7) as redis:
            redis.set("superfluous", 1)
        embedded.s3.client().create_bucket(Bucket="superfluous")
        embedded.s3.client().put_object(Bucket="superfluous", Key="a", Body=b"b")
        embedded.s3.client().put_object(Bucket=embedded.s3.bucket, Key="superfluous", Body=b"b")

        backup.restore(embedded, saved, replace=True)

        assert_same(full, embedded)
        restored.changed.clear()
        with pytest.raises(psycopg.OperationalError):
            idle.execute("select 1")
        idle.close()
        with embedded.clickhouse.client() as client:
            assert client.query("SHOW DATABASES LIKE '%triton\\_restore%'").result_rows == []
            assert client.query("SHOW DATABASES LIKE 'superfluous'").result_rows == []

    def test_a_part_of_it(self, restored: Restored, saved: Path, full: TritonEnvironment) -> None:
        embedded = restored.holding("postgres", "clickhouse")
        restored.changed.update(("redis", "s3"))
        with embedded.redis.client() as redis:
            redis.flushall()
            redis.set("mine", 1)
        embedded.s3.client().put_object(Bucket=embedded.s3.bucket, Key="mine", Body=b"b")
        backup.restore(embedded, saved, services=("redis",), replace=True)
        assert_same(full, embedded, ("redis", "postgres", "clickhouse"))
        embedded.s3.client().head_object(Bucket=embedded.s3.bucket, Key="mine")

    def test_a_backup_of_a_part(self, restored: Restored, full: TritonEnvironment, tmp_path: Path) -> None:
        embedded = restored.holding("clickhouse")
        # Those that take least.
        manifest = backup.create(full, tmp_path / "part", services=("redis", "postgres"))
        assert list(manifest.services) == ["postgres", "redis"]
        backup.restore(embedded, tmp_path / "part", replace=True)
        assert_same(full, embedded, ("postgres", "redis", "clickhouse"))
        restored.changed -= {"postgres", "redis"}
        with pytest.raises(RestoreFailed, match=r"The backup does not hold S3\."):
            backup.restore(embedded, tmp_path / "part", services=("s3",), replace=True)
        with pytest.raises(UnknownService):
            backup.restore(embedded, tmp_path / "part", services=("mongo",), replace=True)
        with pytest.raises(UnknownService):
            backup.create(full, tmp_path / "other", services=("mongo",))

    def test_an_environment_without_the_service(self, saved: Path) -> None:
        with TritonEnvironment(runtime="embedded", services=("redis",)) as environment:
            with pytest.raises(ServiceNotSelected):
                backup.restore(environment, saved)
            assert environment.redis.client().dbsize() == 0
            backup.restore(environment, saved, services=("redis",))
            assert environment.redis.client().fcall("mine", 0) == 7

    def test_an_environment_with_other_names(self, saved: Path, full: TritonEnvironment) -> None:
        names: dict[str, Any] = {"postgres_user": "other", "postgres_db": "other_db", "clickhouse_db": "other_db"}
        settings = Settings(**names, s3_bucket="other-bucket")
        with TritonEnvironment(settings, runtime="embedded") as environment:
            with environment.postgres.connect(autocommit=True) as connection:
                connection.execute("create table mine as select 1 as a")
            with pytest.raises(RestoreFailed, match="is not empty"):
                backup.restore(environment, saved)
            backup.restore(environment, saved, replace=True)
            # Its own user and names work as before, and are empty.
            with environment.postgres.connect() as connection:
                assert connection.info.user == "other"
                assert connection.execute("select to_regclass('mine')").fetchone() == (None,)
            with environment.postgres.connect(dbname="triton") as connection:
                assert connection.execute("select count(*) from claims.claim").fetchone() == (2000,)
                owner = "select tableowner from pg_tables where tablename = 'payment_2025'"
                assert connection.execute(owner).fetchone() == (full.postgres.user,)
            with environment.clickhouse.client() as client:
                assert client.query("SHOW TABLES").result_rows == []
                assert client.query("SELECT count() FROM triton.claims").result_rows == [(100_001,)]
            client = environment.s3.client()
            assert client.list_objects_v2(Bucket="other-bucket")["KeyCount"] == 0
            assert client.head_object(Bucket=full.s3.bucket, Key="large")["ContentLength"] == 20 * 2**20

    def test_fields_of_hashes_expire_when_they_did(self, restored: Restored, tmp_path: Path) -> None:
        embedded = restored.emptied()
        with embedded.redis.client() as redis:
            redis.flushall()
            redis.hset("hash", mapping={"a": 1, "b": 2, "c": 3})
            redis.hpexpireat("hash", NOON + 1, "a")
            redis.hpexpireat("hash", NOON + 2, "c")
            redis.pexpireat("hash", NOON)
            redis.set("over soon", 1, px=200)
        backup.create(embedded, tmp_path / "a", services=("redis",))
        backup.restore(embedded, tmp_path / "a", replace=True)
        with embedded.redis.client() as redis:
            assert redis.hgetall("hash") == {b"a": b"1", b"b": b"2", b"c": b"3"}
            assert redis.hpexpiretime("hash", "a", "b", "c") == [NOON + 1, -1, NOON + 2]
            assert redis.pexpiretime("hash") == NOON
            assert redis.exists("over soon") == 0 or redis.pttl("over soon") <= 200

    def test_many_logical_databases(self, restored: Restored, tmp_path: Path) -> None:
        embedded = restored.emptied()
        with embedded.redis.client(single_connection_client=True) as redis:
            redis.flushall()
            count = int(redis.config_get("databases")["databases"])

            def numbers() -> list[bytes | None]:
                found = []
                for number in range(count):
                    redis.execute_command("SELECT", number)
                    found.append(redis.get("number"))
                return found

            for number in range(count):
                redis.execute_command("SELECT", number)
                redis.set("number", number)
            written = numbers()
            backup.create(embedded, tmp_path / "a", services=("redis",))
            with pytest.raises(RestoreFailed, match=r"needs 16 empty logical databases .* and the server has 0"):
                backup.restore(embedded, tmp_path / "a", replace=True)
            assert numbers() == written
            # With none to load into, those that are empty are loaded in their place.
            for number in range(16):
                redis.execute_command("SELECT", number)
                redis.flushdb()
            redis.function_flush()
            backup.restore(embedded, tmp_path / "a")
            assert numbers() == written == [b"%d" % number for number in range(count)]
            redis.flushall()


@pytest.fixture(scope="module")
def saved_embedded(
    full_docker: TritonEnvironment,
    saved_docker: Path,
    restored: Restored,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A backup of what `full_docker` holds, made without Docker after a restore there, which gave the same."""
    embedded = restored.emptied()
    backup.restore(embedded, saved_docker, replace=True)
    assert_same(full_docker, embedded)
    path = tmp_path_factory.mktemp("backup") / "embedded.backup"
    backup.create(embedded, path)
    return path


@pytest.mark.docker
class TestDocker:
    """What was saved on Docker goes to an embedded environment, and from there back to Docker."""

    def test_to_a_newer_server_of_another_runtime(self, saved_docker: Path, saved_embedded: Path) -> None:
        older, newer = (backup.read_manifest(path).services["postgres"] for path in (saved_docker, saved_embedded))
        assert older.version < newer.version

    @pytest.mark.long
    def test_from_one_engine_to_another(
        self, full_docker: TritonEnvironment, saved_docker: Path, another_docker: TritonEnvironment
    ) -> None:
        backup.restore(another_docker, saved_docker)
        assert_same(full_docker, another_docker)

    @pytest.mark.long
    def test_from_embedded(self, full_docker: TritonEnvironment, saved_embedded: Path) -> None:
        assert backup.read_manifest(saved_embedded).runtime == "embedded"
        docker, others = full_docker, ("clickhouse", "redis", "s3")
        for name in others:
            seen(full_docker, name)
        # It holds the same already, so something is put beside it that has to go.
        with docker.redis.client() as redis:
            redis.set("superfluous", 1)
        with docker.clickhouse.client() as client:
            client.command("CREATE TABLE sums.superfluous (a Int8) ENGINE = Memory")
        docker.s3.client().put_object(Bucket="versions", Key="superfluous", Body=b"b")
        backup.restore(docker, saved_embedded, services=others, replace=True)
        assert_same(full_docker, docker, others)

    def test_not_to_an_older_server(self, saved_embedded: Path, full_docker: TritonEnvironment) -> None:
        docker, before = full_docker, LOOK["redis"](full_docker)
        with pytest.raises(
            RestoreFailed, match=r"of PostgreSQL 18, and the server is older: 1\d\. Nothing was changed"
        ):
            backup.restore(docker, saved_embedded, replace=True)
        assert differences(before, LOOK["redis"](docker)) == {}

    def test_not_fields_that_expire_to_a_server_without_them(
        self, restored: Restored, full_docker: TritonEnvironment, saved_docker: Path, tmp_path: Path
    ) -> None:
        docker, embedded = full_docker, restored.emptied()
        with embedded.redis.client() as redis:
            redis.hset("hash", "a", "1")
            redis.hpexpireat("hash", NOON, "a")
        backup.create(embedded, tmp_path / "a", services=("redis",))
        with docker.redis.client() as redis:
            # They came with Redis 7.4.
            if docker.redis.server_version() >= "7.4":
                backup.restore(docker, tmp_path / "a", replace=True)
                assert redis.hpexpiretime("hash", "a") == [NOON]
                backup.restore(docker, saved_docker, services=("redis",), replace=True)
            else:
                with pytest.raises(RestoreFailed, match="The server has no fields of hashes that expire"):
                    backup.restore(docker, tmp_path / "a", replace=True)
