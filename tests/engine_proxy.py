"""A proxy between a client and the real Docker engine, which can go away, hang, break off and refuse.

    with proxied_engine(folder) as proxy:
        ...                 # DOCKER_HOST=proxy.url
        proxy.hang()        # takes connections and answers nothing from now on
        proxy.come_back()   # the engine is there again

What passes is not looked into, except for the first lines of requests: the proxy relays bytes.
"""

import contextlib
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import docker
import psutil

Trouble = Literal["cut", "reset", "hang", "half", "refuse"]
TROUBLES: tuple[Trouble, ...] = ("cut", "reset", "hang", "half", "refuse")

_BROKEN = b'{"message": "the engine is broken"}'
_REFUSAL = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(_BROKEN)
    + _BROKEN
)
_HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n["
_CHUNK = 65536
_DEFAULT = "/var/run/docker.sock"


def engine_socket() -> str:
    """The path of the real engine's socket, as this process would find it."""
    client = docker.from_env()
    try:
        adapter = client.api.adapters["http+docker://"]
        return str(getattr(adapter, "socket_path", _DEFAULT))
    finally:
        client.close()


class EngineProxy:
    """
    Args:
        path: of its socket.
        tcp: whether it has a port of its own instead.
        before: the port of another server that it is to stand before, such as one of ssh; 0 for the engine.

    Attributes:
        port: its port; 0 where it has a socket.
        url: for DOCKER_HOST.
        trouble: what is the matter at present; empty: nothing.
        requests: the first lines of all that were sent, where each came in one piece.
    """

    def __init__(self, path: str, *, tcp: bool = False, before: int = 0) -> None:
        self._real: str | tuple[str, int] = ("127.0.0.1", before) if before else engine_socket()
        self._path = "" if tcp else path
        self.port = 0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.trouble = ""
        self.requests: list[bytes] = []
        self._when: Callable[[bytes], bool] = lambda request: False
        self._next: Trouble = "hang"
        self._passed_on = False
        self._listen()
        self.url = f"tcp://127.0.0.1:{self.port}" if tcp else f"unix://{path}"

    def cut(self) -> None:
        """The engine is stopped: connections end, the socket is gone, new connections are refused."""
        self.trouble = "cut"
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        if self._path:
            Path(self._path).unlink(missing_ok=True)
        self._end_connections()

    def reset(self) -> None:
        """Connections are taken and reset."""
        self._change("reset")

    def hang(self) -> None:
        """Connections are taken, and nothing is answered, on old ones neither."""
        self.trouble = "hang"

    def half(self) -> None:
        """Each answer stops in the middle."""
        self._change("half")

    def refuse(self) -> None:
        """Each request is answered with status 500."""
        self._change("refuse")

    def be(self, trouble: Trouble) -> None:
        getattr(self, trouble)()

    def be_when(self, trouble: Trouble, asked: bytes, *, passed_on: bool = False) -> threading.Event:
        """Have trouble as soon as a request comes that contains these bytes; set when it is so.

        The request is not passed on, unless that is asked for: then its answer alone is lost.
        """
        came = threading.Event()
        self._passed_on = passed_on

        def is_it(request: bytes) -> bool:
            if asked in request.partition(b"\r\n")[0]:
                came.set()
            return came.is_set()

        self._next = trouble
        self._when = is_it
        return came

    def come_back(self) -> None:
        """The engine is there again, as after its restart: what hung is interrupted."""
        self._when = lambda request: False
        self.trouble = ""
        self._end_connections()
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        self.cut()

    def _change(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._end_connections()

    def _listen(self) -> None:
        if self._path:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self._path)
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            self.port = listener.getsockname()[1]
        listener.listen(128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX if isinstance(self._real, str) else socket.AF_INET)
        with self._lock:
            self._connections |= {client, engine}
        try:
            if self.trouble == "reset":
                self._reset(client)
                return
            engine.connect(self._real)
            answers = threading.Thread(target=self._relay, args=(engine, client), daemon=True)
            answers.start()
            self._relay(client, engine, is_request=True)
            # A client that has said all may still listen: `docker exec` without input.
            with suppress(OSError):
                engine.shutdown(socket.SHUT_WR)
            answers.join()
        except OSError:
            pass
        finally:
            self._end(client, engine)

    def _relay(self, source: socket.socket, target: socket.socket, *, is_request: bool = False) -> None:
        is_passed_on = False
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if is_request:
                    self.requests.append(data.partition(b"\r\n")[0])
                    if not self.trouble and self._when(data):
                        self.be(self._next)
                        is_passed_on = self._passed_on
                match self.trouble:
                    case "hang":
                        if is_passed_on:
                            target.sendall(data)
                        continue
                    case "refuse" | "half" if is_request:
                        source.sendall(_REFUSAL if self.trouble == "refuse" else _HALF)
                        if self.trouble == "refuse":
                            break
                        continue
                    case "reset" | "cut":
                        break
                target.sendall(data)
            if not is_request:
                target.shutdown(socket.SHUT_WR)

    def _reset(self, client: socket.socket) -> None:
        if not self._path:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _end_connections(self) -> None:
        with self._lock:
            connections = tuple(self._connections)
        for connection in connections:
            # Shut down, not closed: threads wait in them.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _end(self, *connections: socket.socket) -> None:
        with self._lock:
            self._connections -= set(connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@contextmanager
def proxied_engine(*, tcp: bool = False, before: int = 0) -> Iterator[EngineProxy]:
    """A proxy in front of the engine, or of another server; see `EngineProxy`. At an address of its own."""
    # A path of a socket may have 107 bytes, which the folders of pytest take up.
    with tempfile.TemporaryDirectory(prefix="proxy-", dir="/tmp") as folder:
        proxy = EngineProxy(os.path.join(folder, "docker.sock"), tcp=tcp, before=before)
        with contextlib.closing(proxy):
            yield proxy
        # Those that removed what a test had left look whether more turns up, and would for minutes.
        for process in psutil.process_iter(["cmdline"]):
            if folder in " ".join(process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
