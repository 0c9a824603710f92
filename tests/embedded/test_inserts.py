"""INSERT with data: where it may be, in which format, and what is left when it fails."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from patience import until

from .conftest import Server


@pytest.fixture
def table(server: Server, database: str) -> str:
    server.ask(f"CREATE TABLE {database}.t (a Int32, s String) ENGINE = MergeTree ORDER BY a")
    return f"{database}.t"


def rows(server: Server, table: str) -> list[list[object]]:
    answer = server.ask(f"SELECT * FROM {table} ORDER BY a, s FORMAT JSONCompactEachRow")
    return [json.loads(line) for line in answer.splitlines()]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", "INSERT INTO {t} VALUES (1, 'x'), (1 + 1, upper('y'))"),
        ("", "INSERT INTO {t} (s, a) VALUES ('x', 1), ('Y', 2);"),
        ("", "insert into {t} format TSV\n1\tx\n2\tY\n"),
        ("", "INSERT INTO {t} FORMAT CSV 1,x\n2,Y"),
        ("", "/* c */ INSERT INTO TABLE {t} SETTINGS async_insert = 0 FORMAT CSV 1,x\n2,Y"),
        ("INSERT INTO {t} FORMAT TabSeparated", "1\tx\n2\tY"),
        ("INSERT INTO {t} (s, a) FORMAT CSV", '"x",1\n"Y",2\n'),
        ("INSERT INTO {t} VALUES", "(1, 'x'), (2, 'Y')"),
        ("INSERT INTO {t} VALUES (1, 'x'),", "(2, 'Y')"),
        ("INSERT INTO {t}", "VALUES (1, 'x'), (2, 'Y')"),
        ("INSERT INTO {t}", "FORMAT TSV\n1\tx\n2\tY"),
        ("INSERT INTO {t} FORMAT Values", "(1, 'x') (2, 'Y')"),
        ("INSERT INTO {t} SELECT", "number + 1, ['x', 'Y'][number + 1] FROM numbers(2)"),
        ("INSERT INTO {t} (* EXCEPT(s)) FORMAT TSV", None),
        ("INSERT INTO {t} SELECT a - 1, s FROM input('a Int32, s String') FORMAT TSV", "2\tx\n3\tY\n"),
        ("", "INSERT INTO {t} (a) SELECT a FROM input('a Int32') WHERE a < 3 FORMAT CSV\n1\n2\n3\n"),
    ],
)  # fmt: skip
def test_where_the_data_may_be(server: Server, table: str, query: str, body: str | None) -> None:
    if body is None:
        query, body = "INSERT INTO {t} (* EXCEPT(a)) FORMAT TSV", "x\nY\n"
        assert server.http.post("/", params={"query": query.format(t=table)}, content=body).status_code == 200
        assert rows(server, table) == [[0, "Y"], [0, "x"]]
        return
    parameters = {"query": query.format(t=table)} if query else {}
    response = server.http.post("/", params=parameters, content=body.format(t=table))
    assert (response.status_code, response.content) == (200, b""), response.text
    assert [row[0] for row in rows(server, table)] == [1, 2]
    assert server.ask(f"SELECT groupArray(s) FROM {table}") in ("['x','Y']", "['','']")
    if "SELECT" not in query + body:
        assert json.loads(response.headers["x-clickhouse-summary"])["written_rows"] == "2"


def test_data_is_never_taken_for_sql(server: Server, table: str) -> None:
    nasty = ["FORMAT CSV", "VALUES (3)", "'; DROP TABLE t; --", "\x00\x01", "ä€😀", "/*", "#!", "`", '"', "$$", "\n\n"]
    body = "\n".join(json.dumps({"a": number, "s": text}) for number, text in enumerate(nasty))
    server.ask(f"INSERT INTO {table} FORMAT JSONEachRow\n{body}")
    assert rows(server, table) == [[number, text] for number, text in enumerate(nasty)]


def test_blank_data_is_data(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.lines (line String) ENGINE = Memory")
    server.ask(b"INSERT INTO %b.lines FORMAT LineAsString\n\n  x\n" % database.encode())
    server.http.post("/", params={"query": f"INSERT INTO {database}.lines FORMAT LineAsString"}, content="\n\n  y\n")
    assert server.ask(f"SELECT groupArray(line) FROM {database}.lines") == "['','  x','','','  y']"


def test_tables_called_like_keywords(server: Server, database: str) -> None:
    for name in ("format", "values", "`select`", "settings"):
        server.ask(f"CREATE TABLE {database}.{name} (`values` Int32, format String) ENGINE = Memory")
        server.ask(f"INSERT INTO {database}.{name} (`values`, format) VALUES (1, 'x')")
        server.ask(f"INSERT INTO {name} FORMAT CSV 2,y", database=database)
        assert server.ask(f"SELECT sum(`values`) FROM {database}.{name}") == "3"


@pytest.mark.parametrize(
    "name", ["Native", "RowBinary", "Parquet", "Arrow", "ArrowStream", "ORC", "Avro", "MsgPack", "XML"]
)
def test_what_is_read_in_a_format_can_be_written_in_it(server: Server, table: str, name: str) -> None:
    if name == "XML":
        assert server.post(f"INSERT INTO {table} FORMAT XML\n<x/>").headers["x-clickhouse-exception-code"] == "85"
        return
    content = server.post(
        f"SELECT toInt32(number) AS a, toString(number) AS s FROM numbers(100000) FORMAT {name}"
    ).content
    response = server.http.post("/", params={"query": f"INSERT INTO {table} FORMAT {name}"}, content=content)
    assert response.status_code == 200, response.text
    assert server.ask(f"SELECT count(), sum(a), uniq(s) > 95000 FROM {table}") == "100000\t4999950000\t1"


def test_parameters_in_an_insert(server: Server, table: str) -> None:
    name = table.partition(".")[2]
    parameters = {"database": table.partition(".")[0], "param_t": name, "param_x": "7"}
    server.ask("INSERT INTO {t:Identifier} VALUES ({x:Int32}, 'x')", **parameters)
    assert rows(server, table) == [[7, "x"]]
    refused = server.post("INSERT INTO t VALUES (1, 'x')", **{"param_a b": "1"}, database=parameters["database"])
    assert refused.status_code == 400


def chunks(head: str, line: str, count: int) -> Iterator[bytes]:
    yield head.encode()
    for _ in range(count):
        yield (line * 1000).encode()


def test_a_chunked_insert_is_streamed(server: Server, table: str) -> None:
    body = chunks(f"INSERT INTO {table} FORMAT CSV\n", "1,some text of some length\n", 2000)
    response = server.http.post("/", content=body)
    assert response.status_code == 200, response.text
    assert server.ask(f"SELECT count() FROM {table}") == "2000000"


def test_the_error_of_a_streamed_insert(server: Server, table: str) -> None:
    body = chunks(f"INSERT INTO {table} FORMAT CSV\n", "1,x\n", 1000)
    broken = (b"oh no\n" if number == 900 else piece for number, piece in enumerate(body))
    response = server.http.post("/", content=broken)
    assert (response.status_code, response.headers["x-clickhouse-exception-code"]) == (400, "27")
    assert "oh no" in response.text
    assert server.ask("SELECT 1") == "1"


def test_an_insert_whose_client_went_away_is_given_up(server: Server, table: str) -> None:
    running = f"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO {table} %'"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /?query=INSERT+INTO+{table}+FORMAT+CSV HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode() + b"1,x\n" * 100)
        # It goes away from an insert that has begun, and not before.
        assert until(lambda: server.ask(running) == "1")
    assert until(lambda: server.ask(running) == "0")
    assert rows(server, table) == []


def test_asynchronous_inserts(server: Server, table: str) -> None:
    server.ask(f"INSERT INTO {table} FORMAT CSV\n1,x\n", async_insert=1, wait_for_async_insert=1)
    assert rows(server, table) == [[1, "x"]]


@pytest.fixture
def failing(server: Server, database: str) -> dict[str, tuple[str, int]]:
    """Tables that refuse `7 rows of 7` and the like only once they have it, by what it is: the name, and the error."""
    server.ask(f"CREATE TABLE {database}.checked (a Int32, CONSTRAINT small CHECK a < 5) ENGINE = MergeTree ORDER BY a")
    server.ask(f"CREATE TABLE {database}.parts (a Int32) ENGINE = MergeTree PARTITION BY a ORDER BY a")
    for name in ("source", "target"):
        server.ask(f"CREATE TABLE {database}.{name} (a Int32) ENGINE = MergeTree ORDER BY a")
    server.ask(
        f"CREATE MATERIALIZED VIEW {database}.view TO {database}.target AS SELECT throwIf(a > 5) AS a"
        f" FROM {database}.source"
    )
    return {
        "a constraint": (f"{database}.checked", 469),
        "too many parts": (f"{database}.parts", 252),
        "a view that throws": (f"{database}.source", 395),
    }


@pytest.mark.parametrize("kind", ["a constraint", "too many parts", "a view that throws"])
@pytest.mark.parametrize("streamed", [False, True])
def test_what_fails_after_its_data_was_read_is_an_error(
    server: Server, failing: dict[str, tuple[str, int]], kind: str, streamed: bool
) -> None:
    table, code = failing[kind]
    table += " SETTINGS log_comment = 'of the client'"
    lines = [b"%d\n" % number for number in range(10, 310)]
    body = iter([b"".join(lines[:100]), b"".join(lines[100:])]) if streamed else b"".join(lines)
    answer = server.http.post("/", params={"query": f"INSERT INTO {table} FORMAT TSV"}, content=body)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (500, str(code)), answer.text
    # Also at once, and with others between: none of them is taken for another.
    for _ in range(3):
        again = server.http.post("/", content=f"INSERT INTO {table} VALUES (7)" + ", (8)" * (kind != "too many parts"))
        is_good = kind == "too many parts"
        assert again.status_code == (200 if is_good else 500), again.text


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("log_queries", "0"),
        ("log_queries_min_query_duration_ms", "500000"),
        ("log_queries_probability", "0"),
    ],
)
def test_what_fails_out_of_the_log_is_not_good(
    server: Server, failing: dict[str, tuple[str, int]], setting: str, value: str
) -> None:
    table, _ = failing["a constraint"]
    session = f"out-of-the-log-{setting}"
    server.ask(f"SET {setting} = {value}", session_id=session)
    for parameters, clause in (
        ({}, f"SETTINGS {setting} = {value}"),
        ({"session_id": session}, ""),
        ({setting: value}, ""),
    ):
        good = server.post(f"INSERT INTO {table} {clause} VALUES (1)", **parameters)
        assert good.status_code == 200, good.text
        refused = server.post(f"INSERT INTO {table} {clause} VALUES (7)", **parameters)
        assert refused.headers["x-clickhouse-exception-code"] == "319", refused.text
    assert server.ask(f"SELECT count(), sum(a) FROM {table}") == "3\t3"


def test_an_engine_ends_when_it_is_closed(tmp_path: Path) -> None:
    # An engine that is open has one folder for its process.
    program = """
import pathlib, sys
from triton_env.servers.clickhouse.engine import Engine
for name in ("first", "second"):
    engine = Engine(pathlib.Path(sys.argv[1]) / name, "d")
    connection = engine.connect()
    connection.run("CREATE TABLE d.t (a Int32) ENGINE = Memory")
    stream = connection.insert(b"INSERT INTO d.t", "CSV")
    stream.append(b"1")
    stream.finish()
    connection.close()
    engine.close()
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_inserts_beside_one_that_fails_are_good(
    server: Server, failing: dict[str, tuple[str, int]], table: str
) -> None:
    bad, _ = failing["a constraint"]

    def insert(number: int) -> int:
        target, values = (bad, "(7)") if number % 4 == 0 else (table, f"({number}, 'x')")
        return server.http.post("/", content=f"INSERT INTO {target} VALUES {values}").status_code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(insert, range(40)))
    assert answers == [500 if number % 4 == 0 else 200 for number in range(40)]
    assert server.ask(f"SELECT count() FROM {table}") == "30"
