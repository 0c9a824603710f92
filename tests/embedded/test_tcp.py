"""The native protocol, with the clients of other people and with an engine that asks another one."""

import asyncio
import datetime
import decimal
import ipaddress
import itertools
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asynch
import pytest
import sqlalchemy as sa
from clickhouse_driver import Client, dbapi
from clickhouse_driver.errors import ErrorCodes, ServerException

from .conftest import PASSWORD, PATIENCE, USER, Server

Make = Callable[..., Client]

_RUNNING = "SELECT count() FROM system.processes WHERE query LIKE '%{}%' AND query NOT LIKE '%system.processes%'"


@pytest.fixture
def make(server: Server, database: str) -> Iterator[Make]:
    """Makes clients in the test's database."""
    made = []

    def client(**options: Any) -> Client:
        options = {"user": USER, "password": PASSWORD, "database": database} | options
        made.append(Client("127.0.0.1", server.native_port, send_receive_timeout=PATIENCE, **options))
        return made[-1]

    yield client
    for each in made:
        each.disconnect()


@pytest.fixture
def client(make: Make) -> Client:
    """A client in the test's database."""
    return make()


def test_an_insert_into_a_function_gets_its_columns(client: Client) -> None:
    assert client.execute("INSERT INTO FUNCTION null('x UInt64, y String') (x, y) VALUES", [(1, "a"), (2, "b")]) == 2


def test_columns_come_before_the_query_has_run(client: Client) -> None:
    rows = client.execute_iter("SELECT throwIf(sleep(0.1) = 0) AS x", with_column_types=True)
    assert next(rows) == [("x", "UInt8")]
    with pytest.raises(ServerException):
        next(rows)


def test_progress_ends_with_all_rows(client: Client) -> None:
    client.execute("SELECT number FROM system.numbers LIMIT 42")
    progress = client.last_query.progress
    assert (progress.rows, progress.total_rows) == (42, 42)


def test_the_log_names_the_client(make: Make) -> None:
    client = make(client_name="difficult")
    client.execute("SELECT 1", query_id=(mine := str(uuid.uuid4())))
    client.execute("SYSTEM FLUSH LOGS")
    asked = "SELECT DISTINCT interface, client_name FROM system.query_log WHERE query_id = %(mine)s"
    ((interface, name),) = client.execute(asked, {"mine": mine})
    assert (interface, name.endswith("difficult")) == (1, True)


TYPES = {
    "i8": "Int8", "i64": "Int64", "u128": "UInt128", "i256": "Int256", "f32": "Float32", "f64": "Float64",
    "truth": "Bool", "text": "String", "fixed": "FixedString(5)", "day": "Date", "far": "Date32",
    "time": "DateTime('UTC')", "fine": "DateTime64(6, 'Europe/Berlin')", "uid": "UUID", "ip4": "IPv4", "ip6": "IPv6",
    "small": "Enum8('a' = 1, 'b(,)' = 2)", "large": "Enum16('x' = 300, 'y' = -4)", "money": "Decimal(18, 4)",
    "huge": "Decimal(76, 10)", "maybe": "Nullable(String)", "maybe_number": "Nullable(Int32)",
    "list": "Array(String)", "nested": "Array(Array(Nullable(UInt16)))", "low": "LowCardinality(String)",
    "low_maybe": "LowCardinality(Nullable(String))", "lows": "Array(LowCardinality(String))",
    "pair": "Tuple(a Int8, b String)", "map": "Map(String, Array(UInt8))",
    "sum": "SimpleAggregateFunction(sum, UInt64)", "place": "Point", "ring": "Ring",
    "group": "Nested(n Int8, s String)",
}  # fmt: skip
"""Those that clickhouse-driver both reads and writes."""


