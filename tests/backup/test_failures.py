"""What is there stays when a restore fails, and the error says what holds what; a backup that fails leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import forkserver
from backup.conftest import Started
from backup.forging import Change, in_index, rewritten
from triton_env import TritonEnvironment, backup
from triton_env.backup import Step
from triton_env.core.ending import how_to_restart
from triton_env.errors import BackupFailed, RestoreFailed, RestoreUnfinished, TritonError

# Starts of all services, and work on them, take their time on a busy machine.
pytestmark = pytest.mark.timeout(300)

SERVICES = ("postgres", "clickhouse", "redis", "s3")


@pytest.fixture(scope="module")
def small(embedded: TritonEnvironment) -> TritonEnvironment:
    """An environment with something of each kind, which no test here may change."""
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute("create role guest login password 'old'")
        connection.execute("create table t as select generate_series(1, 100) as a")
        connection.execute("alter table t owner to guest")
    with embedded.clickhouse.client() as client:
        client.command("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
        client.command("CREATE TABLE n (n UInt64) ENGINE = MergeTree ORDER BY n")
        client.command("CREATE MATERIALIZED VIEW v TO n AS SELECT count() AS n FROM t")
        client.command("INSERT INTO t SELECT number FROM numbers(100)")
        client.command("CREATE FUNCTION tripled AS (x) -> x * 3")
    with embedded.redis.client() as redis:
        redis.set("old", 1)
    embedded.s3.client().put_object(Bucket=embedded.s3.bucket, Key="old", Body=b"old")
    return embedded


@pytest.fixture(scope="module")
def archive(small: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "small.backup"
    backup.create(small, path)
    return path


def look(env: TritonEnvironment) -> dict[str, Any]:
    """All there is, with what a restore might leave behind."""
    found: dict[str, Any] = {}
    with env.postgres.connect() as connection:
        found["rows"] = connection.execute("select count(*), sum(a) from t").fetchall()
        found["databases"] = connection.execute("select datname from pg_database order by 1").fetchall()
        found["roles"] = connection.execute("select rolname, rolpassword from pg_authid order by 1").fetchall()
    with env.clickhouse.client() as client:
        found["tables"] = client.query(
            "SELECT database, name, create_table_query FROM system.tables WHERE database != 'system'"
            " AND database NOT ILIKE 'information_schema' ORDER BY ALL"
        ).result_rows
        found["t"] = client.query("SELECT count(), sum(a) FROM t").result_rows
        found["n"] = client.query("SELECT n FROM n ORDER BY n").result_rows
        found["clickhouse"] = client.query("SHOW DATABASES").result_rows
        found["functions"] = client.query(
            "SELECT name, create_query FROM system.functions WHERE origin = 'SQLUserDefined'"
        ).result_rows
    with env.redis.client() as redis:
        found["keyspace"] = {name: about["keys"] for name, about in redis.info("keyspace").items()}
        found["key"] = redis.get("old")
    client = env.s3.client()
    for bucket in client.list_buckets()["Buckets"]:
        found[bucket["Name"]] = [
            one["Key"] for one in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ())
        ]
    return found


def kill(environment: TritonEnvironment, name: str) -> None:
    """Kill an embedded server, and return when its port is closed."""
    port = environment.service(name).port
    (pid,) = (one.pid for one in psutil.net_connections("tcp4") if one.laddr.port == port and one.status == "LISTEN")
    server = psutil.Process(pid)
    server.kill()
    server.wait(60)


def assert_death(error: TritonError, environment: TritonEnvironment, name: str) -> None:
    """An error that says where the server was, how it ended, and what it wrote before."""
    service = environment.service(name)
    assert error.where.startswith(f"{service.host}:{service.port}, process ")
    assert error.cause.startswith(f"{service.title} died at ")
    assert error.cause.endswith(": ended by signal 9 (SIGKILL)")
    assert error.log_tail
    assert error.hint == how_to_restart(name)


@pytest.fixture
def unchanged(small: TritonEnvironment) -> Iterator[None]:
    """What is there before the test is there after it."""
    before = look(small)
    yield
    assert look(small) == before


def cut(prefix: str) -> Change:
    return lambda name, data: data[: len(data) * 2 // 3] if name.startswith(prefix) and "index" not in name else data


def a_role_too_many(index: Any) -> None:
    index["roles"].append({**index["roles"][0], "name": "newcomer"})


def a_missing_extension(index: Any) -> None:
    index["databases"][0]["extensions"].append("no_such_extension")


def a_setting_that_does_not_exist(index: Any) -> None:
    index["settings"].append({"role": "guest", "database": "", "settings": ["no_such_setting=1"]})
    a_role_too_many(index)


def a_view_of_nothing(index: Any) -> None:
    broken = {"kind": "VIEW", "engine": "View", "definition": " AS SELECT no_such FROM triton.nothing"}
    entry = {"database": "triton", "name": "broken", "columns": [], "rows": None, "after": [], "source": None}
    index["objects"].append(entry | broken)


def a_broken_view(index: Any) -> None:
    a_view_of_nothing(index)
    index["functions"][0]["statement"] = "CREATE FUNCTION tripled AS (x) -> x * 4"
    index["functions"].append({"name": "another", "statement": "CREATE FUNCTION another AS (x) -> x"})


@pytest.mark.usefixtures("unchanged")
class TestRestore:
    @pytest.mark.parametrize("service", SERVICES)
    def test_data_that_is_cut_short_changes_nothing(
        self, small: TritonEnvironment, archive: Path, tmp_path: Path, service: str
    ) -> None:
        broken = rewritten(archive, tmp_path / "broken", cut(f"{service}/"))
        with pytest.raises(RestoreFailed, match=r"Nothing was\s+changed: every service holds what it held\.") as raised:
            backup.restore(small, broken, replace=True)
        assert raised.value.cause

    @pytest.mark.parametrize(
        ("service", "change", "words"),
        [
            ("postgres", a_missing_extension, r"lacks extensions of the database .*: no_such_extension\. Nothing was"),
            (
                "postgres",
                a_setting_that_does_not_exist,
                r"PostgreSQL could not be restored\. Nothing was changed: every service holds what it held\.$",
            ),
            (
                "clickhouse",
                a_broken_view,
                r"ClickHouse could not be restored\. Nothing was changed: every service holds what it held\.$",
            ),
        ],
    )
    def test_a_server_that_does_not_take_it_keeps_what_it_has(
        self,
        small: TritonEnvironment,
        archive: Path,
        tmp_path: Path,
        service: str,
        change: Callable[[Any], None],
        words: str,
    ) -> None:
        broken = rewritten(archive, tmp_path / "broken", in_index(service, change))
        services = SERVICES[SERVICES.index(service) :]
        with pytest.raises(RestoreFailed) as raised:
            backup.restore(small, broken, services=services, replace=True)
        assert re.search(words, raised.value.what), raised.value.what

    def test_a_damaged_file_changes_nothing(self, small: TritonEnvironment, archive: Path, tmp_path: Path) -> None:
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "damaged").write_bytes(data)
        with pytest.raises(RestoreFailed, match="damaged or cut short"):
            backup.restore(small, tmp_path / "damaged", replace=True)

    @pytest.mark.parametrize("words", ["database postgres", "table triton.t", "database 0", "bucket triton-documents"])
    def test_one_that_is_broken_off_while_it_loads_changes_nothing(
        self, small: TritonEnvironment, archive: Path, words: str
    ) -> None:
        def interrupt(step: Step) -> None:
            if step.words == words:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as raised:
            backup.restore(small, archive, replace=True, report=interrupt)
        assert not hasattr(raised.value, "__notes__")

    def test_what_comes_into_an_empty_bucket_meanwhile_stays(self, small: TritonEnvironment, archive: Path) -> None:
        client, bucket = small.s3.client(), small.s3.bucket
        client.delete_object(Bucket=bucket, Key="old")

        def write(step: Step) -> None:
            if step.words == "database 0":
                client.put_object(Bucket=bucket, Key="old", Body=b"newer")

        with pytest.raises(RestoreFailed, match=f"The bucket {bucket} was empty when the restore began"):
            backup.restore(small, archive, services=("redis", "s3"), replace=True, report=write)
        assert client.get_object(Bucket=bucket, Key="old")["Body"].read() == b"newer"
        client.put_object(Bucket=bucket, Key="old", Body=b"old")

    def test_a_view_still_takes_rows_once_after_one_that_failed(
        self, small: TritonEnvironment, archive: Path, tmp_path: Path
    ) -> None:
        broken = rewritten(archive, tmp_path / "broken", in_index("clickhouse", a_broken_view))
        with pytest.raises(RestoreFailed):
            backup.restore(small, broken, services=("clickhouse",), replace=True)
        with small.clickhouse.client() as client:
            client.command("INSERT INTO t VALUES (1000)")
            assert client.query("SELECT n FROM n ORDER BY n").result_rows == [(1,), (100,)]
            client.command("ALTER TABLE t DELETE WHERE a = 1000 SETTINGS mutations_sync = 1")
            client.command("ALTER TABLE n DELETE WHERE n = 1 SETTINGS mutations_sync = 1")


class TestDatabaseThatCannotBeRenamed:
    """`default` of the embedded server."""

    def test_it_is_filled_in_place_but_not_replaced(self, started: Started, tmp_path: Path) -> None:
        environment = started("embedded", "clickhouse")
        with environment.clickhouse.client(database="default") as client:
            client.command("CREATE TABLE a (a UInt8) ENGINE = MergeTree ORDER BY a")
            client.command("INSERT INTO a VALUES (1), (2)")
            client.command("CREATE VIEW b AS SELECT sum(a) AS s FROM default.a")
            backup.create(environment, tmp_path / "a", services=("clickhouse",))
            with pytest.raises(
                RestoreFailed, match="is not empty and cannot be replaced: its engine Overlay"
            ) as raised:
                backup.restore(environment, tmp_path / "a", replace=True)
            assert "DROP TABLE `default`.`" in raised.value.hint
            client.command("DROP VIEW b")
            client.command("DROP TABLE a")
            # Twice: the first one fails, and what it made in place goes.
            broken = rewritten(tmp_path / "a", tmp_path / "broken", in_index("clickhouse", a_view_of_nothing))
            with pytest.raises(RestoreFailed, match="Nothing was changed: every service holds"):
                backup.restore(environment, broken)
            assert client.query("SHOW TABLES").result_rows == []
            backup.restore(environment, tmp_path / "a")
            assert client.query("SELECT s FROM b").result_rows == [(3,)]


@pytest.fixture(scope="module")
def gone(started: Started) -> TritonEnvironment:
    """An environment all of whose servers were killed."""
    environment = started("embedded")
    for name in SERVICES:
        kill(environment, name)
    return environment


class TestHalfWay:
    def test_it_says_what_was_restored_and_what_was_not(self, archive: Path, started: Started) -> None:
        target = started("embedded")
        target.s3.client().put_object(Bucket=target.s3.bucket, Key="in the way", Body=b"x")

        def stop_s3(step: Step) -> None:
            # Everything is loaded by then.
            if step == Step("redis", "restored", done=True):
                kill(target, "s3")

        with pytest.raises(RestoreUnfinished) as raised:
            backup.restore(target, archive, replace=True, report=stop_s3)
        assert raised.value.what == (
            f"The restore of {archive} could not be finished in S3. "
            "PostgreSQL, ClickHouse, Redis hold what was restored."
        )
        assert_death(raised.value, target, "s3")
        with target.redis.client() as redis:
            assert redis.get("old") == b"1"
        with target.postgres.connect() as connection:
            assert connection.execute("select count(*) from t").fetchone() == (100,)

    @pytest.mark.parametrize(
        ("words", "what"),
        [
            (
                "database postgres",
                "could not be taken back in PostgreSQL. ClickHouse, Redis, S3 hold what they held before.",
            ),
            ("taking over", "could not be finished or taken back in PostgreSQL."),
        ],
    )
    def test_where_postgresql_ends_it_says_what_the_others_hold(
        self, archive: Path, started: Started, words: str, what: str
    ) -> None:
        target = started("embedded")

        def stop_postgres(step: Step) -> None:
            if (step.service, step.words) == ("postgres", words):
                kill(target, "postgres")

        with pytest.raises(RestoreUnfinished) as raised:
            backup.restore(target, archive, report=stop_postgres)
        assert raised.value.what == f"The restore of {archive} {what}"
        assert_death(raised.value, target, "postgres")

    @pytest.mark.parametrize("name", SERVICES)
    def test_one_that_finds_a_server_gone_changes_no_other(
        self, archive: Path, gone: TritonEnvironment, name: str
    ) -> None:
        with pytest.raises(RestoreFailed, match="No other service was changed") as raised:
            backup.restore(gone, archive, services=(name,))
        assert_death(raised.value, gone, name)


class TestBackup:
    @pytest.mark.parametrize("words", ["database triton", "table triton.n", "database 0", "bucket triton-documents"])
    def test_one_that_is_broken_off_leaves_nothing(self, small: TritonEnvironment, tmp_path: Path, words: str) -> None:
        def interrupt(step: Step) -> None:
            if step.words == words:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backup.create(small, tmp_path / "a", report=interrupt)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", SERVICES)
    def test_one_of_a_server_that_is_gone_leaves_nothing(
        self, gone: TritonEnvironment, tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(BackupFailed, match=r"could not be saved\.") as raised:
            backup.create(gone, tmp_path / "a", services=(name,))
        assert_death(raised.value, gone, name)
        assert list(tmp_path.iterdir()) == []

    def test_one_of_a_server_that_ends_meanwhile_leaves_nothing(self, started: Started, tmp_path: Path) -> None:
        environment = started("embedded", "postgres")

        def stop_postgres(step: Step) -> None:
            # Before pg_dump begins.
            if step.words == f"database {environment.postgres.database}":
                kill(environment, "postgres")

        with pytest.raises(BackupFailed, match=r"could not be saved\.") as raised:
            backup.create(environment, tmp_path / "a", report=stop_postgres)
        assert_death(raised.value, environment, "postgres")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
    def test_a_process_that_is_asked_to_end_leaves_nothing(self, tmp_path: Path, number: int) -> None:
        script = textwrap.dedent(
            """
            import sys, time
            from triton_env import TritonEnvironment, backup

            def slowly(step):
                if step.words == "database triton":
                    print("now", flush=True)
                    time.sleep(150)

            with TritonEnvironment(runtime="embedded", services=("postgres", "redis")) as env:
                backup.create(env, sys.argv[1], report=slowly)
            """
        )
        target = tmp_path / "a"
        process = forkserver.Popen(
            [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        with process, process.stdout as out:
            assert out.readline() == "now\n"
            assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["a.partial"]
            os.kill(process.pid, number)
            assert process.wait(120) != 0
        assert list(tmp_path.iterdir()) == []
