"""Clients of other people, used as their own documentation says."""

import asyncio
import datetime
import decimal
import ipaddress
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import aiochclient
import aiohttp
import clickhouse_connect
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from .conftest import PASSWORD, USER, Server

COLUMNS = ["id", "name", "at", "price", "tags", "props", "maybe", "uid", "ip"]
DDL = """CREATE TABLE t (id UInt64, name LowCardinality(String), at DateTime64(3, 'UTC'), price Decimal(18, 4),
    tags Array(String), props Map(String, Int32), maybe Nullable(Float64), uid UUID, ip IPv4)
    ENGINE = MergeTree ORDER BY id"""


def sample(number: int) -> list[object]:
    return [
        number,
        f"name {number % 10} ä€",
        datetime.datetime(2026, 1, 1) + datetime.timedelta(milliseconds=number),
        decimal.Decimal(number) / 16,
        ["x"] * (number % 3),
        {"a": number},
        None if number % 2 else number / 3,
        uuid.UUID(int=number),
        ipaddress.IPv4Address(number),
    ]


SAMPLES = [sample(number) for number in range(1000)]


def connection(server: Server, database: str) -> dict[str, object]:
    return {
        "host": "127.0.0.1",
        "port": server.port,
        "username": USER,
        "password": PASSWORD,
        "database": database,
    }


@pytest.fixture(params=[True, False, "gzip", "lz4", "zstd"], ids=lambda value: f"compress={value}")
def client(request: pytest.FixtureRequest, server: Server, database: str) -> Iterator[Client]:
    made = clickhouse_connect.get_client(**connection(server, database), compress=request.param)  # type: ignore[arg-type]
    yield made
    made.close()


def test_types_come_back_as_they_went(client: Client) -> None:
    client.command(DDL)
    summary = client.insert("t", SAMPLES, column_names=COLUMNS)
    assert summary.written_rows == 1000
    result = client.query("SELECT * FROM t ORDER BY id")
    assert result.column_names == tuple(COLUMNS)
    assert [list(row) for row in result.result_rows] == SAMPLES
    assert result.summary["read_rows"] == "1000"


def test_a_time_keeps_its_zone(client: Client) -> None:
    query = "SELECT toDateTime(0, 'America/New_York') AS there, toDateTime(0, 'UTC') AS here"
    there, here = client.query(query, tz_mode="schema").first_row
    assert there.isoformat() == "1969-12-31T19:00:00-05:00"
    assert here.utcoffset() == datetime.timedelta(0)


def test_commands_parameters_settings_and_context_inserts(client: Client) -> None:
    assert client.server_version == client.command("SELECT version()")
    assert client.command("SELECT {x:Int32} + 1", parameters={"x": 41}) == 42
    assert client.query("SELECT %(s)s", parameters={"s": "it's \\ \n"}).first_row == ("it's \\ \n",)
    asked = client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 123})
    assert asked.first_row == (123,)
    client.command("CREATE TABLE c (a UInt32, b String) ENGINE = Memory")
    context = client.create_insert_context("c")
    for start in range(0, 30, 10):
        context.data = [[number, str(number)] for number in range(start, start + 10)]
        client.insert(context=context)
    client.command("INSERT INTO c VALUES (100, 'x'), (101, 'y')")
    client.raw_insert("c", ["a", "b"], '200,"z"\n', fmt="CSV")
    assert client.query("SELECT count(), max(a) FROM c").first_row == (33, 200)
    assert client.raw_query("SELECT 1 AS x", fmt="JSONEachRow") == b'{"x":1}\n'
    assert client.query_np("SELECT number FROM numbers(3)").tolist() == [[0], [1], [2]]


def test_data_frames(client: Client) -> None:
    client.command("CREATE TABLE d (id Int64, name String, at DateTime64(6), score Nullable(Float64)) ENGINE = Memory")
    moments = pd.date_range("2026-01-01", periods=1000, freq="s").astype("datetime64[us]")
    numbers = pd.Series(range(1000), dtype="int64")
    frame = pd.DataFrame({"id": numbers, "name": numbers.astype(str), "at": moments, "score": numbers / 7})
    client.insert_df("d", frame)
    back = client.query_df("SELECT * FROM d ORDER BY id")
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    with client.query_df_stream("SELECT number FROM numbers(200000)") as stream:
        assert sum(len(part) for part in stream) == 200_000


def test_arrow(client: Client) -> None:
    client.command("CREATE TABLE a (id Int64, name String) ENGINE = Memory")
    table = pa.table({"id": list(range(1000)), "name": [str(number) for number in range(1000)]})
    client.insert_arrow("a", table)
    back = client.query_arrow("SELECT * FROM a ORDER BY id", use_strings=True)
    assert back.to_pydict() == table.to_pydict()
    with client.query_arrow_stream("SELECT number FROM numbers(200000)") as stream:
        assert sum(batch.num_rows for batch in stream) == 200_000


def test_streams(client: Client) -> None:
    query = "SELECT number, toString(number) FROM numbers(300000)"
    with client.query_row_block_stream(query) as blocks:
        assert sum(len(block) for block in blocks) == 300_000
    with client.query_rows_stream(query) as rows:
        assert sum(row[0] for row in rows) == sum(range(300_000))
    with client.query_column_block_stream(query) as blocks:
        assert sum(len(block[0]) for block in blocks) == 300_000
    with client.raw_stream(query, fmt="CSV") as raw:
        assert raw.read().count(b"\n") == 300_000


