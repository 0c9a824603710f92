"""Questions to an engine over its socket: what its answers may look like."""

import socket
import threading
from pathlib import Path

import pytest

from triton_env.runtimes.docker import engine_socket


def engine_answer(folder: Path, content: bytes) -> bytes:
    """What comes of an engine that answers with this."""
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(content)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            return engine_socket.fetch(path, "/version", {}, 60)
        finally:
            thread.join()


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.0 200 OK\r\n\r\n[12]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[12]",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1;x=y\r\n[\r\n3\r\n12]\r\n0\r\n\r\n",
    ],
)
def test_answers_of_engines_and_of_proxies_before_them(tmp_path: Path, content: bytes) -> None:
    assert engine_answer(tmp_path, content) == b"[12]"


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[12]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[12]\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[12]\r\n0\r\n\r\n",
    ],
)
def test_an_answer_of_an_engine_that_is_cut_off_is_none(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(engine_socket.Unanswered, match="closed the connection in the middle of its answer"):
        engine_answer(tmp_path, content)


def test_a_refusal_in_chunks_has_the_words_of_the_engine(tmp_path: Path) -> None:
    words = b'{"message":"no such container"}'
    content = b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(words), words)
    with pytest.raises(engine_socket.Absent, match=r"^no such container$"):
        engine_answer(tmp_path, content)
