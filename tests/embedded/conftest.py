"""A real server process on the real engine, and plain HTTP to talk to it."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

USER, PASSWORD = "triton", "s3cret-word"
LOCAL = ["127.0.0.1/32", "::1/128"]
USERS = [
    {"name": "default", "password": "", "networks": LOCAL},
    {"name": USER, "password": PASSWORD},
    {"name": "elsewhere", "password": PASSWORD, "networks": ["192.0.2.0/24"]},
]
PATIENCE = 100
"""Seconds for what takes a few on a machine that has time."""


class Server:
    """One server process."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "server.log"
        users = directory / "users.json"
        users.write_text(json.dumps(USERS))
        command = [sys.executable, "-m", "triton_env.servers.clickhouse"]
        # The system gives it a port: one that was found free here might be in use when the server gets there.
        command += ["--host", "127.0.0.1", "--port", "0", "--native-port", "0", "--path", str(directory / "data")]
        command += ["--users-file", str(users), "--database", "triton", *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.http = httpx.Client(auth=(USER, PASSWORD), timeout=PATIENCE)
        try:
            self.port, self.native_port = self._wait_for_ports()
            self.url = f"http://127.0.0.1:{self.port}"
            self.http.base_url = httpx.URL(self.url)
            assert self.http.get("/ping", auth=None).text == "Ok.\n"
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def _wait_for_ports(self) -> tuple[int, int]:
        """Where the server listens, as soon as it does: for HTTP and for the native protocol."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(psutil.NoSuchProcess):  # it has just ended, which the next look tells
                listening = {
                    connection.laddr.port
                    for connection in psutil.Process(self.process.pid).net_connections("tcp")
                    if connection.status == psutil.CONN_LISTEN
                }
                if len(listening) == 2:
                    return self._distinguished(listening)
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def _distinguished(self, ports: set[int]) -> tuple[int, int]:
        answers = {self.http.get(f"http://127.0.0.1:{port}/ping", auth=None).status_code: port for port in ports}
        return answers[200], answers[400]

    def post(self, query: str | bytes, **parameters: object) -> httpx.Response:
        """Send a query in the body."""
        headers = {"accept-encoding": "identity"}
        return self.http.post("/", params=parameters, content=query, headers=headers)  # type: ignore[arg-type]

    def get(self, query: str, **parameters: object) -> httpx.Response:
        """Send a query in the URL."""
        return self.http.get("/", params={"query": query, **parameters})  # type: ignore[arg-type]

    def ask(self, query: str | bytes, **parameters: object) -> str:
        """The result of a query that must succeed, without the last line break."""
        response = self.post(query, **parameters)
        assert response.status_code == 200, response.text
        return response.text.removesuffix("\n")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns its exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def read_until_cut(pieces: Iterator[bytes]) -> bytes:
    """Everything that comes before the server cuts the connection, which it must do."""
    received = bytearray()
    try:
        for piece in pieces:
            received += piece
    except httpx.RemoteProtocolError:
        return bytes(received)
    raise AssertionError("the response ended as if it were whole")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    running = Server(tmp_path_factory.mktemp("clickhouse"))
    yield running
    alive = running.process.poll() is None
    status = running.stop()
    log = running.log.read_text()
    assert alive, f"the server died: {log}"
    assert "Traceback" not in log
    assert status == 0


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.ask(f"CREATE DATABASE {name}")
    yield name
    server.ask(f"DROP DATABASE {name}")