@pytest.mark.parametrize("compression", [False, "lz4"])
def test_every_type_both_ways(server: Server, database: str, make: Make, compression: str | bool) -> None:
    client = make(compression=compression)
    # Text that is not UTF-8 is bytes for this client, with NULLs and all.
    client.connection.context.client_settings |= {"strings_as_bytes": True}
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    server.ask(f"CREATE TABLE source ({columns}) ENGINE = MergeTree ORDER BY i8", database=database)
    server.ask("CREATE TABLE target AS source", database=database)
    # A client has one NaN, and a key of a dictionary once.
    whole = "NOT isNaN(f32) AND NOT isNaN(f64) AND length(arrayDistinct(mapKeys(map))) = length(map)"
    random = f"generateRandom('{columns.replace(chr(39), chr(92) + chr(39))}', 1, 10, 3)"
    server.ask(f"INSERT INTO source SELECT * FROM {random} WHERE {whole} LIMIT 500", database=database)
    everything = "SELECT * FROM source ORDER BY ALL"
    rows = client.execute(everything)
    assert len(rows) == 500
    assert client.execute("INSERT INTO target VALUES", rows) == 500
    there = server.post(f"{everything} FORMAT RowBinary", database=database).content
    assert len(there) > 500 * len(TYPES)
    assert server.post(everything.replace("source", "target") + " FORMAT RowBinary", database=database).content == there


def test_values_are_those_that_were_sent(client: Client) -> None:
    client.execute(
        "CREATE TABLE t (id UInt64, name LowCardinality(String), at DateTime64(3, 'UTC'), price Decimal(18, 4),"
        " tags Array(String), props Map(String, Int32), maybe Nullable(Float64), uid UUID, ip IPv4)"
        " ENGINE = MergeTree ORDER BY id"
    )
    row = (
        *(7, "ä€", datetime.datetime(2026, 1, 1, 12, 30, tzinfo=datetime.UTC), decimal.Decimal("1.2500")),
        *(["x", ""], {"a": -1}, None, uuid.UUID(int=5), ipaddress.IPv4Address("10.0.0.1")),
    )
    assert client.execute("INSERT INTO t VALUES", [row]) == 1
    assert client.execute("SELECT * FROM t") == [row]
    columns = client.execute("SELECT id, at, name FROM t WHERE 0", with_column_types=True)
    assert columns == ([], [("id", "UInt64"), ("at", "DateTime64(3, 'UTC')"), ("name", "LowCardinality(String)")])


def test_json_both_ways(client: Client) -> None:
    client.execute("CREATE TABLE t (j JSON) ENGINE = Memory")
    documents = [({"a": 1, "b": {"c": "x"}},), ({"a": 2, "d": [1, 2]},), ({"e": 1.5},)]
    client.execute("INSERT INTO t VALUES", documents)
    assert client.execute("SELECT j FROM t") == documents


@pytest.mark.parametrize("revision", [54429, 54440, 54447, 54453, 54454, 54458, 54460, 54468])
def test_each_revision_speaks_what_it_knows(make: Make, revision: int) -> None:
    client = make(client_revision=revision, compression="lz4", settings={"max_threads": 2})
    client.execute("CREATE TABLE t (a Int32, b Array(LowCardinality(String))) ENGINE = Memory")
    client.execute("INSERT INTO t VALUES", [(1, ["x"]), (2, [])])
    assert client.execute("SELECT *, getSetting('max_threads') FROM t ORDER BY a") == [(1, ["x"], 2), (2, [], 2)]
    assert client.connection.server_info.used_revision == min(revision, 54460)


def test_a_client_of_before_these_revisions_is_refused(make: Make) -> None:
    with pytest.raises(ServerException, match="54406"):
        make(client_revision=54406).execute("SELECT 1")


def test_statements_give_what_they_give_over_http(client: Client) -> None:
    assert client.execute("SHOW TABLES", with_column_types=True) == ([], [("name", "String")])
    client.execute("CREATE TABLE t (a Int8) ENGINE = Memory")
    assert client.execute("SHOW TABLES") == [("t",)]
    assert client.execute("EXISTS TABLE t") == [(1,)]
    assert client.execute("DESCRIBE TABLE t")[0][:2] == ("a", "Int8")
    assert client.execute("WITH 1 AS x SELECT x FORMAT JSON -- the client formats\n;") == [(1,)]
    assert client.execute("SELECT number FROM numbers(3) FORMAT Null") == []
    assert client.execute("INSERT INTO t SELECT number FROM numbers(4)") == []
    assert client.last_query.progress.written_rows == 4
    assert client.execute("SELECT count() FROM t") == [(4,)]


