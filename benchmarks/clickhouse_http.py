"""What the HTTP server of the embedded ClickHouse costs, measured against chdb called in the same process.

    python benchmarks/clickhouse_http.py [--repeat 7] [--json]

Both sides run the same statements on the same engine, taking turns, on this machine. Small queries count by
their median, large ones by their best time, throughputs by their best second. The exit status is 1 if an aim
is missed. Engine and clients share the machine's cores: close what else is running.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chdb import _chdb

ROWS = 1_000_000
CREATE = "CREATE TABLE t (id UInt64, name String, at DateTime, price Float64, ok Bool) ENGINE = MergeTree ORDER BY id"
SELECT = (
    "SELECT number AS id, 'name ' || toString(number % 1000) AS name, toDateTime(1700000000 + number) AS at, "
    f"number / 7 AS price, number % 2 = 0 AS ok FROM numbers({ROWS})"
)
SMALL = "SELECT 1"
WORK = "SELECT sum(sipHash64(number)) FROM numbers(300000) SETTINGS max_threads = 1"


@dataclass(frozen=True)
class Line:
    """One line of the table: two measurements (in process and over HTTP, or one client and eight) and the aim."""

    name: str
    first: float
    second: float
    unit: str
    aim: str
    met: bool


@contextmanager
def server(directory: Path) -> Iterator[int]:
    """A server process; yields its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "triton_env.servers.clickhouse", "--port", str(port)]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, "--path", str(directory / "server")], stderr=log)
        try:
            while True:
                try:
                    Client(port).query(SMALL)
                    break
                except ConnectionError:
                    if process.poll() is not None:
                        raise
                    time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait()


class Client:
    """A client that does no more than HTTP: what other clients make of the bytes is not the server's doing."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def query(self, statement: str, data: bytes = b"") -> list[bytearray]:
        """Run a statement, with data after it; returns the pieces of the result."""
        target = f"/?query={urllib.parse.quote_plus(statement)}"
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self._socket.sendall(head.encode() + data if len(data) < 1000 else head.encode())
        if len(data) >= 1000:
            self._socket.sendall(data)
        status = self._file.readline()
        if not status:
            raise ConnectionError("the server closed the connection")
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        pieces = [self._read(int(headers[b"content-length"]))] if b"content-length" in headers else self._chunks()
        if b" 200 " not in status:
            raise RuntimeError(b"".join(pieces).decode())
        return pieces

    def _chunks(self) -> list[bytearray]:
        pieces = []
        while size := int(self._file.readline(), 16):
            pieces.append(self._read(size))
            self._file.readline()
        self._file.readline()
        return pieces

    def _read(self, size: int) -> bytearray:
        piece = bytearray(size)
        if self._file.readinto(piece) != size:
            raise ConnectionError("the response ended in the middle")
        return piece


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def take_turns(
    repeat: int, *calls: Callable[[], object], before: Callable[[], object] = lambda: None
) -> list[list[float]]:
    """The times of each call in seconds, all of them called in turns after one round to warm up."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(repeat + 1):
        for index, call in enumerate(calls):
            before()
            taken = seconds(call)
            if number:
                times[index].append(taken)
    return times


def throughput(port: int, clients: int, statement: str, duration: float = 1.0) -> float:
    """Queries per second of so many clients, each with a connection and a thread of its own."""
    done = [0] * clients
    stop = time.perf_counter() + duration

    def work(index: int) -> None:
        client = Client(port)
        while time.perf_counter() < stop:
            client.query(statement)
            done[index] += 1

    def work_in_all() -> None:
        threads = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    taken = seconds(work_in_all)
    return sum(done) / taken


def in_process_insert(connection: object, data: bytes) -> None:
    """The same bytes through chdb's own streaming insert, in pieces of 1 MiB."""
    handle = connection.send_insert("INSERT INTO t", "Native")  # type: ignore[attr-defined]
    for start in range(0, len(data), 1 << 20):
        connection.insert_append(handle, data[start : start + (1 << 20)])  # type: ignore[attr-defined]
    connection.insert_done(handle)  # type: ignore[attr-defined]


