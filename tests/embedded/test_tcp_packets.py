"""The native protocol byte by byte: blocks that come in pieces, and packets that no client should send."""

import asyncio
import contextlib
import random
import socket
import threading

import pytest
from clickhouse_driver import Client

from triton_env.servers.clickhouse.errors import ServerError
from triton_env.servers.clickhouse.tcp.blocks import Incoming
from triton_env.servers.clickhouse.tcp.kinds import kind_of
from triton_env.servers.clickhouse.tcp.listener import end

from .conftest import PASSWORD, PATIENCE, USER, Server

REVISION = 54460

COLUMNS = {
    "Array(Array(Nullable(String)))": "[[NULL, 'x'], [], ['', toString(number)]]",
    "Array(LowCardinality(Nullable(String)))": "[NULL, toString(number % 3)]",
    "Array(Dynamic)": "[1::UInt8::Dynamic, 'x'::String::Dynamic]",
    "DateTime64(3, 'Europe/Berlin')": "toDateTime64(number, 3, 'Europe/Berlin')",
    "Decimal(38, 3)": "number",
    "Dynamic": "if(number % 2 = 0, number::Dynamic, [toString(number)]::Dynamic)",
    "Enum16('a)\\'x' = 1, 'b' = 300)": "if(number = 1, 'b', 'a)\\'x')",
    "FixedString(5)": "toString(number)",
    "Geometry": "[(number, 2.0), (3.0, 4.0)]::Ring",
    "JSON": 'format(\'{{"a": {}, "b": {{"c": [1, "x"]}}}}\', number)',
    "JSON(max_dynamic_paths=1, a.b LowCardinality(String), SKIP q)": """'{"a": {"b": 1}, "c": 2, "d": 3}'""",
    "LowCardinality(FixedString(3))": "toString(number % 5)",
    "Map(LowCardinality(String), Array(Nullable(Int8)))": "map('x', [NULL, 1], toString(number), [])",
    "Nested(a Int8, `b c` LowCardinality(String))": "[(1, 'x'), (2, toString(number))]",
    "Nullable(Tuple(a Int8, b String))": "if(number % 2 = 0, NULL, (1, toString(number)))",
    "QBit(Float32, 9)": "range(9)",
    "SimpleAggregateFunction(sum, UInt64)": "number",
    "String": "repeat('x', number * 50)",
    "Tuple()": "tuple()",
    "Tuple(b Int8, a Array(String))": "(1, ['x', toString(number)])",
    "Variant(Array(LowCardinality(String)), String, UInt64)": "if(number % 2 = 0, number, toString(number)::String)",
}
"""Types whose length in a block is not that of a row times the rows, with what they are given for tests."""


@pytest.mark.parametrize("kind", COLUMNS)
def test_blocks_are_followed_in_pieces_of_any_length(server: Server, kind: str) -> None:
    literal = kind.replace("\\", "\\\\").replace("'", "\\'")
    query = (
        f"SELECT CAST({COLUMNS[kind]}, '{literal}') AS x, number AS y FROM numbers(12)"
        " SETTINGS allow_experimental_qbit_type = 1, allow_suspicious_low_cardinality_types = 1"
        " FORMAT Native"
    )
    response = server.post(query, client_protocol_version=REVISION)
    assert response.status_code == 200, response.text
    sent, engine = response.content, server.post(query).content
    for length in (1, 7, len(sent)):
        incoming, made = Incoming(REVISION), b""
        for start in range(0, len(sent), length):
            assert not incoming.done
            made += incoming.feed(sent[start : start + length])
        assert incoming.done
        assert incoming.block.rows == 12
        assert [name for name, _ in incoming.block.columns] == ["x", "y"]
        assert made == engine


def test_what_follows_a_block_is_left_alone(server: Server) -> None:
    sent = server.post("SELECT 'x' AS x FORMAT Native", client_protocol_version=REVISION).content
    incoming = Incoming(REVISION)
    incoming.feed(sent + b"next")
    assert incoming.done
    assert incoming.rest() == b"next"


@pytest.mark.parametrize(
    "name",
    [
        "Tuple(" * 200 + ")" * 200,
        "Decimal(99, 1)",
        "Array()",
        "FixedString(x)",
        "Enum",
        "Decimal()",
        "",
        "QBit(Int8, 3)",
    ],
)
def test_names_that_are_no_types(name: str) -> None:
    with pytest.raises(ServerError):
        for _ in kind_of(name).prefix(None):  # type: ignore[arg-type]
            pass