def test_a_connection_is_a_session(client: Client, database: str) -> None:
    client.execute("SET max_block_size = 777")
    client.execute("CREATE TEMPORARY TABLE mine (a Int8)")
    client.execute("INSERT INTO mine VALUES", [(1,)])
    assert client.execute("SELECT a, getSetting('max_block_size'), currentDatabase() FROM mine") == [(1, 777, database)]
    # Settings of a query are for that query.
    assert client.execute("SELECT getSetting('max_block_size')", settings={"max_block_size": 5}) == [(5,)]
    assert client.execute("SELECT getSetting('max_block_size')") == [(777,)]
    client.execute("USE system")
    assert client.execute("SELECT currentDatabase(), count() FROM one") == [("system", 1)]


def test_settings_that_are_not_known(make: Make) -> None:
    assert make().execute("SELECT 1", settings={"of_the_future": 1}) == [(1,)]
    with pytest.raises(ServerException, match="of_the_future"):
        make(settings_is_important=True).execute("SELECT 1", settings={"of_the_future": 1})


def test_parameters(make: Make) -> None:
    client = make(settings={"server_side_params": True})
    values = {"n": 4, "s": "it's a \\ and\na \t", "l": [1, 2], "d": datetime.date(2026, 1, 2)}
    found = client.execute("SELECT {n:UInt8} + 1, {s:String}, {l:Array(Int8)}, {d:Date}", values)
    assert found == [(5, values["s"], [1, 2], values["d"])]


def test_inserts_of_some_columns_fill_the_others(client: Client) -> None:
    client.execute(
        "CREATE TABLE t (a Int32, `b c` String DEFAULT concat('d', toString(a)), m Int32 MATERIALIZED a + 1,"
        " e Int32 EPHEMERAL, f Int32 DEFAULT e * 2, x ALIAS a) ENGINE = MergeTree ORDER BY a"
    )
    client.execute("INSERT INTO t VALUES", [(1, "all", 9)])
    client.execute("INSERT INTO t (`b c`, t.a) VALUES", [("named", 2)])
    client.execute("INSERT INTO t (a, e) VALUES", [(3, 21)])
    client.execute("INSERT INTO t (* EXCEPT `b c`) VALUES", [(4, 1)])
    client.execute("INSERT INTO t (a) VALUES (5), (6)")
    client.execute("INSERT INTO t (a) SELECT a + 1 FROM input('a Int32') FORMAT Values", [(6,)])
    assert client.execute("INSERT INTO t (a) VALUES", []) == 0
    rows = client.execute("SELECT a, `b c`, m, f, x FROM t ORDER BY a")
    assert rows == [
        *((1, "all", 2, 9, 1), (2, "named", 3, 0, 2), (3, "d3", 4, 42, 3), (4, "d4", 5, 1, 4)),
        *((5, "d5", 6, 0, 5), (6, "d6", 7, 0, 6), (7, "d7", 8, 0, 7)),
    ]


def test_a_failed_query_leaves_its_connection_usable(client: Client) -> None:
    for statement, data, code in (
        ("SELECT nope", None, ErrorCodes.UNKNOWN_IDENTIFIER),
        ("SELEC", None, ErrorCodes.SYNTAX_ERROR),
        ("SELECT 1; SELECT 2", None, ErrorCodes.SYNTAX_ERROR),
        ("SELECT throwIf(number = 150000) FROM numbers(200000)", None, 395),
        ("INSERT INTO nope VALUES", [(1,)], ErrorCodes.UNKNOWN_TABLE),
    ):
        with pytest.raises(ServerException) as failure:
            client.execute(statement, data)
        assert failure.value.code == code
        assert client.execute("SELECT 1") == [(1,)]


