"""An engine's socket: where it is, and questions to it.

Most commands ask the engine for no more than its containers. The SDK takes longer to load than such a command to run.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from triton_env.settings import docker_host, process_environment

DEFAULT = "unix:///var/run/docker.sock"
SSH = "ssh://"
_SCHEME = "unix://"
_ABSENT = 404
_REFUSED = 400
"""This status and those above it."""
_CHUNK = 1 << 16
_CUT_OFF = "it closed the connection in the middle of its answer"


class Unanswered(Exception):
    """The engine is not there, or broke off."""


class Refusal(Exception):
    """The engine refused, in its words."""


class Absent(Refusal):
    """The engine does not have it."""


def engine_url() -> str:
    """Where the engine is, as Testcontainers finds it: its properties file, DOCKER_HOST, the Docker context."""
    home = Path.home()
    host = _with_path(docker_host())
    configured = host.startswith((_SCHEME, SSH)) or (not host and not _names_context(home))
    # Of a home that cannot be looked into, "not there" is the answer.
    if configured and not os.path.exists(home / ".testcontainers.properties"):
        return host or DEFAULT
    from testcontainers.core.docker_client import get_docker_host

    return get_docker_host() or DEFAULT


_with_paths: dict[str, str] = {}
"""URLs of engines behind ssh that name a socket, by what Testcontainers leaves of them in DOCKER_HOST."""


def _with_path(url: str) -> str:
    if url.startswith(SSH) and (path := urlsplit(url).path).strip("/"):
        _with_paths[url.removesuffix(path)] = url
    return _with_paths.get(url, url)


def socket_path(url: str) -> str:
    """The socket of that URL; empty where it is another kind of address."""
    path = url.removeprefix(_SCHEME)
    return path if path.startswith("/") and path != url and hasattr(socket, "AF_UNIX") else ""


def fetch(path: str, question: str, query: dict[str, Any], timeout: float) -> bytes:
    """What the engine answers to a question.

    Args:
        question: the path of the request.
        query: its parameters; those that are not text go as JSON.
        timeout: seconds for each step.

    Raises:
        Unanswered: with the error under it.
        Absent, Refusal: with the engine's words.
    """
    target = quote(question, "/:") + (f"?{urlencode(as_text(query))}" if query else "")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            # Of HTTP 1.0: the answer ends with the connection.
            connection.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            head, _, body = _all_of(connection).partition(b"\r\n\r\n")
    except OSError as error:
        raise Unanswered(str(error)) from error
    status = head.split(None, 2)[1:2]
    if not status or not status[0].isdigit():
        raise Unanswered("it closed the connection")
    body = _whole(head, body)
    if int(status[0]) >= _REFUSED:
        raise refusal(int(status[0]), body.decode(errors="replace"))
    return body


def decoded(answer: bytes) -> Any:
    """An answer that is JSON.

    Raises:
        Unanswered: it is cut off.
    """
    with suppress(ValueError):
        return json.loads(answer)
    raise Unanswered(_CUT_OFF)


def refusal(status: int, body: str) -> Refusal:
    """The exception for a response that is none, with the message that engines put into it."""
    try:
        words = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        words = body
    return (Absent if status == _ABSENT else Refusal)(words.strip() or f"status {status}")


def as_text(query: dict[str, Any]) -> dict[str, str]:
    """The parameters of a question as they are sent."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}


def _whole(head: bytes, body: bytes) -> bytes:
    """The body of an answer, which a proxy before the engine may send in chunks all the same.

    Raises:
        Unanswered: it is cut off.
    """
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    headers = {name.strip(): value.strip() for name, _, value in fields}
    if headers.get(b"transfer-encoding") == b"chunked":
        return b"".join(_chunks(body))
    if len(body) < int(headers.get(b"content-length") or 0):
        raise Unanswered(_CUT_OFF)
    return body


def _chunks(body: bytes) -> Iterator[bytes]:
    while True:
        line, _, body = body.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Unanswered(_CUT_OFF) from None
        if size > len(body):
            raise Unanswered(_CUT_OFF)
        if not size:
            return
        yield body[:size]
        body = body[size:].removeprefix(b"\r\n")


def _all_of(connection: socket.socket) -> bytes:
    chunks: list[bytes] = []
    while chunk := connection.recv(_CHUNK):
        chunks.append(chunk)
    return b"".join(chunks)


def _names_context(home: Path) -> bool:
    """Whether the docker command's configuration may name a context."""
    folders = [home / ".docker"]
    if configured := process_environment().get("DOCKER_CONFIG"):
        folders.append(Path(configured))
    for folder in folders:
        try:
            if b"currentContext" in (folder / "config.json").read_bytes():
                return True
        except OSError:
            continue
    return False