def test_errors_keep_their_numbers(client: Client) -> None:
    for query, code in (("SELECT nope", 47), ("SELECT * FROM nope", 60), ("SELEC 1", 62), ("SELECT throwIf(1)", 395)):
        with pytest.raises(DatabaseError, match=rf"(?s)Code: {code}\. DB::Exception"):
            client.query(query)
    with pytest.raises(DatabaseError, match="60"):
        client.insert("nope", [[1]], column_names=["a"], column_type_names=["Int32"])
    assert client.command("SELECT 1") == 1


@pytest.mark.filterwarnings("ignore")
def test_an_error_in_mid_stream_is_no_short_result(client: Client) -> None:
    query = "SELECT number, throwIf(number = 3000000, 'told') FROM numbers(10000000)"
    with pytest.raises((StreamFailureError, DatabaseError), match="395"):  # noqa: SIM117, PT012
        with client.query_rows_stream(query) as rows:
            for _ in rows:
                pass


def test_sessions_and_temporary_tables(client: Client) -> None:
    client.command("CREATE TEMPORARY TABLE temp (a Int32)")
    client.insert("temp", [[1], [2]], column_names=["a"])
    client.command("SET max_block_size = 321")
    row = client.query("SELECT sum(a), getSetting('max_block_size') FROM temp").first_row
    assert row == (3, 321)


def test_external_data(client: Client) -> None:
    data = ExternalData(file_name="e", data=b"1,one\n2,two\n", fmt="CSV", structure=["id UInt32", "name String"])
    assert client.query("SELECT name FROM e ORDER BY id", external_data=data).result_rows == [("one",), ("two",)]


async def test_the_asynchronous_client(server: Server, database: str) -> None:
    async with await clickhouse_connect.get_async_client(**connection(server, database)) as client:  # type: ignore[arg-type]
        await client.command(DDL)
        await client.insert("t", SAMPLES, column_names=COLUMNS)
        assert [list(row) for row in (await client.query("SELECT * FROM t ORDER BY id")).result_rows] == SAMPLES
        answers = await asyncio.gather(*[client.command(f"SELECT {number}") for number in range(30)])
        assert answers == list(range(30))
        assert len(await client.query_df("SELECT number FROM numbers(1000)")) == 1000
        assert (await client.query_arrow("SELECT number FROM numbers(1000)")).num_rows == 1000
        async with await client.query_row_block_stream("SELECT number FROM numbers(200000)") as blocks:
            assert sum([len(block) async for block in blocks]) == 200_000
        with pytest.raises(DatabaseError, match="60"):
            await client.query("SELECT * FROM nope")


def test_threads_share_a_client_without_a_session(server: Server, database: str) -> None:
    client = clickhouse_connect.get_client(**connection(server, database), autogenerate_session_id=False)  # type: ignore[arg-type]
    client.command("CREATE TABLE p (n UInt32, worker UInt32) ENGINE = MergeTree ORDER BY n")

    def work(worker: int) -> int:
        for number in range(10):
            client.insert("p", [[number, worker]], column_names=["n", "worker"])
        return int(client.query(f"SELECT sum(number) + {worker} FROM numbers(100000)").first_row[0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [sum(range(100_000)) + worker for worker in range(16)]
    assert client.query("SELECT count(), uniqExact(worker) FROM p").first_row == (160, 16)
    client.close()


@pytest.mark.filterwarnings("ignore:.*remains registered to another SQLAlchemy dialect:UserWarning")
@pytest.mark.parametrize("scheme", ["clickhousedb", "clickhouse+http"])
def test_sqlalchemy(server: Server, database: str, scheme: str) -> None:
    """`clickhousedb` is clickhouse-connect's dialect, `clickhouse+http` is clickhouse-sqlalchemy."""
    engine = sa.create_engine(f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{server.port}/{database}")
    with engine.connect() as db:
        db.execute(sa.text("CREATE TABLE s (id UInt32, name String) ENGINE = MergeTree ORDER BY id"))
    table = sa.Table("s", sa.MetaData(), autoload_with=engine)
    assert [column.name for column in table.columns] == ["id", "name"]
    with engine.connect() as db:
        db.execute(table.insert(), [{"id": 1, "name": "it's"}, {"id": 2, "name": "b"}])
        rows = db.execute(sa.select(table.c.name).where(table.c.id < 3).order_by(table.c.id)).fetchall()
        assert [row[0] for row in rows] == ["it's", "b"]
        assert sa.inspect(engine).get_table_names() == ["s"]
        with pytest.raises(Exception, match="Code: 60"):
            db.execute(sa.text("SELECT * FROM nope"))
    engine.dispose()


async def test_aiochclient(server: Server, database: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = aiochclient.ChClient(session, url=server.url, user=USER, password=PASSWORD, database=database)
        assert await client.is_alive()
        await client.execute("CREATE TABLE q (a UInt8, b Array(String)) ENGINE = Memory")
        await client.execute("INSERT INTO q VALUES", (1, ["x", "it's"]), (2, []))
        rows = await client.fetch("SELECT * FROM q ORDER BY a")
        assert [tuple(row.values()) for row in rows] == [(1, ["x", "it's"]), (2, [])]
        with pytest.raises(aiochclient.ChClientError, match="Code: 60"):
            await client.fetch("SELECT * FROM nope")