def test_external_tables(client: Client) -> None:
    tables: list[dict[str, Any]] = [
        {"name": "ext", "structure": [("a", "Int32"), ("b", "Array(String)")], "data": [{"a": 1, "b": ["x"]}]},
        {"name": "none", "structure": [("a", "Int32")], "data": []},
    ]
    query = "SELECT a, b, (SELECT count() FROM none) FROM ext"
    assert client.execute(query, external_tables=tables) == [(1, ["x"], 0)]
    with pytest.raises(ServerException) as failure:
        client.execute(query)
    assert failure.value.code == ErrorCodes.UNKNOWN_TABLE


def test_totals_and_extremes(client: Client) -> None:
    query = "SELECT number % 2 AS k, toString(count()) AS k2 FROM numbers(5) GROUP BY k WITH TOTALS ORDER BY k"
    # The client adds them to the rows.
    assert client.execute(query) == [(0, "3"), (1, "2"), (0, "5")]
    rows = client.execute("SELECT number, '' FROM numbers(3)", settings={"extremes": 1})
    assert rows == [(0, ""), (1, ""), (2, ""), (0, ""), (2, "")]


@pytest.mark.parametrize("columns", ["v", "k, v"])
@pytest.mark.parametrize("rows", [0, 7, 150_000])
@pytest.mark.parametrize("clauses", ["GROUP BY ALL WITH TOTALS", "", "GROUP BY ALL WITH TOTALS, extremes"])
def test_what_comes_with_totals_and_extremes_is_what_comes_without(
    make: Make, columns: str, rows: int, clauses: str
) -> None:
    client = make()
    client.connection.context.client_settings |= {"strings_as_bytes": True}
    client.execute(
        "CREATE TABLE t (v Nullable(String), k String) ENGINE = MergeTree ORDER BY tuple() AS"
        " SELECT [unhex('ff0a5c4e'), '', 'NULL', NULL, '\\\\N', concat('\\t', toString(number))][number % 6 + 1], "
        f"if(number = 0, 'c0', repeat('\\n', number % 3)) FROM numbers({rows})"
    )
    group, _, extremes = clauses.partition(", ")
    settings = {"extremes": 1} if extremes or not group else {}
    query = f"SELECT {columns} FROM t {group.removesuffix('WITH TOTALS')} ORDER BY ALL"
    expected = client.execute(query)
    found = client.execute(query.replace("ORDER", f"{'WITH TOTALS' if group else ''} ORDER"), settings=settings)
    assert found[: len(expected)] == expected
    # The client adds totals and extremes to the rows.
    assert len(found) - len(expected) == bool(group) + 2 * bool(settings and rows)


def test_a_name_with_extremes_in_it_changes_nothing(client: Client) -> None:
    client.execute("CREATE TABLE weather_extremes (extremes Int8) ENGINE = Memory AS SELECT 1")
    assert client.execute("SELECT * FROM weather_extremes WHERE extremes = 1") == [(1,)]
    # Results are still sent while they are made: with extremes this one would be an error before its first row.
    rows = client.execute_iter("SELECT number FROM system.numbers", settings={"max_rows_to_read": 20_000_000})
    assert next(rows) == (0,)
    client.cancel()
    client.execute("SET extremes = 1")
    assert client.execute("SELECT 2") == [(2,), (2,), (2,)]
    assert client.execute("SELECT 2 SETTINGS extremes = 0") == [(2,)]
    client.execute("SET extremes = 0")
    assert client.execute("SELECT 2") == [(2,)]


