"""The body of a request: read piece by piece, decoded on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from .compression import Decoder, FrameDecoder, decoders
from .errors import QUERY_IS_TOO_LARGE, ClientGoneError, ServerError
from .request import QueryRequest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Body:
    """Reads an ASGI request body and takes its compression off."""

    def __init__(self, receive: Receive, chain: list[Decoder]) -> None:
        self._receive = receive
        self._chain = chain
        self.complete = False

    @classmethod
    def of(cls, request: QueryRequest, receive: Receive) -> Body:
        """The body that `request` announces."""
        chain = decoders(request.headers.get("content-encoding", ""))
        if request.flag("decompress"):
            chain.append(FrameDecoder())
        return cls(receive, chain)

    async def disconnected(self) -> None:
        """Wait until the connection breaks; only after the end of the body."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def next(self) -> bytes:
        """The next plain piece; empty pieces do not mean the end, `complete` does.

        Raises:
            ClientGoneError: the connection broke before the end of the body.
            ServerError: the compressed data is broken.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece: bytes = message.get("body", b"")
        for decoder in self._chain:
            piece = decoder.feed(piece)
        if not message.get("more_body", False):
            self.complete = True
            for decoder in self._chain:
                decoder.finish()
        return piece

    async def pieces(self) -> AsyncIterator[bytes]:
        """All the pieces that are left."""
        while not self.complete:
            if piece := await self.next():
                yield piece

    async def read(self, limit: int) -> bytes:
        """All that is left, at most `limit` bytes."""
        parts, size = [], 0
        async for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise ServerError(QUERY_IS_TOO_LARGE, f"The query is larger than {limit} bytes")
            parts.append(piece)
        return b"".join(parts)
