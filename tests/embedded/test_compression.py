"""Compressed requests and responses, and the codecs behind them."""

import bz2
import functools
import gzip
import lzma
import zlib
from collections.abc import Callable

import brotli
import lz4.frame
import pytest

from triton_env.servers.clickhouse import compression
from triton_env.servers.clickhouse.errors import ServerError

from .conftest import Server, read_until_cut

zstd = compression.zstd
Codec = Callable[[bytes], bytes]
CODECS: dict[str, tuple[Codec, Codec]] = {
    "gzip": (gzip.compress, gzip.decompress),
    "deflate": (zlib.compress, zlib.decompress),
    # At its best, which is its default, it takes a hundred times as long.
    "br": (functools.partial(brotli.compress, quality=5), brotli.decompress),
    "zstd": (zstd.compress, zstd.decompress),
    "lz4": (lz4.frame.compress, lz4.frame.decompress),
    "xz": (functools.partial(lzma.compress, preset=1), lzma.decompress),
    "bz2": (bz2.compress, bz2.decompress),
}
ROWS = "".join(f"{number}\trow {number % 97}\n" for number in range(60_000)).encode()


def framed(data: bytes) -> bytes:
    encoder = compression.FrameEncoder()
    return encoder.feed(data) + encoder.finish()


def unframed(data: bytes, step: int = 1 << 16) -> bytes:
    decoder = compression.FrameDecoder()
    plain = b"".join(decoder.feed(data[start : start + step]) for start in range(0, len(data), step))
    decoder.finish()
    return plain


