"""ClickHouse over HTTP, streaming both ways.

The well-known clients read a result to its end without a look at the mark that a server leaves where a query failed
half-way, and a backup must not take that for data.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import urlencode

import urllib3

from triton_env.archive.sealing import CHUNK
from triton_env.core.breakable import breakable
from triton_env.services import ClickHouse
from triton_env.services.clickhouse.requests import authorization

_TIMEOUT = urllib3.Timeout(connect=10, read=600)
"""Seconds to connect, and between two pieces of an answer."""
_MARK_ROOM = 20_000
"""How much of the end of a stream may be the mark of an error: servers cut their words at 16 KiB."""

_CODE = re.compile(r"Code: (\d+)")

Settings = Mapping[str, str]


class ServerError(Exception):
    """The server refused or broke off a query; the message is its own."""

    @property
    def code(self) -> int:
        """ClickHouse's number of the error; 0 where it gave none."""
        match = _CODE.search(str(self))
        return int(match[1]) if match else 0


class Http:
    """Sends queries to one server. Use it in a `with` block.

    Args:
        connections: how many threads may use it without making new connections again and again.
        timeout: seconds to connect, and between two pieces of an answer.
    """

    def __init__(self, service: ClickHouse, connections: int = 1, timeout: urllib3.Timeout = _TIMEOUT) -> None:
        # Given to the pool, so that no proxy of the environment comes in between.
        self._pool = urllib3.HTTPConnectionPool(
            service.host,
            service.http_port,
            maxsize=connections,
            timeout=timeout,
            retries=False,
            headers=authorization(service),
        )
        self.break_off = breakable(self._pool)
        """Has fail what other threads wait for."""

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._pool.close()

    def run(self, query: str, settings: Settings | None = None) -> str:
        """Send a query and return its whole answer."""
        return b"".join(self.stream(query, settings)).decode()

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a SELECT."""
        answer = self.run(f"{query} FORMAT JSONEachRow", {"output_format_json_quote_64bit_integers": "0"})
        return [json.loads(line) for line in answer.splitlines()]

    def stream(self, query: str, settings: Settings | None = None) -> Iterator[bytes]:
        """Send a query and yield its answer in pieces.

        Raises:
            ServerError: the query failed, before or within the answer.
        """
        response = self._request(_parameters(settings), query.encode())
        try:
            tag = response.headers.get("X-ClickHouse-Exception-Tag", "")
            tail = b""
            for piece in response.stream(CHUNK):
                tail = (tail + piece)[-_MARK_ROOM:]
                yield piece
        except urllib3.exceptions.HTTPError as error:
            raise ServerError(_broken(tail) or f"the connection broke: {error}") from error
        finally:
            response.release_conn()
        # The tag is a random word of this answer, so that no data looks like it.
        if tag and tail.rstrip().endswith(b"__exception__") and tag.encode() in tail:
            raise ServerError(_broken(tail))

    def insert(self, statement: str, data: Iterable[bytes], settings: Settings | None = None) -> None:
        """Send an INSERT ... FORMAT statement with its data.

        Raises:
            ServerError: the server did not take all of it.
        """
        response = self._request({**_parameters(settings), "query": statement}, data)
        response.read()
        response.release_conn()

    def _request(self, parameters: Mapping[str, str], body: Any) -> urllib3.BaseHTTPResponse:
        target = f"/?{urlencode(parameters)}"
        send = partial(self._pool.request, "POST", target, body=body, preload_content=False, redirect=False)
        try:
            try:
                response = send()
            except urllib3.exceptions.ProtocolError as error:
                # A server ends connections that are idle for some seconds, perhaps just as one is used again.
                if not isinstance(body, bytes) or not isinstance(error.args[-1], RemoteDisconnected):
                    raise
                response = send()
        except urllib3.exceptions.HTTPError as error:
            raise ServerError(str(error)) from error
        if response.status != 200:
            words = response.read().decode(errors="replace").strip()
            response.release_conn()
            raise ServerError(words or f"HTTP {response.status}")
        return response


def _parameters(settings: Settings | None) -> dict[str, str]:
    return {"database": "system", **(settings or {})}


def _broken(tail: bytes) -> str:
    text = tail[tail.rfind(b"Code: ") :] if b"Code: " in tail else b""
    return text.partition(b"\n")[0].decode(errors="replace").strip()


_ESCAPES = str.maketrans(
    {"\\": r"\\", "`": r"\`", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\0"}
)


def quoted(*names: str) -> str:
    """A name, or names with dots between, that are quoted where necessary, as the server itself quotes them."""
    return ".".join(f"`{name.translate(_ESCAPES)}`" for name in names)


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
