"""Our HTTP client for ClickHouse, against a server that ends idle connections at the worst moment."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from triton_env.core.model import Endpoint, Placement
from triton_env.errors import QueryFailed
from triton_env.services import ClickHouse
from triton_env.services.clickhouse.http import Http, ServerError
from triton_env.services.clickhouse.sql import _lines
from triton_env.settings import Settings

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1\n"


class Server:
    """Answers the first request of each connection, and ends the connection as the second one comes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.requests = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            for answer in (ANSWER, b""):
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith((b"SELECT 1", b"0\r\n\r\n")):
                    if not (data := connection.recv(65536)):
                        return
                    received += data
                self.requests += 1
                connection.sendall(answer)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


def client(server: Server) -> Http:
    endpoint = Endpoint("127.0.0.1", server.listener.getsockname()[1])
    return Http(ClickHouse(Settings.model_construct(), Placement({"http": endpoint})))


def test_a_connection_that_the_server_ends_just_as_it_is_used_again_is_replaced(server: Server) -> None:
    with client(server) as http:
        for _ in range(3):
            assert http.run("SELECT 1") == "1\n"
    assert server.requests == 5


def test_data_that_is_sent_in_pieces_is_not_sent_again(server: Server) -> None:
    with client(server) as http:
        assert http.run("SELECT 1") == "1\n"
        with pytest.raises(ServerError, match="without response"):
            http.insert("INSERT INTO t FORMAT TSV", iter([b"SELECT 1"]))
    assert server.requests == 2


def test_an_answer_that_does_not_end_is_left() -> None:
    drops = itertools.repeat(b"[1]\n")
    assert next(_lines(drops, time.monotonic() + 60)) == "[1]"
    with pytest.raises(QueryFailed, match="in time"):
        next(_lines(drops, time.monotonic() - 1))