def test_large_blocks(make: Make) -> None:
    client = make(compression="lz4")
    client.execute("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    rows = [(number, "x" * (number % 40)) for number in range(300_000)]
    assert client.execute("INSERT INTO t VALUES", rows) == len(rows)
    client.execute("INSERT INTO t VALUES", [(300_000, "y" * (5 << 20))])
    assert client.execute("SELECT * FROM t ORDER BY a SETTINGS max_block_size = 200000") == [
        *rows,
        (300_000, "y" * (5 << 20)),
    ]


def test_progress_comes_while_the_query_runs(client: Client) -> None:
    # It does not end before its reports have come, however slow the machine is.
    endless = "SELECT count(), sum(sleepEachRow(0.01)) FROM numbers(1000000000)"
    progress = client.execute_with_progress(endless, settings={"max_block_size": 1})
    steps = list(itertools.islice(progress, 3))
    client.cancel()
    assert steps == sorted(steps)
    assert 0 < steps[-1][0] < steps[-1][1]
    progress = client.execute_with_progress("SELECT count() FROM numbers(12)")
    assert list(progress)[-1] == (12, 12)
    assert progress.get_result() == [(12,)]


def test_a_cancelled_query_ends_without_an_error(client: Client, server: Server) -> None:
    rows = client.execute_iter("SELECT number FROM system.numbers", settings={"max_block_size": 1000})
    assert next(rows) == (0,)
    client.cancel()
    assert client.execute("SELECT 1") == [(1,)]
    name = str(uuid.uuid4())
    client.connection.send_query(f"SELECT sum(number), '{name}' FROM system.numbers")
    client.connection.send_external_tables(None)
    running = _RUNNING.format(name)
    await_true(lambda: server.ask(running) == "1")
    client.cancel()
    assert client.execute("SELECT 2") == [(2,)]
    assert server.ask(running) == "0"


def test_what_a_client_leaves_behind_is_stopped(make: Make, server: Server) -> None:
    client, name = make(), str(uuid.uuid4())
    client.connection.send_query(f"SELECT sum(number), '{name}' FROM system.numbers")
    client.connection.send_external_tables(None)
    running = _RUNNING.format(name)
    await_true(lambda: server.ask(running) == "1")
    client.disconnect()
    await_true(lambda: server.ask(running) == "0")


def test_kill_query_by_the_id_of_its_client(make: Make, server: Server) -> None:
    client, query_id, failures = make(), str(uuid.uuid4()), []

    def run() -> None:
        with pytest.raises(ServerException) as failure:
            client.execute("SELECT sum(number) FROM system.numbers", query_id=query_id)
        failures.append(failure.value.code)

    running = threading.Thread(target=run)
    running.start()
    await_true(lambda: server.ask(f"KILL QUERY WHERE query_id = '{query_id}' SYNC FORMAT TSV") != "")
    running.join(PATIENCE)
    assert failures == [394]
    again = make()
    assert again.execute("SELECT 1", query_id=query_id) == [(1,)]


def test_of_queries_with_one_id_only_one_runs(make: Make) -> None:
    clients, query_id = [make() for _ in range(10)], str(uuid.uuid4())
    together = threading.Barrier(len(clients))

    def run(client: Client) -> int:
        together.wait(PATIENCE)
        try:
            # The server has to look up whether it knows the setting, while the other queries come.
            client.execute("SELECT sleep(1)", query_id=query_id, settings={"of_the_future": 1})
        except ServerException as failure:
            return int(failure.code)
        return 0

    with ThreadPoolExecutor(len(clients)) as pool:
        codes = list(pool.map(run, clients))
    assert set(codes) <= {0, 216}  # QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
    assert 0 in codes
    assert [client.execute("SELECT 1", query_id=query_id) for client in clients] == [[(1,)]] * len(clients)


def await_true(condition: Callable[[], bool]) -> None:
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=PATIENCE)
    while not condition():
        assert datetime.datetime.now() < deadline


