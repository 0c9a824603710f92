"""Requests that no client should send: an answer or a closed connection each time, and a server that goes on."""

import concurrent.futures
import contextlib
import random
import re
import socket
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import PATIENCE, Server

# Large requests, and many of them.
pytestmark = pytest.mark.timeout(400)

AUTH = b"Host: x\r\nX-ClickHouse-User: triton\r\nX-ClickHouse-Key: s3cret-word\r\n"


def exchange(server: Server, request: bytes, *, whole: bool = False) -> bytes:
    """The first response to raw bytes, empty if the server closes the connection without one.

    Of a request that may not be `whole` it may rightly wait for more. So it is soon told that there is none, and then
    closes the connection; which it also does where it was only slow to answer.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        if not whole:
            connection.settimeout(0.1)
        with contextlib.suppress(ConnectionError):
            while not complete(received):
                try:
                    piece = connection.recv(1 << 16)
                except TimeoutError:
                    if connection.gettimeout() == PATIENCE:
                        raise
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(PATIENCE)
                    continue
                if not piece:
                    break
                received += piece
        return received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


def complete(received: bytes) -> bool:
    """Whether this is a whole response."""
    head, end, body = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is None:
        return b"\r\ntransfer-encoding: chunked" in head.lower() and body.endswith(b"0\r\n\r\n")
    return bool(end) and len(body) >= int(length[1])


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1]) if response.startswith(b"HTTP/1.1 ") else 0


def keep_alive(server: Server, *requests: bytes) -> list[int]:
    """The status codes of requests on one connection, each answered before the next is sent."""
    codes = []
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection,
        connection.makefile("rb") as file,
    ):
        for request in requests:
            connection.sendall(request)
            codes.append(int(file.readline().split(b" ")[1]))
            length = 0
            while line := file.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            file.read(length)
    return codes


@pytest.fixture(autouse=True)
def alive(server: Server) -> Callable[[], None]:
    def check() -> None:
        assert server.ask("SELECT 'alive'") == "alive"

    return check


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"\r\n\r\n", {0, 400}),
        (b"NONSENSE\r\n\r\n", {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"SSH-2.0-OpenSSH\r\n", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: x\r\n\r\nSELECT 1", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: -1\r\n\r\nSELECT 1", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: 99999999999999999999\r\n\r\nSELECT 1", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: 8\r\nContent-Length: 9\r\n\r\nSELECT 1", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nSELECT 1\r\n0\r\n\r\n", {0, 400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: 100\r\n\r\nSELECT 1", {0, 400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"\r\n", {400, 411}),
        (b"POST / HTTP/1.0\r\n" + AUTH + b"Content-Length: 8\r\n\r\nSELECT 1", {200}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"Bad Header: 1\r\n\r\n", {400}),
        (b"POST / HTTP/1.1\r\n" + AUTH + b"X: \x00\r\n\r\n", {400}),
        (b"GET /?query=SELECT%201%ZZ%00%ff HTTP/1.1\r\n" + AUTH + b"\r\n", {400}),
        (b"GET /?%ff=%fe&query=SELECT+1 HTTP/1.1\r\n" + AUTH + b"\r\n", {400}),
        (b"GET /?&&==&=a&query=SELECT+1&& HTTP/1.1\r\n" + AUTH + b"\r\n", {200}),
        (b"GET //////..%2f..%2fetc/passwd HTTP/1.1\r\n" + AUTH + b"\r\n", {404}),
        (b"GET /?query=SELECT+1&query=SELECT+2 HTTP/1.1\r\n" + AUTH + b"\r\n", {200}),
        (b"GET http://other.host/?query=SELECT+1 HTTP/1.1\r\n" + AUTH + b"\r\n", {200, 400, 404}),
        (b"CONNECT other.host:80 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404}),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", {200, 400}),
        (b"GET /?query=" + b"1" * 3_000_000 + b" HTTP/1.1\r\n" + AUTH + b"\r\n", {400}),
        (b"GET / HTTP/1.1\r\n" + b"X-Header: value\r\n" * 200_000 + b"\r\n", {400}),
        (b"GET / HTTP/1.1\r\nX-Header: " + b"v" * 3_000_000 + b"\r\n\r\n", {400}),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else "",
)
def test_broken_requests(server: Server, alive: Callable[[], None], request_bytes: bytes, expected: set[int]) -> None:
    # Where no answer is right too, part of the request is missing.
    assert status(exchange(server, request_bytes, whole=0 not in expected)) in expected
    alive()


@pytest.mark.parametrize(
    ("parameter", "value", "code"),
    [
        ("compress", "maybe", 467),
        ("decompress", "x", 467),
        ("wait_end_of_query", "2", 467),
        ("buffer_size", "-1", 36),
        ("buffer_size", "9" * 30, 36),
        ("readonly", "x", 36),
        ("session_timeout", "x", 374),
        ("role", "stranger", 511),
        ("max_threads", "x", 27),
        ("max_threads", "-1", 72),
        ("http_zlib_compression_level", "x", 36),
        ("nonsense", "1", 115),
        ("send_progress_in_http_headers", "?", 467),
        ("default_format", "Nope", 73),
        ("default_format", "a b' --", 73),
        ("session_check", "1x", 467),
        ("close_session", "y", 467),
        ("stacktrace", "1", 0),
        ("client_protocol_version", "x", 36),
        ("quota_key", "x", 0),
        ("param_", "1", 0),
        ("param_a'b", "1", 0),
        ("database", "`'\\", 81),
    ],
)
def test_bad_parameters(server: Server, parameter: str, value: str, code: int) -> None:
    headers = {"Accept-Encoding": "gzip"}
    parameters = {parameter: value, "session_id": "fuzz"} if parameter.startswith("session") else {parameter: value}
    response = server.http.post("/", params=parameters, content="SELECT 1", headers=headers)
    assert response.headers.get("x-clickhouse-exception-code", "0") == str(code), response.text
    assert (response.status_code == 200) == (code == 0)


@pytest.mark.long
def test_huge_queries(server: Server, alive: Callable[[], None]) -> None:
    listed = ",".join(map(str, range(200_000)))
    assert server.post(f"SELECT 1 IN ({listed})").headers["x-clickhouse-exception-code"] == "62"
    assert (
        server.ask(
            f"SELECT 1 IN ({listed})",
            max_query_size=10_000_000,
            max_ast_elements=1_000_000,
            max_expanded_ast_elements=1_000_000,
        )
        == "1"
    )
    too_large = server.post(b"SELECT '" + b"x" * (70 << 20) + b"'")
    assert (too_large.status_code, too_large.headers["x-clickhouse-exception-code"]) == (413, "229")
    deep = "SELECT " + "(" * 5000 + "1" + ")" * 5000
    assert server.post(deep).status_code in (400, 500)
    alive()


def test_errors_leave_the_connection_usable(server: Server) -> None:
    def post(query: bytes, extra: bytes = b"") -> bytes:
        return b"POST / HTTP/1.1\r\n" + AUTH + extra + b"Content-Length: %d\r\n\r\n%b" % (len(query), query)

    large = b"INSERT INTO nope FORMAT CSV\n" + b"1\n" * 500_000
    requests = [post(b"SELECT 1"), post(b"SELECT nope"), post(large), post(b"SELECT 1", b"Content-Encoding: br\r\n")]
    codes = keep_alive(server, *requests, post(b"SELECT 2"))
    assert codes[:2] == [200, 404]
    assert (codes[2], codes[-1]) == (404, 200)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    requests = b"".join(b"GET /?query=SELECT+%d HTTP/1.1\r\n%b\r\n" % (number, AUTH) for number in range(20))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(requests)
        received = b""
        while received.count(b"HTTP/1.1 200") < 20 or not received.endswith(b"\r\n\r\n19\n"):
            received += connection.recv(1 << 16)
    positions = [received.index(b"\r\n\r\n%d\n" % number) for number in range(20)]
    assert positions == sorted(positions)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "Content-Encoding",
                "Accept-Encoding",
                "Content-Type",
                "Authorization",
                "X-ClickHouse-Format",
                "X-ClickHouse-Database",
                "X-ClickHouse-Query-Id",
                "Transfer-Encoding",
                "Content-Length",
                "Expect",
                "Connection",
            ]
        ),
        st.sampled_from(
            [
                "",
                "gzip",
                "br, zstd",
                "lz4;q=0",
                "multipart/form-data",
                "multipart/form-data; boundary=x",
                "chunked",
                "application/x-www-form-urlencoded",
                "JSON",
                "Basic dHJpdG9uOnMzY3JldC13b3Jk",
                "100-continue",
                "7",
                "\xe4\xff",
            ]
        ),
    ),
    max_size=4,
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            "query",
            "database",
            "compress",
            "decompress",
            "session_id",
            "session_timeout",
            "close_session",
            "param_x",
            "default_format",
            "max_threads",
            "readonly",
            "query_id",
            "wait_end_of_query",
            "role",
            "x_format",
            "user",
        ]
    )
    | st.text(max_size=5),
    st.sampled_from(["", "0", "1", "triton", "SELECT 1", "INSERT INTO t VALUES", "JSON", "\x00", "ä", "'"])
    | st.text(max_size=8),
    max_size=4,
)
BODIES = st.sampled_from(
    [
        b"",
        b"SELECT 1",
        b"SELECT {x:String}",
        b"INSERT INTO t FORMAT CSV\n1",
        b"query=SELECT+1&param_x=1",
        b"\x1f\x8b\x08\x00",
        b'--x\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--x--\r\n',
        b"--x\r\n\r\n",
        b"--x--",
    ]
) | st.binary(max_size=60)


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.long)])
def test_requests_of_all_sorts(server: Server, count: int) -> None:
    @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(
        method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE"]),
        headers=HEADERS,
        parameters=PARAMETERS,
        body=BODIES,
    )
    def ask(method: str, headers: list[tuple[str, str]], parameters: dict[str, str], body: bytes) -> None:
        request_is_answered(server, method, headers, parameters, body)

    ask()


def request_is_answered(
    server: Server, method: str, headers: list[tuple[str, str]], parameters: dict[str, str], body: bytes
) -> None:
    target = "/?" + urllib.parse.urlencode(parameters, errors="surrogatepass")
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    if "Content-Length" not in dict(headers):
        head += f"Content-Length: {len(body)}\r\n"
    response = exchange(server, head.encode("latin-1") + b"\r\n" + body)
    assert response == b"" or 200 <= status(response) < 600
    assert b"Unexpected error in the server" not in response
    assert server.http.get("/ping").text == "Ok.\n"


def test_random_bytes(server: Server, alive: Callable[[], None]) -> None:
    chance = random.Random(1)
    template = (
        b"POST /?query=INSERT+INTO+t+FORMAT+CSV HTTP/1.1\r\n" + AUTH + b"Content-Length: 30\r\n\r\n" + b"1,2\n" * 8
    )
    for _ in range(300):
        damaged = bytearray(template)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        response = exchange(server, bytes(damaged))
        assert response == b"" or 200 <= status(response) < 600
    alive()


def test_no_client_gets_what_belongs_to_another(server: Server) -> None:
    """Many connections at once, some of them failing or leaving in the middle: every answer is its asker's own."""

    def ask(number: int) -> None:
        kind = number % 4
        if kind == 0:
            assert server.post(f"SELECT 'mine-{number}', throwIf(1)").status_code == 500
        elif kind == 1:
            query = f"SELECT 'mine-{number}' FROM system.numbers"
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(
                    b"POST / HTTP/1.1\r\n" + AUTH + b"Content-Length: %d\r\n\r\n%b" % (len(query), query.encode())
                )
                connection.recv(1000)
        elif kind == 2:
            rows = server.ask(f"SELECT 'mine-{number}' FROM numbers(200000)").split("\n")
            assert set(rows) == {f"mine-{number}"}
            assert len(rows) == 200_000
        else:
            assert server.ask(f"SELECT 'mine-{number}'") == f"mine-{number}"

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(240)))
