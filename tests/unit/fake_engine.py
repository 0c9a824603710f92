"""A tiny Docker engine: an HTTP server on a Unix socket that knows the few requests which `Engine` makes.

It does what a real engine cannot be asked for: be old, break off, fail a pull, pull without end.
"""

import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Json = dict[str, Any] | list[Any]
Message = dict[str, Any]


class BreakOff(Exception):
    """Raised by a route: the connection ends there and then."""


class Refusal(Exception):
    """Raised by a route: a status and the message of an error response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeEngine:
    """
    Attributes:
        url: for DOCKER_HOST.
        api: the newest API version that it speaks.
        images: what is on it: for each image the paths that it declares as volumes.
        pull: yields the messages of a pull; what it raises ends the pull.
        containers: by id, as inspected.
        published: the containers that `publish` filters find, by port.
        broken: whether it breaks off every request.
        requests: method and path of each request so far, without the version.
    """

    def __init__(self, socket_path: Path) -> None:
        self.url = f"unix://{socket_path}"
        self.api = "1.41"
        self.images: dict[str, list[str]] = {}
        self.pull: Callable[[str], Iterator[Message]] = lambda image: iter(())
        self.containers: dict[str, Json] = {}
        self.published: dict[str, list[Json]] = {}
        self.broken = False
        self.requests: list[str] = []

    def answer(self, method: str, path: str, query: str) -> Json | Iterator[Message]:
        path = re.sub(r"^/v\d+\.\d+", "", path)
        self.requests.append(f"{method} {path}")
        if self.broken:
            raise BreakOff
        if path in ("/_ping", "/version"):
            return {"Version": "20.10.24", "ApiVersion": self.api}
        if match := re.fullmatch(r"/images/(.+)/json", path):
            if match[1] not in self.images:
                raise Refusal(404, f"No such image: {match[1]}")
            return {"Id": "sha256:0", "Config": {"Volumes": {path: {} for path in self.images[match[1]]} or None}}
        if path == "/images/create":
            return self.pull(query)
        if match := re.fullmatch(r"/containers/(\w{12,})/json", path):
            if match[1] not in self.containers:
                raise Refusal(404, f"No such container: {match[1]}")
            return self.containers[match[1]]
        if path == "/containers/json":
            return next((found for port, found in self.published.items() if port in query), [])
        raise Refusal(404, "page not found")


@contextmanager
def serving(folder: Path) -> Iterator[FakeEngine]:
    engine = FakeEngine(folder / "docker.sock")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            # The client may be gone before the answer is out: that is its right.
            with suppress(BrokenPipeError, ConnectionResetError):
                try:
                    answer = engine.answer(self.command, path, query)
                    if isinstance(answer, dict | list):
                        self.whole(200, answer)
                    else:
                        self.streamed(answer)
                except Refusal as refusal:
                    self.whole(refusal.status, {"message": str(refusal)})
                except BreakOff:
                    self.close_connection = True

        def do_POST(self) -> None:
            self.do_GET()

        def whole(self, status: int, answer: Json) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def streamed(self, messages: Iterator[Message]) -> None:
            first = next(messages, None)  # a refusal before the first message still has a status of its own
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while first is not None:
                line = json.dumps(first).encode() + b"\r\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                first = next(messages, None)
            self.wfile.write(b"0\r\n\r\n")

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        block_on_close = False

    with Server(str(folder / "docker.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