def test_fifty_connections_at_once(make: Make) -> None:
    make().execute("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    clients = [make(compression="lz4" if number % 2 else False) for number in range(50)]

    def work(number: int) -> tuple[int, int]:
        client = clients[number]
        client.execute("INSERT INTO t VALUES", [(number, f"{number}/{row}") for row in range(200)])
        client.execute(f"CREATE TEMPORARY TABLE mine AS SELECT * FROM t WHERE a = {number}")
        ((rows, names),) = client.execute("SELECT count(), uniqExact(b) FROM mine")
        assert len(client.execute("SELECT number, toString(number) FROM numbers(20000)")) == 20000
        return rows, names

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(work, range(50))) == [(200, 200)] * 50
    assert make().execute("SELECT count(), uniqExact(b) FROM t") == [(10000, 10000)]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"password": "wrong"}, 516),
        ({"user": "stranger"}, 516),
        ({"user": "elsewhere"}, 516),
        ({"database": "missing"}, ErrorCodes.UNKNOWN_DATABASE),
    ],
    ids=lambda value: str(value),
)
def test_who_may_not_log_in(make: Make, options: dict[str, str], code: int) -> None:
    with pytest.raises(ServerException) as failure:
        make(**options).execute("SELECT 1")
    assert failure.value.code == code


def test_readonly(make: Make) -> None:
    client = make()
    client.execute("CREATE TABLE t (a Int8) ENGINE = Memory")
    for statement, data in (("INSERT INTO t VALUES", [(1,)]), ("DROP TABLE t", None)):
        with pytest.raises(ServerException) as failure:
            client.execute(statement, data, settings={"readonly": 1})
        assert failure.value.code == ErrorCodes.READONLY
    assert client.execute("SELECT count() FROM t", settings={"readonly": 1}) == [(0,)]


def test_a_user_that_sql_made(make: Make, database: str) -> None:
    every, name = make(), f"reader_{database}"
    every.execute("CREATE TABLE t (a Int8) ENGINE = Memory")
    every.execute("INSERT INTO t VALUES", [(1,)])
    every.execute(f"CREATE USER {name} IDENTIFIED BY 'r3ader'")
    try:
        every.execute(f"GRANT SELECT ON {database}.t TO {name}")
        reader = make(user=name, password="r3ader")
        assert reader.execute("SELECT a, currentUser() FROM t") == [(1, name)]
        for statement, data in (
            ("INSERT INTO t VALUES", [(2,)]),
            ("INSERT INTO t VALUES (2)", None),
            ("DROP TABLE t", None),
            ("SELECT * FROM system.query_log", None),
        ):
            with pytest.raises(ServerException) as failure:
                reader.execute(statement, data)
            assert failure.value.code == 497
        assert every.execute("SELECT count() FROM t") == [(1,)]
        with pytest.raises(ServerException) as failure:
            make(user=name, password="wrong").execute("SELECT 1")
        assert failure.value.code == 516
    finally:
        every.execute(f"DROP USER {name}")


def test_an_engine_asks_this_one(server: Server, database: str) -> None:
    """ClickHouse's own client: the table function `remote` of the engine, here of the same server over HTTP."""
    there = f"remote('127.0.0.1:{server.native_port}', {database}, t, '{USER}', '{PASSWORD}')"
    server.ask(
        "CREATE TABLE t (a Int32, b LowCardinality(String) DEFAULT 'd') ENGINE = MergeTree ORDER BY a",
        database=database,
    )
    server.ask(f"INSERT INTO FUNCTION {there} (a) SELECT number FROM numbers(100000)")
    server.ask(f"INSERT INTO FUNCTION {there} VALUES (-1, 'x')")
    assert server.ask(f"SELECT count(), sum(a), countIf(b = 'd') FROM {there}") == "100001\t4999949999\t100000"
    assert server.ask(f"SELECT a, b FROM {there} ORDER BY a LIMIT 2") == "-1\tx\n0\td"
    view = f"remote('127.0.0.1:{server.native_port}', view(SELECT sumState(3::UInt8) AS s), '{USER}', '{PASSWORD}')"
    assert server.ask(f"SELECT finalizeAggregation(s) FROM {view}") == "3"
    assert server.post(f"SELECT * FROM {there.replace(PASSWORD, 'wrong')}").status_code != 200


