"""uvicorn's HTTP protocol, with a bound for what comes before the body."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# ClickHouse allows 1 MiB for the URL (http_max_uri_size); queries and their settings come in it.
_MAX_HEAD: Final = 2 << 20
# Room for a few pieces of a result (about 0.5 MB each), so that the engine and the network work side by side.
_WRITE_BUFFER: Final = 4 << 20
# So much of a body may wait for the application before nothing more is read.
_BODY_WAITING: Final = 1 << 16


class _Pieces(list[bytes]):
    """What has come of a body and was not taken yet. uvicorn's own would copy each byte of it twice."""

    def __bytes__(self) -> bytes:
        return self[0] if len(self) == 1 else b"".join(self)


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose URL and headers take more than 2 MiB: httptools would collect them for ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_size = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its URL and headers are there.

        httptools does not take a URL of more than 64 KiB apart. The query is all that makes one so long, and the
        request is looked at after this.
        """
        self._in_head = False
        self.url, _, query = self.url.partition(b"?")
        super().on_headers_complete()
        self.scope["query_string"] = query

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        if self.cycle.response_complete:
            return
        waiting: object = self.cycle.body
        pieces = waiting if isinstance(waiting, _Pieces) else _Pieces()
        pieces.append(body)
        self.cycle.body = pieces  # type: ignore[assignment]
        if sum(map(len, pieces)) > _BODY_WAITING:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        super().data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD and not self.transport.is_closing():
                self.send_400_response("The URL and the headers of the request are too large.")
