"""A backup of servers that are in use: what goes away or changes while it is read is left out, and said."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from triton_env import TritonEnvironment, backup
from triton_env.backup import Step
from triton_env.services.redis.connection import Command, Connection

pytestmark = pytest.mark.timeout(300)


def test_databases_and_tables_that_go_away_or_get_other_names(embedded: TritonEnvironment, tmp_path: Path) -> None:
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute("create database a_first")
        connection.execute("create database b_second")
        connection.execute("create table kept as select 1 as a")
    with embedded.clickhouse.client() as client:
        for name in ("a_first", "b_dropped", "c_renamed", "d_changed"):
            client.command(f"CREATE TABLE {name} (a UInt32, b UInt8) ENGINE = MergeTree ORDER BY a")
            client.command(f"INSERT INTO {name} VALUES (1, 2)")

    def interfere(step: Step) -> None:
        if step.words == "database a_first":
            with embedded.postgres.connect(autocommit=True) as connection:
                connection.execute("drop database if exists b_second")
                connection.execute("do $$ begin create role latecomer; exception when others then null; end $$")
                connection.execute("alter table kept owner to latecomer")
        if step.words == "table triton.a_first":
            with embedded.clickhouse.client() as client:
                client.command("DROP TABLE IF EXISTS b_dropped")
                client.command("RENAME TABLE IF EXISTS c_renamed TO e_new")
                client.command("ALTER TABLE d_changed DROP COLUMN IF EXISTS b")

    services = ("postgres", "clickhouse")
    manifest = backup.create(embedded, tmp_path / "a", services=services, report=interfere)
    assert "The database b_second was dropped" in manifest.services["postgres"].notes[0]
    assert "b_second" not in manifest.services["postgres"].contents
    backup.restore(embedded, tmp_path / "a", replace=True)
    with embedded.clickhouse.client() as client:
        assert client.query("SHOW TABLES").result_columns == [["a_first", "d_changed", "e_new"]]
        assert client.query("SELECT * FROM d_changed").result_rows == [(1,)]
        assert client.query("SELECT * FROM e_new").result_rows == [(1, 2)]
    with embedded.postgres.connect() as connection:
        owner = "select tableowner from pg_tables where tablename = 'kept'"
        assert connection.execute(owner).fetchone() == ("latecomer",)


def test_keys_that_go_away_or_get_another_type(
    embedded: TritonEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded.redis.client() as redis:
        redis.flushall()
        redis.mset({"stays": "1", "vanishes": "1", "becomes a list": "1", "grows": "1"})

        def interfere(self: Connection, commands: Iterable[Command]) -> list[Any]:
            # Between the look at the keys and the reading of their values.
            monkeypatch.undo()
            redis.delete("vanishes", "becomes a list")
            redis.rpush("becomes a list", "x", "y")
            redis.set("grows", "2" * 2_000_000)
            return self.try_all(commands)

        monkeypatch.setattr(Connection, "try_all", interfere)
        redis.acl_setuser("worker", enabled=True, nopass=True)
        notes = backup.create(embedded, tmp_path / "a", services=("redis",)).services["redis"].notes
        redis.acl_deluser("worker")
        assert "disappeared while being read" in notes[0]
        assert notes[1] == "1 users of Redis (ACL SETUSER) are not saved."
        redis.flushall()
        backup.restore(embedded, tmp_path / "a", replace=True)
        assert sorted(redis.keys()) == [b"becomes a list", b"grows", b"stays"]
        assert redis.lrange("becomes a list", 0, -1) == [b"x", b"y"]
        assert redis.strlen("grows") == 2_000_000


def test_what_is_special_about_tables_is_kept_or_said(embedded: TritonEnvironment, tmp_path: Path) -> None:
    with embedded.clickhouse.client() as client:
        for statement in (
            "CREATE DATABASE special",
            "CREATE TABLE special.source (a Int32) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO special.source VALUES (5)",
            """CREATE MATERIALIZED VIEW special.refreshed REFRESH EVERY 1 HOUR APPEND (a Int32)
                ENGINE = MergeTree ORDER BY a EMPTY AS SELECT a FROM special.source""",
            "INSERT INTO special.refreshed VALUES (2)",
            "CREATE TABLE special.file (a Int32) ENGINE = File(TabSeparated)",
            "INSERT INTO special.file VALUES (7)",
            "CREATE TABLE special.no_file (a Int32) ENGINE = File(CSV)",
            """CREATE TABLE special.projected (a Int32, b Int32, PROJECTION p (SELECT b, sum(a) GROUP BY b))
                ENGINE = MergeTree ORDER BY a""",
            "INSERT INTO special.projected VALUES (1, 2)",
            "CREATE TABLE special.parts (a Int32) ENGINE = MergeTree PARTITION BY a ORDER BY a",
            "INSERT INTO special.parts VALUES (1), (2)",
            "ALTER TABLE special.parts DETACH PARTITION 1",
            "CREATE TABLE special.away (a Int32) ENGINE = Log",
            "DETACH TABLE special.away PERMANENTLY",
            "CREATE TABLE special.changing (a Int32) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO special.changing VALUES (1)",
            "SYSTEM STOP MERGES special.changing",
            "ALTER TABLE special.changing DELETE WHERE a = 1 SETTINGS mutations_sync = 0",
            "CREATE TABLE special.nothing (a Int32) ENGINE = Null",
            "CREATE DATABASE fleeting ENGINE = Memory",
            "CREATE USER reader",
            "CREATE ROLE reading",
            "CREATE SETTINGS PROFILE modest SETTINGS max_threads = 1",
            "CREATE ROW POLICY own ON special.parts USING a = 1 TO reader",
            "CREATE NAMED COLLECTION words AS a = '1'",
        ):
            client.command(statement)
        query = "SELECT name, create_table_query FROM system.tables WHERE database = 'special' AND name NOT LIKE '.%'"
        before = client.query(f"{query} ORDER BY name").result_rows
        notes = backup.create(embedded, tmp_path / "a", services=("clickhouse",)).services["clickhouse"].notes
        assert set(notes) >= {
            "Detached parts are not saved; these tables have some: special.parts.",
            "Detached tables are not saved: special.away.",
            "special.nothing has the engine Null: its statement is saved, no rows.",
            "Rows are saved as they were before mutations that were not done; these tables have some: "
            "special.changing.",
            "Databases of other engines are restored as Atomic: fleeting (Memory).",
            "Users are not saved: reader.",
            "Roles are not saved: reading.",
            "Settings profiles are not saved: modest.",
            "Row policies are not saved, without which users see all rows: own ON special.parts.",
            "Named collections are not saved: words.",
        }
        for kind in ("USER reader", "ROLE reading", "SETTINGS PROFILE modest", "NAMED COLLECTION words"):
            client.command(f"DROP {kind}")
        client.command("DROP ROW POLICY own ON special.parts")
        backup.restore(embedded, tmp_path / "a", replace=True)
        assert client.query(f"{query} ORDER BY name").result_rows == before
        for name, rows in {"refreshed": [(2,)], "file": [(7,)], "projected": [(1, 2)], "parts": [(2,)]}.items():
            assert client.query(f"SELECT * FROM special.{name}").result_rows == rows
        assert client.query("SELECT status FROM system.view_refreshes").result_rows == [("Scheduled",)]


def test_what_is_special_about_a_postgres_is_kept_or_said(embedded: TritonEnvironment, tmp_path: Path) -> None:
    with embedded.postgres.connect(autocommit=True) as connection:
        for statement in (
            "create role keeper",
            "create table twice as select 1 as a from generate_series(1, 2)",
            "create function pg_catalog.mine() returns int language sql return 1",
            "create extension postgres_fdw",
            "create server far foreign data wrapper postgres_fdw",
            "create foreign table elsewhere (a int) server far",
            "select pg_replication_origin_create('origin')",
            "grant create on tablespace pg_default to keeper",
            "alter role current_user set work_mem to '5MB'",
            "alter role all set geqo to off",
        ):
            connection.execute(statement)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("create unique index concurrently unfinished on twice (a)")
        expected = {
            "Invalid indexes are not saved: triton: unfinished.",
            "What was made in the schemas of the server, pg_catalog and information_schema, is not saved: "
            "triton: function mine().",
            "Rows of foreign tables are not saved: they stay in their servers: triton: elsewhere.",
            "Replication origins are not saved: origin.",
            "Privileges and comments of tablespaces are not saved: pg_default.",
            "Settings of the user of the environment (ALTER ROLE) are not restored to an environment whose user it is: "
            "work_mem.",
            "What was made in the template database template1 is not saved.",
        }
        if connection.info.server_version >= 150000:
            connection.execute("grant set on parameter geqo to keeper")
            expected.add("Privileges on parameters of the server are not saved: geqo.")
    with embedded.postgres.connect(dbname="template1") as connection:
        connection.execute("create table of_all (a int)")
    notes = backup.create(embedded, tmp_path / "a", services=("postgres",)).services["postgres"].notes
    with embedded.postgres.connect(dbname="template1") as connection:
        connection.execute("drop table of_all")
    assert set(notes) >= expected
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute("alter role all reset all")
        connection.execute("select pg_replication_origin_drop('origin')")
        connection.execute("revoke create on tablespace pg_default from keeper")
        connection.execute("alter role current_user reset all")
    backup.restore(embedded, tmp_path / "a", replace=True)
    with embedded.postgres.connect(autocommit=True) as connection:
        assert connection.execute("show geqo").fetchone() == ("off",)
        assert connection.execute("select count(*) from twice").fetchone() == (2,)
        connection.execute("alter role all reset all")


def test_rows_in_a_buffer_stay_with_what_is_replaced(embedded: TritonEnvironment, tmp_path: Path) -> None:
    with embedded.clickhouse.client() as client:
        client.command("CREATE TABLE behind (a Int32) ENGINE = MergeTree ORDER BY a")
        client.command(
            "CREATE TABLE front AS behind ENGINE = Buffer(triton, behind, 1, 600, 600, 100, 100, 1000, 1000)"
        )
        client.command("INSERT INTO behind VALUES (1)")
        backup.create(embedded, tmp_path / "a", services=("clickhouse",))
        client.command("INSERT INTO front VALUES (2)")
        backup.restore(embedded, tmp_path / "a", replace=True)
        assert client.query("SELECT a FROM behind").result_rows == [(1,)]


def test_a_search_path_of_the_user_does_not_change_what_is_saved(embedded: TritonEnvironment, tmp_path: Path) -> None:
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute("create schema before; create view before.pg_database as select 1 as a")
        connection.execute("alter role current_user set search_path to before, pg_catalog")
        try:
            backup.create(embedded, tmp_path / "a", services=("postgres",))
        finally:
            connection.execute("alter role current_user reset search_path; drop schema before cascade")
