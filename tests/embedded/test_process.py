"""The process: its start, its end, and what it leaves behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from .conftest import PATIENCE, Server

# Each of them starts servers, some many.
pytestmark = pytest.mark.timeout(400)

MODULE = [sys.executable, "-m", "triton_env.servers.clickhouse"]


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clickhouse")


Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers, and sees that none is left whatever the test comes to."""
    started: list[Server] = []

    def begin(directory: Path, *options: str) -> Server:
        started.append(Server(directory, *options))
        return started[-1]

    yield begin
    for server in started:
        server.stop(signal.SIGKILL)


def fails(*options: str) -> str:
    result = subprocess.run([*MODULE, *options], capture_output=True, text=True, timeout=2 * PATIENCE)
    assert result.returncode not in (0, -signal.SIGSEGV)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_data_outlives_the_process(directory: Path, start: Start) -> None:
    server = start(directory)
    server.ask("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    server.ask("INSERT INTO t VALUES (1), (2)")
    server.ask("CREATE TABLE default.u (a Int32) ENGINE = Log")
    server.ask("INSERT INTO default.u VALUES (7)")
    server.ask("CREATE DATABASE other")
    server.ask("CREATE VIEW other.v AS SELECT sum(a) AS s FROM default.t")
    assert server.stop() == 0
    again = start(directory)
    assert again.ask("SELECT s, (SELECT a FROM default.u) FROM other.v") == "3\t7"
    assert again.stop(signal.SIGINT) == 0


def test_it_answers_when_its_default_database_is_dropped(directory: Path, start: Start) -> None:
    server = start(directory)
    server.ask("CREATE TABLE default.t (a Int32) ENGINE = Memory")
    server.ask("DROP DATABASE default")
    assert server.ask("SELECT count() FROM system.tables WHERE database = 'default'", max_threads=1) == "0"
    assert server.ask("SELECT currentDatabase()", database="triton") == "triton"


def test_what_was_inserted_survives_a_kill(directory: Path, start: Start) -> None:
    server = start(directory)
    server.ask("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    server.ask("INSERT INTO t VALUES (1), (2)")
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    again = start(directory)
    assert again.ask("SELECT sum(a) FROM t") == "3"
    assert again.stop() == 0


@pytest.mark.parametrize(
    "crash",
    [
        *(signal.SIGSEGV, signal.SIGABRT),
        *(pytest.param(each, marks=pytest.mark.long) for each in (signal.SIGBUS, signal.SIGSYS, signal.SIGTRAP)),
    ],
)
def test_a_crash_ends_the_process(directory: Path, start: Start, crash: signal.Signals) -> None:
    server = start(directory)
    assert server.stop(crash) == -crash
    if crash not in (signal.SIGSYS, signal.SIGTRAP):
        assert "Fatal Python error" in server.log.read_text()


LOADS_HALF = """
import sys, threading
from triton_env.servers.clickhouse import server

def load_engine():
    threading.Thread(target=threading.Event().wait).start()
    raise RuntimeError("Code: 236. DB::Exception: The server is shutting down due to a fatal error. (ABORTED)")

server.load_engine = load_engine
sys.exit(server.main(sys.argv[1:]))
"""


def test_an_engine_that_crashes_while_it_is_loaded_ends_the_process(directory: Path) -> None:
    users = directory / "users.json"
    users.write_text("[]")
    options = ["--host", "127.0.0.1", "--port", "0", "--path", str(directory / "data"), "--users-file", str(users)]
    options += ["--database", "triton"]
    result = subprocess.run(
        [sys.executable, "-c", LOADS_HALF, *options], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 1
    assert "cannot load the engine" in result.stderr
    assert "shutting down due to a fatal error" in result.stderr


def test_running_queries_get_their_time_at_the_end(directory: Path, start: Start) -> None:
    server = start(directory, "--shutdown-grace", "50")
    answers: list[httpx.Response] = []
    # Long enough to be seen running.
    query = "SELECT sum(sleepEachRow(0.05)) FROM numbers(100) SETTINGS max_block_size = 1"
    client = threading.Thread(target=lambda: answers.append(httpx.post(server.url, content=query, timeout=PATIENCE)))
    client.start()
    while server.ask("SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.05)%'") != "2":
        assert client.is_alive()
    assert server.stop() == 0
    client.join(PATIENCE)
    assert (answers[0].status_code, answers[0].text) == (200, "0\n")


def test_endless_queries_do_not_keep_it_alive(directory: Path, start: Start) -> None:
    server = start(directory, "--shutdown-grace", "1")
    queries = (
        "SELECT * FROM system.numbers",
        "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))",
        "SELECT sum(sleepEachRow(1)) FROM numbers(100000) SETTINGS max_block_size = 1 FORMAT JSON",
    )
    with contextlib.ExitStack() as connections:
        for query in queries:
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(query)}\r\n\r\n{query}".encode())
        while int(server.ask("SELECT count() FROM system.processes")) < 4:
            time.sleep(0.01)
        assert server.stop() == 0


def test_it_can_be_asked_to_shut_down_in_sql(directory: Path, start: Start) -> None:
    server = start(directory)
    assert server.post("SYSTEM SHUTDOWN", readonly=1).headers["x-clickhouse-exception-code"] == "164"
    assert server.ask("/* now */ system shutdown;") == ""
    assert server.stop(0) == 0


def test_a_kill_in_sql_reaches_no_other_process(directory: Path, start: Start) -> None:
    server = start(directory)
    with pytest.raises(httpx.TransportError):
        server.post("SYSTEM KILL")
    assert server.stop(0) == -signal.SIGKILL


def test_a_start_that_cannot_work_says_why(directory: Path, server: Server) -> None:
    assert "required: --path" in fails()
    assert "users file" in fails("--path", str(directory / "a"), "--users-file", str(directory / "absent"))
    assert "question mark" in fails("--path", str(directory / "a?b"))
    in_use = server.log.parent / "data"
    assert "cannot start" in fails("--path", str(in_use), "--port", "1")
    (directory / "file").write_text("")
    assert "cannot start" in fails("--path", str(directory / "file"))
    assert "address already in use" in fails("--path", str(directory / "b"), "--port", str(server.port))


def test_a_start_loads_nothing_that_serving_does_not_need(directory: Path) -> None:
    code = (
        "import sys; from triton_env.servers.clickhouse import server, engine;"
        "from pathlib import Path; engine.Engine(Path(sys.argv[1]), 'triton').close();"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(directory / "d")], capture_output=True, text=True, check=True
    )
    heavy = {
        "pyarrow",
        "pandas",
        "numpy",
        "pydantic",
        "clickhouse_connect",
        "docker",
        "testcontainers",
        "boto3",
        "psycopg",
        "redis",
    }
    assert heavy.isdisjoint(result.stdout.split())


def test_several_servers_beside_each_other(directory: Path, start: Start) -> None:
    zones = ["Asia/Tokyo", "UTC"]
    servers = [start(directory / str(number), "--option", f"timezone={zone}") for number, zone in enumerate(zones)]
    assert [each.ask("SELECT timezone()") for each in servers] == zones
    for number, each in enumerate(servers):
        each.ask("CREATE TABLE t ENGINE = Log AS SELECT " + str(number) + " AS a")
    assert [each.ask("SELECT a FROM t") for each in servers] == ["0", "1"]
    assert [each.stop() for each in servers] == [0, 0]
    for each in servers:
        with pytest.raises(ProcessLookupError):
            os.kill(each.process.pid, 0)
