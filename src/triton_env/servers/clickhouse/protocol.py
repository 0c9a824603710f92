"""uvicorn's HTTP protocol, with a bound for what comes before the body."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# ClickHouse allows 1 MiB for the URL (http_max_uri_size); queries and their settings come in it.
_MAX_HEAD: Final = 2 << 20
# Room for a few pieces of a result (about 0.5 MB each), so that the engine and the network work side by side.
_WRITE_BUFFER: Final = 4 << 20


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

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        super().data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD and not self.transport.is_closing():
                self.send_400_response("The URL and the headers of the request are too large.")
