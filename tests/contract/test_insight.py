"""What servers report about themselves: each panel shows what the test itself has just done, whatever is in it.

The server is shared: what other tests have done is there too.
"""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from secrets import token_hex
from typing import Any

import psycopg
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from conftest import RUNTIMES
from patience import SECONDS, TO_BOOT, WAIT, until
from triton_env import Settings, TritonEnvironment
from triton_env.core.model import Endpoint, Placement
from triton_env.errors import NotOffered, QueryFailed, ServiceDied, UsageError
from triton_env.services import SERVICES, Service
from triton_env.services.base_insight import PREVIEW, ROWS, Insight, Row, Table, names_in, raw, readable
from triton_env.services.clickhouse import insight as clickhouse_insight
from triton_env.services.postgres import insight as postgres_insight
from triton_env.services.postgres.isolation import PostgresIsolation
from triton_env.services.redis import insight as redis_insight
from triton_env.services.redis import keys as redis_keys
from triton_env.services.redis import values as redis_values
from triton_env.services.redis.connection import Connection
from triton_env.services.s3 import counting
from triton_env.services.s3 import insight as s3_insight

# The first test of each runtime starts all four.
pytestmark = [pytest.mark.timeout(400), pytest.mark.long_on("persistent")]

HOSTILE = "<script>alert(1)</script>\x1b[2J\x1b]0;title\x07 'quoted\" \\ ünïcödé 🐘"
NOT_TEXT = b"\xff\xfe" + HOSTILE.encode()
PROTOCOLS = ("HTTP", "TCP", "MySQL", "PostgreSQL")
"""Those of ClickHouse's clients."""
LARGE = 10 << 20
"""Bytes."""
ROOM = 3_000_000
"""Characters that a table has at most, as JSON."""


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm(request.param)


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def session_env(request: pytest.FixtureRequest, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    """One that makes namespaces, which persistent ones make on request alone."""
    return warm(request.param)


@pytest.fixture
def word() -> str:
    """What no other test has."""
    return f"w{token_hex(6)}"


@contextmanager
def looking(service: Service, timeout: float = SECONDS) -> Iterator[Insight[Any]]:
    with closing(service.parts.load("insight")(service, timeout)) as insight:
        yield insight


def rows_with(table: Table, word: str) -> list[Row]:
    return [row for row in table.rows if any(word in str(cell) for cell in row.cells)]


def cells(row: Row, table: Table) -> dict[str, Any]:
    return dict(zip((column.name for column in table.columns), row.cells, strict=True))


def found(insight: Insight[Any], panel: str, word: str, argument: str = "") -> dict[str, Any]:
    """The row with a word, by the names of the columns, once it is there."""
    shown: list[dict[str, Any]] = []

    def is_there() -> bool:
        table = insight.table(panel, argument)
        shown.extend(cells(row, table) for row in rows_with(table, word))
        return bool(shown)

    assert until(is_there), f"{panel} does not show {word}"
    return shown[0]


def is_small(table: Table) -> bool:
    return len(table.rows) <= ROWS and len(json.dumps(asdict(table), allow_nan=False)) < ROOM


class TestPostgres:
    @pytest.fixture
    def table(self, env: TritonEnvironment, word: str) -> Iterator[str]:
        """A table of 10,000 rows, of which the first has values that are hostile, and large."""
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute(f'create table "{word}.<b>""" (id int primary key, hostile text, large text, raw bytea)')
            connection.execute(
                f'insert into "{word}.<b>""" select n, %s, case n when 0 then repeat(%s, %s) end, %s'
                " from generate_series(0, 9999) n",
                (HOSTILE, "x", LARGE, NOT_TEXT),
            )
            yield f'{word}.<b>"'
            connection.execute(f'drop table "{word}.<b>"""')

    def test_a_table_with_its_size_and_its_first_rows(self, env: TritonEnvironment, table: str, word: str) -> None:
        with looking(env.postgres) as insight:
            tables = insight.table("tables")
            (row,) = rows_with(tables, word)
            assert cells(row, tables)["name"] == table
            assert cells(row, tables)["size"] > 10_000 * len(HOSTILE)
            assert names_in(row.key) == (env.postgres.database, "public", table)
            first = insight.table(row.opens, row.key)
            assert is_small(first)
            assert len(first.rows) == ROWS
            assert first.is_cut
            shown = cells(first.rows[0], first)
            assert shown["hostile"] == HOSTILE
            assert shown["large"].rstrip("…") == "x" * (len(shown["large"]) - 1)
            assert shown["raw"].startswith("\\xfffe")
            assert cells(first.rows[1], first)["large"] is None

    def test_sessions_that_wait_for_each_other(self, env: TritonEnvironment, table: str, word: str) -> None:
        name = table.replace('"', '""')
        with ExitStack() as stack:
            holder = stack.enter_context(env.postgres.connect())
            waiter = stack.enter_context(env.postgres.connect(application_name=f"app-{word}"))
            insight = stack.enter_context(looking(env.postgres))
            holder.execute(f'lock table "{name}" in access exclusive mode')

            def wait() -> None:
                with suppress(psycopg.errors.QueryCanceled):
                    waiter.execute(f'select count(*) from "{name}" /* <b>\x1b[2J */')

            waiting = threading.Thread(target=wait)
            waiting.start()
            stack.callback(waiting.join)
            stack.callback(waiter.cancel)
            session: dict[str, Any] = {}

            def is_blocked() -> bool:
                session.update(found(insight, "sessions", f"app-{word}"))
                return session["blocked by"] is not None

            assert until(is_blocked)
            assert session["blocked by"] == str(holder.info.backend_pid)
            assert session["pid"] == waiter.info.backend_pid
            assert session["state"] == "active"
            assert session["statement"].endswith("/* <b>\x1b[2J */")
            # It does not wait with them, and keeps none of them waiting.
            tables = insight.table("tables")
            (row,) = rows_with(tables, word)
            assert cells(row, tables)["size"] is None
            assert "locked" in tables.note
            assert found(insight, "statements", f'count(*) from "{word}')["state"] == "active"
            with pytest.raises(QueryFailed, match="did not answer") as caught, looking(env.postgres, 1) as hasty:
                hasty.table("rows", row.key)
            assert "lock timeout" in caught.value.cause

    def test_databases_of_namespaces_are_marked(self, session_env: TritonEnvironment) -> None:
        with session_env.namespace(services=("postgres",)) as namespace, looking(session_env.postgres) as insight:
            with namespace.postgres.connect() as connection:
                connection.execute("create table mine ()")
            databases = insight.table("databases")
            (row,) = rows_with(databases, namespace.postgres.database)
            assert row.mark == "namespace"
            assert databases.rows[0].cells[0] == session_env.postgres.database
            assert databases.rows[0].mark == ""
            tables = insight.table(row.opens, row.key)
            (only,) = tables.rows
            assert names_in(only.key) == (namespace.postgres.database, "public", "mine")
            assert insight.table(only.opens, only.key).rows == ()

    def test_reading_writes_nothing(self, env: TritonEnvironment, word: str) -> None:
        with env.postgres.connect(autocommit=True) as connection, looking(env.postgres) as insight:
            connection.execute(f"create sequence {word}_s")
            connection.execute(f"create view {word} as select nextval('{word}_s') as value")
            with pytest.raises(QueryFailed) as caught:
                insight.table("rows", word)
            assert "read-only transaction" in caught.value.cause
            assert connection.execute(f"select is_called from {word}_s").fetchone() == (False,)
            connection.execute(f"drop view {word}; drop sequence {word}_s")

    def test_metrics_count_what_was_done(self, env: TritonEnvironment) -> None:
        with ExitStack() as stack:
            insight = stack.enter_context(looking(env.postgres))
            before = insight.sample()
            connections = [stack.enter_context(env.postgres.connect(autocommit=True)) for _ in range(5)]
            for _ in range(100):
                connections[0].execute("select 1")
            # A session hands in its numbers at its end, or seconds later.
            connections[0].close()
            assert until(lambda: insight.sample()["transactions_total"] >= before["transactions_total"] + 100)
            after = insight.sample()
            assert after["connections"] >= 4
            assert after["blocks_hit_total"] >= before["blocks_hit_total"]
            assert after["database_size_bytes"] > 1_000_000

    def test_no_connection_is_left_and_none_is_shown(self, env: TritonEnvironment) -> None:
        with env.postgres.connect(autocommit=True) as connection:

            def own() -> Any:
                query = "select count(*) from pg_stat_activity where application_name = %s"
                return connection.execute(query, (postgres_insight.INSIGHT,)).fetchone()

            with looking(env.postgres) as insight:
                insight.table("tables", "postgres")
                assert not rows_with(insight.table("sessions"), postgres_insight.INSIGHT)
                assert until(lambda: own() == (1,))
            assert until(lambda: own() == (0,))

    def test_it_connects_again_where_the_server_ended_its_connection(self, env: TritonEnvironment) -> None:
        with env.postgres.connect(autocommit=True) as connection, looking(env.postgres) as insight:
            insight.sample()
            query = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s"
            assert connection.execute(query, (postgres_insight.INSIGHT,)).fetchone() == (1,)
            assert until(lambda: insight._kept.pgconn.socket and postgres_insight.is_over(insight._kept))  # type: ignore[attr-defined]
            assert insight.sample()

    def test_a_database_that_is_looked_at_is_copied_dropped_and_frozen(
        self, session_env: TritonEnvironment, word: str
    ) -> None:
        with ExitStack() as stack:
            service = stack.enter_context(session_env.namespace(services=("postgres",))).postgres
            insight = stack.enter_context(looking(service))
            admin = stack.enter_context(session_env.postgres.connect(autocommit=True))
            assert insight.sample()["database_size_bytes"] > 1_000_000
            insight.table("tables")
            admin.execute(f"create database {word} template {service.database}")
            admin.execute(f"drop database {word}")
            # A question that takes its time is given up for a snapshot.
            question = stack.enter_context(service.connect(application_name=postgres_insight.INSIGHT))
            question.execute("select")
            isolation = stack.enter_context(closing(PostgresIsolation(session_env.postgres)))
            with isolation.administration() as own:
                isolation._quieten(own, service.database)
            with pytest.raises(psycopg.OperationalError):
                question.execute("select")

    def test_without_the_database_of_administrators_its_own_will_do(
        self, env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_insight, "_MAINTENANCE", "nothing-of-this-name")
        with looking(env.postgres) as insight:
            assert insight.sample()["connections"] >= 0

    @pytest.mark.parametrize(
        "argument", ["", "a.b.c.d", '"open', "nothing.of_this_name", "a\0b", "nothing.a.b", "a\0host=b.a.b"]
    )
    def test_a_table_that_is_not_there_is_wrong_use(self, env: TritonEnvironment, argument: str) -> None:
        with looking(env.postgres) as insight:
            with pytest.raises(UsageError):
                insight.table("rows", argument)
            if argument:
                with pytest.raises(UsageError):
                    insight.table("tables", argument)

    def test_a_database_that_holds_any_bytes(self, env: TritonEnvironment, word: str) -> None:
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute(f"create database {word} template template0 encoding 'SQL_ASCII' locale 'C'")
            with env.postgres.connect(dbname=word, client_encoding="sql_ascii") as inside:
                inside.execute("create table t (value text); insert into t values (E'\\xff\\xfe<b>')")
            with looking(env.postgres) as insight:
                assert insight.table("rows", f"{word}.public.t").rows == (Row(("\\xff\\xfe<b>",)),)
            connection.execute(f"drop database {word} with (force)")


class TestClickHouse:
    def test_the_clients_of_each_protocol_are_counted(self, env: TritonEnvironment) -> None:
        with env.clickhouse.client() as client:
            rows = client.query(f"SELECT metric FROM system.metrics WHERE {clickhouse_insight._OF_CLIENTS}").result_rows
        assert {name for (name,) in rows} == {f"{protocol}Connection" for protocol in PROTOCOLS}

    @pytest.fixture
    def table(self, env: TritonEnvironment, word: str) -> Iterator[str]:
        client = env.clickhouse.client()
        name = f"`{word}.<b>\\`'`"
        try:
            client.command(
                f"create table {name} (id UInt32, text String, large Nullable(String),"
                " state AggregateFunction(sum, UInt64), simple SimpleAggregateFunction(max, UInt64) default 7,"
                " list Array(Float64)) engine = MergeTree order by id"
            )
            # The large one by itself: the server would set aside as much for each row of an insert.
            for large, numbers in ((f"repeat(repeat('x', 1024), {LARGE // 1024})", "1"), ("null", "1, 9999")):
                client.command(
                    f"insert into {name} (id, text, large, state, list) select number, unhex(%(raw)s), {large},"
                    f" initializeAggregation('sumState', number), [nan] from numbers({numbers})",
                    {"raw": NOT_TEXT.hex()},
                )
            yield f"{word}.<b>`'"
            client.command(f"drop table {name}")
        finally:
            client.close()

    @staticmethod
    def write_logs(env: TritonEnvironment) -> None:
        """Have the server write to its tables what it knows of queries, which it does every 7.5 seconds by itself."""
        with closing(env.clickhouse.client()) as client:
            client.command("system flush logs")

    def test_a_table_with_its_parts_and_its_first_rows(self, env: TritonEnvironment, table: str, word: str) -> None:
        with looking(env.clickhouse) as insight:
            tables = insight.table("tables")
            (row,) = rows_with(tables, word)
            shown = cells(row, tables)
            assert (shown["name"], shown["engine"], shown["rows"]) == (table, "MergeTree", 10_000)
            assert names_in(row.key) == (env.clickhouse.database, table)
            parts = insight.table("parts", row.key)
            assert sum(cells(part, parts)["rows"] for part in parts.rows) == 10_000
            assert {cells(part, parts)["table"] for part in parts.rows} == {table}
            first = insight.table(row.opens, row.key)
            assert is_small(first)
            assert len(first.rows) == ROWS
            assert first.is_cut
            by_id = {cells(each, first)["id"]: cells(each, first) for each in first.rows}
            assert by_id["0"]["text"] == "\\xff\\xfe" + HOSTILE
            assert by_id["0"]["large"].startswith("xxx")
            assert by_id["1"]["large"] is None
            assert by_id["1"]["list"] == "[nan]"
            assert (by_id["1"]["state"], by_id["1"]["simple"]) == ("AggregateFunction", "7")
            assert insight.sample()["rows"] >= 10_000

    def test_a_query_that_runs_then_is_slow_and_one_that_fails(self, env: TritonEnvironment, word: str) -> None:
        query = f"select sleep(1), '{word} <b>\x1b[2J'"
        seen, ended = threading.Event(), threading.Event()

        def run() -> None:
            with closing(env.clickhouse.client()) as client:
                while not seen.is_set():
                    client.query(query)
                    ended.set()

        with ExitStack() as stack:
            insight = stack.enter_context(looking(env.clickhouse))
            running = threading.Thread(target=run)
            running.start()
            stack.callback(running.join)
            stack.callback(seen.set)
            shown = found(insight, "running", word)
            assert shown["query"].startswith(query)
            assert shown["for"] >= 0
            assert ended.wait(WAIT)
            self.write_logs(env)
            shown = found(insight, "queries", word)
            assert shown["took"] >= 1
            assert shown["database"] == env.clickhouse.database
        with looking(env.clickhouse) as insight, closing(env.clickhouse.client()) as client:
            with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER"):
                client.query(f"select {word}_missing")
            self.write_logs(env)
            shown = found(insight, "failures", f"{word}_missing")
            assert shown["code"] == 47
            assert "UNKNOWN_IDENTIFIER" in shown["error"]

    def test_databases_of_namespaces_are_marked(self, session_env: TritonEnvironment) -> None:
        with session_env.namespace(services=("clickhouse",)) as namespace, looking(session_env.clickhouse) as insight:
            (row,) = rows_with(insight.table("databases"), namespace.clickhouse.database)
            assert row.mark == "namespace"
            assert insight.table("databases").rows[0].cells[0] == session_env.clickhouse.database

    def test_reading_changes_nothing_and_is_not_shown(self, env: TritonEnvironment, word: str) -> None:
        with looking(env.clickhouse) as insight:
            with pytest.raises(QueryFailed) as caught, insight._asking():
                insight._rows(f"create table {word} (a Int8) engine = Memory")  # type: ignore[attr-defined]
            assert "READONLY" in caught.value.cause
            assert not rows_with(insight.table("running"), clickhouse_insight._NAME)
            # Those that clients have run since are in the log, and none of these. The panel shows the slowest alone.
            with closing(env.clickhouse.client()) as client:

                def logged(condition: str, **values: str) -> Any:
                    query = f"select count() from system.query_log where {condition}"
                    return client.query(query, values).result_rows[0][0]

                client.query(f"select '{word}'")
                self.write_logs(env)
                assert until(lambda: logged("startsWith(query, %(begin)s)", begin=f"select '{word}'"))
                own = "endsWith(log_comment, concat(%(one)s, %(two)s)) or position(query, concat(%(one)s, %(two)s)) > 0"
                half = len(clickhouse_insight._NAME) // 2
                assert logged(own, one=clickhouse_insight._NAME[:half], two=clickhouse_insight._NAME[half:]) == 0
            before = insight.sample()
            assert before["queries_running"] >= 0
            assert insight.sample()["queries_total"] > before["queries_total"]

    def test_a_table_that_is_not_there_is_wrong_use(self, env: TritonEnvironment) -> None:
        with looking(env.clickhouse) as insight:
            for argument in ("", "a.b.c", "nothing.of_this_name"):
                with pytest.raises(UsageError):
                    insight.table("rows", argument)


class TestRedis:
    def test_keys_with_times_to_live_and_values_of_each_type(self, env: TritonEnvironment, word: str) -> None:
        hostile = word.encode() + NOT_TEXT
        with env.redis.client() as client, looking(env.redis) as insight:
            client.set(hostile, NOT_TEXT, ex=1000)
            client.rpush(f"{word}-list", *(NOT_TEXT,) * 300)
            client.sadd(f"{word}-set", NOT_TEXT)
            client.zadd(f"{word}-zset", {NOT_TEXT: float("inf")})
            client.hset(f"{word}-hash", mapping={NOT_TEXT: "x" * LARGE, "field": "value"})
            client.xadd(f"{word}-stream", {"name": HOSTILE})
            client.pfadd(f"{word}-others", "x")
            keys = insight.table("keys", f"{env.redis.database}/{word}")
            by_key = {row.cells[0]: cells(row, keys) for row in keys.rows}
            assert len(by_key) == 7
            shown = by_key[readable(hostile)]
            assert shown["type"] == "string"
            assert 0 < shown["expires in"] <= 1000
            assert by_key[f"{word}-hash"]["memory"] > LARGE
            assert by_key[f"{word}-list"]["expires in"] is None
            values = {row.cells[0]: insight.table(row.opens, row.key) for row in keys.rows}
            assert all(is_small(table) for table in values.values())
            text = "\\xff\\xfe" + HOSTILE
            assert values[readable(hostile)].rows == (Row((text,)),)
            assert values[f"{word}-list"].rows == (Row((text,)),) * ROWS
            assert values[f"{word}-list"].is_cut
            assert values[f"{word}-set"].rows == (Row((text,)),)
            assert values[f"{word}-zset"].rows == (Row(("inf", text)),)
            assert ("field", "value") in [row.cells for row in values[f"{word}-hash"].rows]
            assert values[f"{word}-stream"].rows[0].cells[1] == f"name: {HOSTILE}"

    def test_of_a_large_collection_no_more_is_read_than_is_shown(
        self, env: TritonEnvironment, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size, sizes = 1000, {"HSCAN": 0, "SSCAN": 0}
        ask = Connection.ask

        def measured(self: Connection, *command: Any) -> Any:
            answer = ask(self, *command)
            if command[0] in sizes:
                sizes[command[0]] += sum(map(len, answer[1]))
            return answer

        monkeypatch.setattr(redis_values, "_ROOM", 20 * size)
        monkeypatch.setattr(Connection, "ask", measured)
        with env.redis.client() as client, looking(env.redis) as insight:
            values = [f"{number:0{size}}" for number in range(2000)]
            client.hset(f"{word}-hash", mapping=dict(enumerate(values)))
            client.sadd(f"{word}-set", *values)
            for kind in ("hash", "set"):
                table = insight.table("value", f"{env.redis.database}/{word}-{kind}")
                assert table.is_cut
                assert len(table.rows) >= 10
            client.delete(f"{word}-hash", f"{word}-set")
        assert all(0 < read < 100 * size for read in sizes.values()), sizes

    def test_keys_are_grouped_by_what_they_begin_with(self, env: TritonEnvironment, word: str) -> None:
        number = env.redis.database
        with env.redis.client() as client, looking(env.redis) as insight:
            client.mset({f"{word}:user:{each}:name": "x" * 100 for each in range(50)})
            client.mset({f"{word}:user:{each}:name:first": "y" for each in range(2)})
            client.set(f"{word}:job:1", "a", ex=1000)
            client.set(f"{word}:job:2", "b", ex=2000)
            client.rpush(f"{word}:job:", "c")
            client.set(f"{word}:one:alone", "d")
            client.set(word, "e")
            shown = insight.table("keys", f"{number}/{word}")
            assert [(row.cells[:2], row.opens, row.key) for row in shown.rows] == [
                ((f"{word}:", 56), "keys", f"{number}/{word}:"),
                ((word, 1), "value", f"{number}/{word}"),
            ]
            inside = insight.table(shown.rows[0].opens, shown.rows[0].key)
            by_name = {row.cells[0]: (cells(row, inside), row.opens) for row in inside.rows}
            assert [(name, each["keys"], opens) for name, (each, opens) in by_name.items()] == [
                (f"{word}:user:", 52, "keys"),
                (f"{word}:job:", 3, "keys"),
                (f"{word}:one:alone", 1, "value"),
            ]
            jobs = by_name[f"{word}:job:"][0]
            assert jobs["type"] == "list, string"
            assert 0 < jobs["expires in"] <= 1000
            assert by_name[f"{word}:user:"][0]["memory"] > 50 * 100
            assert by_name[f"{word}:user:"][0]["expires in"] is None
            # The key that is called as its prefix is among those of the prefix.
            assert [row.cells[0] for row in insight.table("keys", f"{number}/{word}:job:").rows] == [
                f"{word}:job:",
                f"{word}:job:1",
                f"{word}:job:2",
            ]
            # As long as all go on alike, nothing is to be opened.
            deep = insight.table("keys", f"{number}/{word}:user:1:")
            assert [(row.cells[0], row.opens) for row in deep.rows] == [
                (f"{word}:user:1:name", "value"),
                (f"{word}:user:1:name:first", "value"),
            ]

    def test_of_many_keys_some_are_looked_at_and_one_that_is_named_is_found(
        self, env: TritonEnvironment, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_keys, "_CALLS", 1)
        number = env.redis.database
        with env.redis.client() as client, looking(env.redis) as insight:
            client.mset({f"{word}:{each % 300}:{each}": each for each in range(9000)})
            client.set(f"rare-{word}", "found")
            many = insight.table("keys", f"{number}/")
            assert many.is_cut
            assert f"Of {client.dbsize()} keys, 1000 were looked at." in many.note
            # What is rare is looked for until the time is over; a key with that very name is not looked for at all.
            for beginning in (f"rare-{word}", f"rare-{word[:-1]}"):
                assert [row.cells[0] for row in insight.table("keys", f"{number}/{beginning}").rows] == [f"rare-{word}"]

    def test_10000_keys_and_a_large_value(self, env: TritonEnvironment, word: str) -> None:
        with env.redis.client() as client, looking(env.redis) as insight:
            client.mset({f"{word}:{number}": number for number in range(10_000)})
            client.set(f"large-{word}", "x" * LARGE)
            keys = insight.table("keys", f"0/{word}:")
            assert is_small(keys)
            assert keys.is_cut
            assert len(keys.rows) == ROWS
            assert [row.cells[0] for row in insight.table("keys", f"0/{word}:9999").rows] == [f"{word}:9999"]
            assert insight.table("keys", f"0/{word}*").rows == ()
            value = insight.table("value", f"0/large-{word}")
            assert value.is_cut
            assert value.rows == (Row(("x" * PREVIEW,)),)
            assert insight.sample()["keys"] > 10_000
            assert insight.table("databases").rows[0].cells[:2] == (0, client.dbsize())

    def test_clients_and_slow_commands(self, env: TritonEnvironment, word: str) -> None:
        with env.redis.client(client_name=word) as client, looking(env.redis) as insight:
            client.eval(f"local sum = 0; for i = 1, 1e7 do sum = sum + i end; return '{word}'", 0)
            shown = found(insight, "slow", word)
            assert shown["took"] > 0
            assert shown["command"].startswith("EVAL local sum")
            shown = found(insight, "clients", word)
            assert shown["database"] == env.redis.database
            assert not rows_with(insight.table("clients"), redis_insight._NAME)
            assert insight.sample()["connections"] >= 1

    def test_messages_and_commands_as_they_come(self, env: TritonEnvironment, word: str) -> None:
        channel = f"{word}[*]<b>"
        ended = threading.Event()
        with ExitStack() as stack:
            insight, client = stack.enter_context(looking(env.redis)), stack.enter_context(env.redis.client())

            def publish() -> None:
                while not ended.wait(0.1):
                    client.publish(channel, NOT_TEXT)
                    insight.sample()

            subscribed = stack.enter_context(client.pubsub())
            subscribed.subscribe(channel)
            assert until(lambda: subscribed.get_message(timeout=1))
            channels = insight.table("channels")
            (row,) = rows_with(channels, word)
            assert row.cells == (channel, 1)
            publishing = threading.Thread(target=publish)
            publishing.start()
            stack.callback(publishing.join)
            stack.callback(ended.set)
            messages = insight.stream(row.opens, row.key, SECONDS, threading.Event())
            assert next(messages) == f"{channel}: \\xff\\xfe{HOSTILE}"
            # As seen from outside, it is not subscribed to the channel.
            assert client.pubsub_numsub(channel) == [(channel.encode(), 1)]
            messages.close()  # type: ignore[attr-defined]
            cancelled = threading.Event()
            seen = []
            for line in insight.stream("monitor", "", SECONDS, cancelled):
                seen.append(line)
                if sum(word in line for line in seen) == 3:
                    cancelled.set()
            assert '"PUBLISH"' in next(line for line in seen if word in line)
            own = [each["addr"] for each in client.client_list() if each["name"] == redis_insight._NAME]
            assert own
            assert not any(address in line for address in own for line in seen)
            assert list(insight.stream("messages", f"{word}-silent", 0.01, threading.Event())) == []

    def test_no_connection_is_left(self, env: TritonEnvironment) -> None:
        with env.redis.client() as client:

            def own() -> int:
                return sum(each["name"] == redis_insight._NAME for each in client.client_list())

            with looking(env.redis) as insight:
                insight.sample()
                insight.table("keys", "3/")
                list(insight.stream("monitor", "", 0.01, threading.Event()))
                assert until(lambda: own() == 1)
                (looker,) = (each["id"] for each in client.client_list() if each["name"] == redis_insight._NAME)
                client.client_kill_filter(_id=looker)
                assert insight.sample()
            assert until(lambda: own() == 0)

    def test_logical_databases_of_namespaces_are_marked(self, session_env: TritonEnvironment, word: str) -> None:
        with session_env.namespace(services=("redis",)) as namespace, looking(session_env.redis) as insight:
            with namespace.redis.client() as client:
                client.set(word, 1)
            number = namespace.redis.database
            (row,) = [row for row in insight.table("databases").rows if row.cells[0] == number]
            assert row.mark == "space"
            (key,) = insight.table(row.opens, row.key).rows
            assert key.cells[0] == word

    def test_the_number_of_the_logical_database_is_needed(self, env: TritonEnvironment) -> None:
        with looking(env.redis) as insight:
            for argument in ("prefix", "x/prefix", "²/prefix"):
                with pytest.raises(UsageError, match="names no logical database"):
                    insight.table("keys", argument)


@pytest.fixture(scope="module", params=[*RUNTIMES, "seaweedfs"])
def s3_env(
    request: pytest.FixtureRequest, warm: Callable[[str], TritonEnvironment], embedded_packages: None
) -> Iterator[TritonEnvironment]:
    if request.param != "seaweedfs":
        yield warm(request.param)
        return
    with TritonEnvironment(
        Settings(triton_s3_server="seaweedfs", **TO_BOOT), services=("s3",), runtime="embedded"
    ) as environment:
        yield environment


class TestS3:
    def test_objects_with_their_sizes_and_content(self, s3_env: TritonEnvironment, word: str) -> None:
        bucket = s3_env.s3.bucket
        contents = {
            f"{word}/text": HOSTILE.encode() * 10_000,
            f"{word}/raw <b>\x1b é?@&": NOT_TEXT,
            f"{word}/empty": b"",
            f"{word}/folder/large": os.urandom(LARGE),
        }
        client = s3_env.s3.client()
        for key, content in contents.items():
            client.put_object(Bucket=bucket, Key=key, Body=content, Metadata={"made": "by-a-test"})
        with looking(s3_env.s3) as insight:
            objects = insight.table("objects", f"{bucket}/{word}/")
            shown = {row.cells[0]: row for row in objects.rows}
            assert objects.rows[0].cells[0] == f"{word}/folder/"
            (large,) = insight.table("objects", shown.pop(f"{word}/folder/").key).rows
            shown[large.cells[0]] = large
            assert {key: row.cells[1] for key, row in shown.items()} == {
                key: len(content) for key, content in contents.items()
            }
            for key, row in shown.items():
                document = insight.document(row.download)
                assert document.name == key.rpartition("/")[2]
                assert document.size == len(contents[key])
                assert b"".join(document.chunks) == contents[key]
                table = insight.table(row.opens, row.key)
                assert is_small(table)
                described = {str(each.cells[0]): str(each.cells[1]) for each in table.rows}
                assert described["key"] == key
                assert described["bytes"] == str(len(contents[key]))
                assert described["metadata made"] == "by-a-test"
                assert table.is_cut == (len(contents[key]) > PREVIEW)
                if key.endswith("/text"):
                    assert described["content"].startswith(HOSTILE)
                    assert len(described["content"].encode()) <= PREVIEW
                elif "raw" in key:
                    assert described["content"] == NOT_TEXT.hex(" ")
                else:
                    assert ("content" in described) == bool(contents[key])
            sample = insight.sample()
            assert sample["objects"] >= len(contents)
            assert sample["objects_bytes"] >= LARGE
            assert sample["count_is_cut"] == 0
            (row,) = rows_with(insight.table("buckets"), bucket)[:1]
            assert row.cells[2] >= len(contents)  # type: ignore[operator]
            assert insight.table(row.opens, row.key).rows
        for key in contents:
            client.delete_object(Bucket=bucket, Key=key)

    def test_versions_and_deletions(self, s3_env: TritonEnvironment, word: str) -> None:
        client = s3_env.s3.client()
        client.create_bucket(Bucket=word)
        client.put_bucket_versioning(Bucket=word, VersioningConfiguration={"Status": "Enabled"})
        for number in range(3):
            client.put_object(Bucket=word, Key="kept", Body=b"version %d" % number)
        client.put_object(Bucket=word, Key="deleted", Body=b"")
        client.delete_object(Bucket=word, Key="deleted")
        with looking(s3_env.s3) as insight:
            table = insight.table("objects", word)
            states = [(row.cells[0], row.cells[4]) for row in table.rows]
            assert states[:2] == [("deleted", "deleted"), ("deleted", "older")]
            assert states[2] == ("kept", "")
            assert states[3:] == [("kept", "older")] * 2
            downloaded = [b"".join(insight.document(row.download).chunks) for row in table.rows[2:]]
            assert downloaded[0] == b"version 2"
            assert sorted(downloaded) == [b"version 0", b"version 1", b"version 2"]
            assert table.rows[0].download == table.rows[0].opens == ""

    def test_many_objects_are_counted_up_to_a_bound(
        self, s3_env: TritonEnvironment, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = 5
        monkeypatch.setattr(s3_insight, "ROWS", rows)
        monkeypatch.setattr(counting, "_REQUESTS", 1)
        monkeypatch.setattr(counting, "_SHORTEST_PAUSE", 600.0)
        client = s3_env.s3.client()
        for number in range(rows + 1):
            client.put_object(Bucket=s3_env.s3.bucket, Key=f"{word}/{number}", Body=b"x")
        with looking(s3_env.s3) as insight:
            assert insight.table("objects", f"{s3_env.s3.bucket}/{word}/").is_cut
            assert len(insight.table("objects", f"{s3_env.s3.bucket}/{word}/").rows) == rows
            client.create_bucket(Bucket=word)
            sample = insight.sample()
            assert sample["objects"] >= rows + 1
            assert sample["count_is_cut"] == 1
            assert "ended early" in insight.table("buckets").note
            # Remembered: no list is asked for again.
            client.put_object(Bucket=s3_env.s3.bucket, Key=f"{word}/more", Body=b"x")
            assert insight.sample() == sample
        keys = [{"Key": f"{word}/{end}"} for end in (*range(rows + 1), "more")]
        client.delete_objects(Bucket=s3_env.s3.bucket, Delete={"Objects": keys})  # type: ignore[typeddict-item]

    def test_buckets_of_namespaces_are_marked(self, session_env: TritonEnvironment, word: str) -> None:
        with session_env.namespace(services=("s3",)) as namespace, looking(session_env.s3) as insight:
            namespace.s3.client().create_bucket(Bucket=word)
            marked = {row.cells[0]: row.mark for row in insight.table("buckets").rows}
            assert marked[namespace.s3.bucket] == "namespace"
            assert [mark for name, mark in marked.items() if str(name).startswith(word)] == ["namespace"]
            assert marked[session_env.s3.bucket] == ""

    def test_an_object_that_changes_while_it_is_read(self, s3_env: TritonEnvironment, word: str) -> None:
        client = s3_env.s3.client()
        client.put_object(Bucket=s3_env.s3.bucket, Key=word, Body=b"x" * LARGE)
        with looking(s3_env.s3) as insight:
            document = insight.document(f"{s3_env.s3.bucket}/{word}")
            assert next(document.chunks)
            client.put_object(Bucket=s3_env.s3.bucket, Key=word, Body=b"y" * LARGE)
            with pytest.raises(QueryFailed):
                b"".join(document.chunks)
        client.delete_object(Bucket=s3_env.s3.bucket, Key=word)

    def test_what_is_not_there_is_wrong_use(self, s3_env: TritonEnvironment, word: str) -> None:
        with looking(s3_env.s3) as insight:
            with pytest.raises(UsageError, match="does not exist"):
                insight.table("objects", f"{word}/")
            for argument in ("", "bucket", f"{s3_env.s3.bucket}/{word}", f"{word}/key"):
                with pytest.raises(UsageError):
                    insight.table("object", argument)
                with pytest.raises(UsageError):
                    insight.document(argument)


def test_a_server_that_stops_to_answer_is_not_waited_for(warm: Callable[[str], TritonEnvironment]) -> None:
    """PostgreSQL's client would wait without end; the other clients know what the test below shows."""
    with looking(warm("embedded").postgres, 1) as insight:
        insight.sample()
        pid = insight._kept.info.backend_pid  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises((QueryFailed, ServiceDied)):
                insight.sample()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert insight.sample()


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "closed"])
@pytest.mark.parametrize("name", list(SERVICES))
def test_a_server_that_does_not_answer_is_an_error(name: str, is_silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1])
        if not is_silent:
            listener.close()
        kind = SERVICES[name]
        ports = dict.fromkeys((port.name for port in kind.recipe(Settings()).ports), endpoint)
        with looking(kind(Settings(), Placement(ports)), 1) as insight:
            with pytest.raises(QueryFailed) as caught:
                insight.sample()
            assert caught.value.what == f"{kind.title} did not answer a question about itself."
            assert caught.value.where == str(endpoint)
            assert caught.value.cause
            for panel in kind.parts.load("insight").panels:
                if panel.is_stream:
                    with pytest.raises(QueryFailed):
                        list(insight.stream(panel.name, "", 1, threading.Event()))
            with pytest.raises(NotOffered if name != "s3" else QueryFailed):
                insight.document("bucket/key")


@pytest.mark.parametrize("value", [b"", b"plain", NOT_TEXT, b"\\xff", b"\\\\x", bytes(range(256))])
def test_names_that_are_not_text_keep_their_bytes(value: bytes) -> None:
    assert raw(readable(value).encode().decode()) == value


@pytest.mark.parametrize("client", ["127.0.0.1:6379", "[::1]:6379", "unix:/run/redis.sock", "lua"])
def test_a_line_of_monitor_names_its_client(client: str) -> None:
    command = redis_insight._COMMAND.match(f'1339518083.1 [3 {client}] "GET" "] \\"x"'.encode())
    assert command is not None
    assert command["client"] == client.encode()