def test_dbapi(server: Server, database: str) -> None:
    url = f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:{server.native_port}/{database}"
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a Int32, b String) ENGINE = Memory")
        cursor.executemany("INSERT INTO t (a, b) VALUES", [(1, "x"), (2, "y")])
        cursor.execute("SELECT b, a FROM t WHERE a > %(least)s", {"least": 1})
        assert cursor.fetchall() == [("y", 2)]
        assert [column[0] for column in cursor.description] == ["b", "a"]


def test_asynch(server: Server, database: str) -> None:
    async def work() -> list[tuple[Any, ...]]:
        url = f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:{server.native_port}/{database}"
        async with asynch.Connection(dsn=url) as connection, connection.cursor() as cursor:
            await cursor.execute("CREATE TABLE t (a Int32, b Nullable(String), c Array(UInt8)) ENGINE = Memory")
            await cursor.execute("INSERT INTO t VALUES", [(1, None, [1, 2]), (2, "x", [])])
            await cursor.execute("SELECT * FROM t ORDER BY a")
            return list(await cursor.fetchall())

    assert asyncio.run(work()) == [(1, None, [1, 2]), (2, "x", [])]


DJANGO = """
import sys
import django
from django.conf import settings

host, port, user, password, name = sys.argv[1:]
database = {"ENGINE": "clickhouse_backend.backend", "HOST": host, "PORT": int(port), "USER": user, "NAME": name}
settings.configure(
    INSTALLED_APPS=["clickhouse_backend"], USE_TZ=True, DATABASES={"default": {**database, "PASSWORD": password}}
)
django.setup()

from clickhouse_backend import models
from django.db import connection
from django.db.models import Count, Sum
from django.utils import timezone


class Event(models.ClickhouseModel):
    name = models.StringField()
    at = models.DateTime64Field()
    amount = models.Int32Field(null=True)
    tags = models.ArrayField(models.StringField(low_cardinality=True))

    class Meta:
        app_label = "events"
        engine = models.MergeTree(order_by=("name",))


with connection.schema_editor() as editor:
    editor.create_model(Event)
numbers = range(100)
Event.objects.bulk_create(
    Event(name=str(n), at=timezone.now(), amount=n if n % 2 else None, tags=["x"]) for n in numbers
)
Event.objects.create(name="single", at=timezone.now(), tags=[])
Event.objects.filter(name="single").update(amount=1000)
assert Event.objects.filter(amount__gt=50).count() == 26
assert Event.objects.order_by("-name").first().amount == 1000
Event.objects.filter(name="single").delete()
assert Event.objects.aggregate(Sum("amount"), Count("id")) == {"amount__sum": 2500, "id__count": 100}
assert connection.introspection.table_names() == ["events_event"]
"""


@pytest.mark.long
def test_django(server: Server, database: str) -> None:
    words = ("127.0.0.1", str(server.native_port), USER, PASSWORD, database)
    ended = subprocess.run([sys.executable, "-c", DJANGO, *words], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr


def test_sqlalchemy(server: Server, database: str) -> None:
    url = f"clickhouse+native://{USER}:{PASSWORD}@127.0.0.1:{server.native_port}/{database}"
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.String))
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE t (a Int32, b String) ENGINE = Memory"))
        connection.execute(table.insert(), [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
        assert connection.execute(sa.select(table.c.b).where(table.c.a == 2)).scalar() == "y"
    engine.dispose()


def test_an_insert_that_fails_after_its_data_was_read_is_an_error(client: Client) -> None:
    client.execute("CREATE TABLE checked (a Int32, CONSTRAINT small CHECK a < 5) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(ServerException) as caught:
        client.execute("INSERT INTO checked VALUES", [(7,)])
    assert caught.value.code == 469  # VIOLATED_CONSTRAINT, which the driver has no name for
    client.execute("INSERT INTO checked VALUES", [(1,)])
    assert client.execute("SELECT * FROM checked") == [(1,)]
