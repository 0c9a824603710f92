"""The format Native for clients that name their version of the protocol, by the bytes that they read."""

import io
import struct

import pytest

from triton_env.servers.clickhouse.native import NativeBlocks

from .conftest import Server

GO, CONNECT, NEWEST = 54460, 54405, 54483
"""The versions of clickhouse-go over HTTP, of clickhouse-connect, and of ClickHouse 26."""
_FIXED = {"UInt8": "B", "UInt64": "Q", "DateTime": "I"}
Column = tuple[str, str, list[object]]


def number(data: io.BytesIO) -> int:
    value = shift = 0
    while (byte := data.read(1)[0]) >= 0x80:
        value, shift = value | (byte & 0x7F) << shift, shift + 7
    return value | byte << shift


def text(data: io.BytesIO) -> str:
    return data.read(number(data)).decode()


def read_native(content: bytes, version: int) -> list[Column]:
    """Read blocks as a client of that version does; their columns put together."""
    data, columns = io.BytesIO(content), list[Column]()
    while data.tell() < len(content):
        if version:
            assert (data.read(1), data.read(1)) == (b"\1", b"\0")
            assert (data.read(1), data.read(4)) == (b"\2", b"\xff" * 4)
            if version >= 54480:
                assert data.read(2) == b"\3\0"
            assert data.read(1) == b"\0"
        width, height = number(data), number(data)
        for index in range(width):
            name, kind = text(data), text(data)
            if version >= 54454:
                assert data.read(1) == b"\0"
            if kind == "String":
                values: list[object] = [text(data) for _ in range(height)]
            else:
                fixed = struct.Struct(f"<{height}{_FIXED[kind.partition('(')[0]]}")
                values = list(fixed.unpack(data.read(fixed.size)))
            if len(columns) == width:
                assert columns[index][:2] == (name, kind)
                columns[index][2].extend(values)
            else:
                columns.append((name, kind, values))
    return columns


@pytest.mark.parametrize("version", [GO, CONNECT, NEWEST])
def test_a_time_zone_is_not_lost(server: Server, version: int) -> None:
    query = "SELECT toDateTime(5, 'America/New_York') AS at, 'ä' AS `a b`, {x:UInt8} AS x"
    for ending in (";", " FORMAT Native", " format Native SETTINGS max_threads = 1 -- to be sure"):
        parameters = {"client_protocol_version": version, "default_format": "Native", "param_x": 7}
        response = server.post(query + ending, **parameters)
        assert response.headers["x-clickhouse-format"] == "Native"
        expected = [("at", "DateTime('America/New_York')", [5]), ("a b", "String", ["ä"]), ("x", "UInt8", [7])]
        assert read_native(response.content, version) == expected
    # Who names none gets what ClickHouse writes for its oldest clients.
    assert read_native(server.post(f"{query} FORMAT Native", param_x=7).content, 0)[0] == ("at", "DateTime", [5])


@pytest.mark.parametrize("options", [{}, {"wait_end_of_query": 1}, {"send_progress_in_http_headers": 1}])
def test_many_blocks(server: Server, options: dict[str, int]) -> None:
    query = "SELECT number, toString(number) AS s FROM numbers(300000) ORDER BY number FORMAT Native"
    numbers, strings = read_native(server.post(query, client_protocol_version=GO, **options).content, GO)
    assert numbers == ("number", "UInt64", list(range(300_000)))
    assert strings[2][-1] == "299999"
    empty = server.post("SELECT 1 WHERE 0 FORMAT Native", client_protocol_version=GO, **options)
    assert (empty.status_code, empty.content) == (200, b"")


def test_statements_that_are_not_queries(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.`a'b` (a UInt8) ENGINE = Memory", client_protocol_version=GO)
    shown = server.post(f"SHOW TABLES FROM {database} FORMAT Native", client_protocol_version=GO)
    assert read_native(shown.content, GO) == [("name", "String", ["a'b"])]
    asked = server.get(f"EXISTS TABLE {database}.`a'b`", client_protocol_version=GO, default_format="Native")
    assert read_native(asked.content, GO) == [("result", "UInt8", [1])]
    # A subquery of it that has one name twice cannot be described.
    twice = server.post("SELECT 1 AS a, 1 AS a FORMAT Native", client_protocol_version=GO)
    assert read_native(twice.content, GO) == [("a", "UInt8", [1]), ("a", "UInt8", [1])]


def test_an_error_is_that_of_the_query(server: Server) -> None:
    for query, code in (("SELECT nope", 47), ("SELEC 1", 62), ("SELECT throwIf(number = 3) FROM numbers(9)", 395)):
        refused = server.post(query, client_protocol_version=GO, default_format="Native")
        assert refused.headers["x-clickhouse-exception-code"] == str(code)


def test_pieces_may_end_anywhere() -> None:
    block = struct.pack("<QQQBQ", 2, 1, 1, 9, 2) + b"\1x"
    whole = NativeBlocks([("a", "UInt8"), ("s", "String")], GO).feed(block * 3)
    assert read_native(whole, GO) == [("a", "UInt8", [9, 9, 9]), ("s", "String", ["x", "x", "x"])]
    blocks = NativeBlocks([("a", "UInt8"), ("s", "String")], GO)
    assert b"".join(blocks.feed(bytes([byte])) for byte in block * 3) == whole


@pytest.mark.parametrize("protocol_version", ["0", "54460"])
def test_two_formats_are_a_syntax_error(server: Server, protocol_version: str) -> None:
    answer = server.http.post(
        "/", params={"client_protocol_version": protocol_version}, content="SELECT 1 FORMAT JSON\n FORMAT Native"
    )
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (400, "62")