@pytest.fixture
def table(server: Server, database: str) -> str:
    server.ask(f"CREATE TABLE {database}.t (a UInt32, s String) ENGINE = Memory")
    return f"{database}.t"


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("chunked", [False, True])
def test_compressed_inserts(server: Server, table: str, encoding: str, chunked: bool) -> None:
    data = CODECS[encoding][0](ROWS)
    body = (data[start : start + 1000] for start in range(0, len(data), 1000)) if chunked else data
    parameters, headers = {"query": f"INSERT INTO {table} FORMAT TSV"}, {"Content-Encoding": encoding}
    response = server.http.post("/", params=parameters, content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert server.ask(f"SELECT count(), sum(a), uniq(s) FROM {table}") == f"60000\t{sum(range(60_000))}\t97"


@pytest.mark.parametrize("encoding", CODECS)
def test_compressed_queries(server: Server, encoding: str) -> None:
    body, headers = CODECS[encoding][0](b"SELECT 'compressed'"), {"Content-Encoding": encoding}
    assert server.http.post("/", content=body, headers=headers).text == "compressed\n"


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("count", [0, 1, 1000, 400_000])
def test_compressed_responses(server: Server, encoding: str, count: int) -> None:
    query = f"SELECT number FROM numbers({count})"
    headers = {"Accept-Encoding": encoding}
    with server.http.stream("POST", "/", content=query, headers=headers) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == encoding
    assert CODECS[encoding][1](raw) == "".join(f"{number}\n" for number in range(count)).encode()


def test_a_large_compressed_insert_is_no_large_query(server: Server, table: str) -> None:
    """The first piece that arrives can be far larger, once decompressed, than the beginning that is looked at."""
    body = gzip.compress(f"INSERT INTO {table} FORMAT TSV\n".encode() + ROWS * 80, 1)
    response = server.http.post("/", content=body, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 200, response.text
    assert server.ask(f"SELECT count() FROM {table}") == "4800000"


def test_responses_are_compressed_only_as_asked(server: Server) -> None:
    def encoding(accept: str, **parameters: int) -> str | None:
        answer = server.http.post("/", params=parameters, content="SELECT 1", headers={"Accept-Encoding": accept})
        return answer.headers.get("content-encoding")

    assert encoding("identity") is None
    assert encoding("unheard-of") is None
    assert encoding("gzip, deflate, br, zstd") == "zstd"
    assert encoding("gzip, zstd;q=0, br;q=0.0") == "gzip"
    assert encoding("gzip", enable_http_compression=0) is None


def test_a_broken_stream_is_marked_inside_of_the_compression(server: Server) -> None:
    query = "SELECT number, throwIf(number = 3000000, 'told') FROM numbers(10000000)"
    decompressor = zlib.decompressobj(31)
    with server.http.stream("POST", "/", content=query, headers={"Accept-Encoding": "gzip"}) as response:
        tag = response.headers["x-clickhouse-exception-tag"].encode()
        raw = read_until_cut(response.iter_raw())
    assert decompressor.decompress(raw).endswith(tag + b"\r\n__exception__\r\n")
    assert decompressor.eof


def test_frames_both_ways(server: Server, table: str) -> None:
    query = f"INSERT INTO {table} FORMAT TSV"
    whole_body = query.encode() + b"\n" + ROWS
    for body, parameters in ((framed(whole_body), {}), (framed(ROWS), {"query": query})):
        response = server.http.post("/", params={"decompress": 1, **parameters}, content=body)
        assert response.status_code == 200, response.text
    whole = server.http.post("/", params={"compress": 1}, content=f"SELECT sum(a), count() FROM {table}")
    assert unframed(whole.content) == f"{2 * sum(range(60_000))}\t120000\n".encode()
    streamed = server.http.post("/", params={"compress": 1}, content="SELECT number FROM numbers(400000)")
    assert unframed(streamed.content).count(b"\n") == 400_000
    both = server.http.post("/", params={"compress": 1}, content="SELECT 1", headers={"Accept-Encoding": "gzip"})
    assert unframed(both.content) == b"1\n"


def test_frames_are_those_of_the_engine(server: Server, database: str) -> None:
    """A column of a MergeTree part is stored in the same framing, written by the engine itself."""
    server.ask(
        f"CREATE TABLE {database}.t (a UInt32) ENGINE = MergeTree ORDER BY a "
        "SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0, min_bytes_for_full_part_storage = 0"
    )
    server.ask(f"INSERT INTO {database}.t SELECT number FROM numbers(100000)")
    part = server.ask(f"SELECT path FROM system.parts WHERE database = '{database}' AND active")
    with open(f"{part}/a.bin", "rb") as file:
        plain = unframed(file.read())
    assert plain == b"".join(number.to_bytes(4, "little") for number in range(100_000))


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_frames_round_trip_in_pieces_of_any_size(step: int) -> None:
    data = ROWS[:5000] if step == 1 else ROWS * 3
    assert unframed(framed(data), step) == data
    assert framed(b"") == b""


@pytest.mark.parametrize("position", [0, 5, 16, 17, 20, 24, 25, 40, -1])
def test_damaged_frames_are_refused(position: int) -> None:
    damaged = bytearray(framed(ROWS[:1000]))
    damaged[position] ^= 0xFF
    with pytest.raises(ServerError):
        unframed(bytes(damaged))
    with pytest.raises(ServerError):
        unframed(framed(ROWS[:1000])[:-1])


@pytest.mark.parametrize("encoding", CODECS)
def test_damaged_bodies_are_refused(server: Server, table: str, encoding: str) -> None:
    data = CODECS[encoding][0](ROWS)
    headers = {"Content-Encoding": encoding}
    parameters = {"query": f"INSERT INTO {table} FORMAT TSV"}
    for damaged in (data[: len(data) // 2], b"nonsense" * 100, data[:5000] + b"\xff" * 5000):
        response = server.http.post("/", params=parameters, content=damaged, headers=headers)
        assert response.status_code >= 400
        assert response.headers["x-clickhouse-exception-code"] in ("271", "3", "27")
    assert server.ask("SELECT 1") == "1"


def test_unknown_encodings_are_refused(server: Server) -> None:
    response = server.http.post("/", content=b"SELECT 1", headers={"Content-Encoding": "rot13"})
    assert response.headers["x-clickhouse-exception-code"] == "89"
    stacked = gzip.compress(zlib.compress(b"SELECT 1"))
    answer = server.http.post("/", content=stacked, headers={"Content-Encoding": "deflate, gzip"})
    assert answer.text == "1\n"