def copy(source: socket.socket, target: socket.socket, kept: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            kept.append(piece)
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def conversation(server: Server) -> bytes:
    """What a client sends that logs in, asks, creates a table, and inserts into it."""
    kept: list[bytes] = []

    def carry(listener: socket.socket) -> None:
        near, _ = listener.accept()
        with near, socket.create_connection(("127.0.0.1", server.native_port)) as far:
            back = threading.Thread(target=copy, args=(far, near, []))
            back.start()
            copy(near, far, kept)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        carrying = threading.Thread(target=carry, args=(listener,))
        carrying.start()
        client = Client("127.0.0.1", listener.getsockname()[1], user=USER, password=PASSWORD, database="triton")
        client.execute("SELECT number, toString(number), [NULL, 1] FROM numbers(5)", settings={"max_threads": 1})
        client.execute("CREATE TEMPORARY TABLE mine (a Int32, b Array(LowCardinality(String)), c Nullable(String))")
        client.execute("INSERT INTO mine VALUES", [(1, ["x", ""], None), (2, [], "y")])
        external = {"name": "ext", "structure": [("a", "String")], "data": [{"a": "x"}]}
        client.execute("SELECT * FROM ext", external_tables=[external])
        client.disconnect()
        carrying.join()
    return b"".join(kept)


def answer_to(server: Server, sent: bytes) -> bytes:
    """Everything that the server answers until it closes the connection, as it must."""
    received = b""
    address = ("127.0.0.1", server.native_port)
    with contextlib.suppress(ConnectionError), socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def mutated(sent: bytes, chance: random.Random) -> bytes:
    changed = bytearray(sent)
    for _ in range(chance.choice([1, 1, 2, 8])):
        place = chance.randrange(len(changed))
        match chance.randrange(5):
            case 0:
                del changed[place:]
            case 1:
                changed[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
            case 2:
                changed[place:place] = chance.randbytes(chance.choice([1, 3, 20]))
            case 3:
                del changed[place : place + chance.choice([1, 4, 30])]
            case 4:
                changed[place:place] = b"\xff" * 9 + b"\x01"
        if not changed:
            break
    return bytes(changed)


def check_that_others_are_served(server: Server) -> None:
    client = Client("127.0.0.1", server.native_port, user=USER, password=PASSWORD, send_receive_timeout=PATIENCE)
    assert client.execute("SELECT 1") == [(1,)]
    client.disconnect()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))])
def test_damaged_packets_end_their_connection_only(server: Server, conversation: bytes, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(150):
        answer_to(server, mutated(conversation, chance))
    check_that_others_are_served(server)


def test_every_end_of_a_conversation(server: Server, conversation: bytes) -> None:
    for length in range(0, len(conversation), 7):
        answer_to(server, conversation[:length])
    check_that_others_are_served(server)


def test_lengths_that_cannot_be_meant(server: Server, conversation: bytes) -> None:
    huge = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    user = conversation.index(USER.encode()) - 1
    statement = conversation.index(b"SELECT") - 1
    for place in (1, user, statement):
        answer = answer_to(server, conversation[:place] + huge + conversation[place + 1 :])
        assert b"bytes, of which" in answer
    check_that_others_are_served(server)


@pytest.mark.parametrize("kind", [kind for kind in COLUMNS if "Dynamic" in kind or "JSON" in kind])
def test_flattened_columns_are_followed_in_pieces_of_any_length(server: Server, kind: str) -> None:
    flattened = "output_format_native_use_flattened_dynamic_and_json_serialization"
    query = f"SELECT CAST({COLUMNS[kind]}, '{kind}') AS x, number AS y FROM numbers(12) SETTINGS {flattened} = 1"
    engine = server.post(f"{query} FORMAT Native").content
    sent = b"\0" + engine
    for length in (1, 7, len(sent)):
        incoming, made = Incoming(0), b""
        for start in range(0, len(sent), length):
            made += incoming.feed(sent[start : start + length])
        assert incoming.done
        assert made == engine


def test_http_on_the_wrong_port(server: Server) -> None:
    assert b"is for clickhouse-client program" in answer_to(server, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")


def test_what_is_said_before_hello(server: Server) -> None:
    assert b"not Hello" in answer_to(server, b"\x04")


def test_a_client_that_reads_nothing_is_not_waited_for_without_end() -> None:
    """The end of a connection, with more to send than the system takes for a client that does not read."""

    async def work() -> None:
        ended = asyncio.Event()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(64 << 20))
            await end(writer, 0.1)
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            # Nothing reads from a bare socket.
            with socket.create_connection(server.sockets[0].getsockname()) as client:
                async with asyncio.timeout(PATIENCE):
                    await ended.wait()
                assert received(client) < 64 << 20

    def received(client: socket.socket) -> int:
        count = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 20):
                count += len(piece)
        return count

    asyncio.run(work())