@contextmanager
def loopback(data: bytes) -> Iterator[Callable[[], object]]:
    """Yields what carries `data` over a TCP connection of this machine and nothing else: no server is quicker."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(1):
                connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listener.getsockname()) as client, client.makefile("rb") as file:

            def carry() -> None:
                client.sendall(b"?")
                piece = bytearray(len(data))
                assert file.readinto(piece) == len(data)

            yield carry
        thread.join()


def query_in_process(inside: Any, query: str) -> bytes:
    found: bytes = inside.query(query).bytes()
    return found


def with_loopback(
    repeat: int, name: str, data: bytes, *calls: Callable[[], object], aim: float | None = None, **options: Any
) -> list[Line]:
    """In process and over HTTP, and beside them what carrying the bytes costs by itself.

    The aim is a multiple of what it takes in process; without one, 1.1 times that and then the bytes.
    """
    with loopback(data) as carry:
        inside, http, bytes_alone = (min(times) for times in take_turns(repeat, *calls, carry, **options))
    both = inside + bytes_alone
    words, limit = ("1.1 x with its bytes", 1.1 * both) if aim is None else (f"{aim} x", aim * inside)
    return [
        Line(name, inside, http, "s", f"<= {words}", http <= limit),
        Line("  in process, and then its bytes", inside, both, "s", "-", True),
    ]


def measure(repeat: int) -> list[Line]:
    lines = []
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as port:
        inside = _chdb.connect(f"{name}/inside")  # type: ignore[attr-defined]
        client = Client(port)
        for run in (inside.query, client.query):
            run(CREATE)
        times = take_turns(repeat * 100, lambda: inside.query(SMALL, "TSV").bytes(), lambda: client.query(SMALL))
        first, second = (statistics.median(each) * 1000 for each in times)
        lines.append(Line("small query, p50", first, second, "ms", "< 3 ms", second < 3))

        data: bytes = inside.query(SELECT, "Native").bytes()

        def truncate() -> None:
            inside.query("TRUNCATE TABLE t")
            client.query("TRUNCATE TABLE t")

        lines += with_loopback(
            repeat,
            f"insert {ROWS} rows, Native",
            data,
            lambda: in_process_insert(inside, data),
            lambda: client.query("INSERT INTO t FORMAT Native", data),
            before=truncate,
            aim=1.25,
        )
        truncate()
        in_process_insert(inside, data)
        client.query("INSERT INTO t FORMAT Native", data)
        for output_format in ("Native", "CSV"):
            query = f"SELECT * FROM t FORMAT {output_format}"
            assert sum(map(len, client.query(query))) == len(inside.query(query, "TSV").bytes())
            lines += with_loopback(
                repeat,
                f"result of {ROWS} rows, {output_format}",
                inside.query(query, "TSV").bytes(),
                partial(query_in_process, inside, query),
                partial(client.query, query),
            )

        for label, statement in (("small query", SMALL), ("query of 3 ms", WORK)):
            windows = [(throughput(port, 1, statement), throughput(port, 8, statement)) for _ in range(repeat)]
            one, eight = (max(each) for each in zip(*windows, strict=True))
            # More than one core is needed for more than the throughput of one client.
            aim, met = ("8 clients >= 1.6 x one", eight >= 1.6 * one) if (os.cpu_count() or 1) > 1 else ("-", True)
            lines.append(Line(f"{label}, 1 and 8 clients", one, eight, "/s", aim, met))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7, help="rounds per measurement (default: 7)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    lines = measure(options.repeat)
    if options.json:
        print(json.dumps([line.__dict__ for line in lines], indent=2))
    else:
        print(f"{'':34} {'in process':>12} {'over HTTP':>12} {'ratio':>8}")
        for line in lines:
            first, second = f"{line.first:.4g} {line.unit}", f"{line.second:.4g} {line.unit}"
            verdict = line.aim if line.met else f"{line.aim}   MISSED"
            print(f"{line.name:34} {first:>12} {second:>12} {line.second / line.first:>7.2f} x   {verdict}")
    return 0 if all(line.met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
