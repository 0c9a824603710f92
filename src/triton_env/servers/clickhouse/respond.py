"""Sending a result: whole, or piece by piece while the engine makes the next one."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator

from .body import Send
from .compression import Encoder, FrameEncoder, choose_encoding, encoder
from .config import ServerConfig
from .engine import Engine
from .errors import BrokenStreamError, ClientGoneError, ServerError
from .execution import Answer
from .output import Output
from .request import QueryRequest
from .response import (
    Headers,
    base_headers,
    broken_stream_mark,
    cors_headers,
    error_headers,
    formatted_exception,
    make_tag,
    progress_headers,
    result_headers,
    summary,
    with_headers,
)
from .turn import Turn
from .workers import Workers

# Below this many bytes, compressing takes less time than handing it to another thread.
_SMALL = 1 << 16


class Responder:
    """Sends results to clients."""

    def __init__(self, config: ServerConfig, engine: Engine, workers: Workers) -> None:
        self._config, self._engine, self._workers = config, engine, workers

    async def send(
        self,
        request: QueryRequest,
        answer: Answer,
        turn: Turn,
        started: float,
        send: Send,
        running: asyncio.Future[None] | None = None,
    ) -> None:
        """Send `answer` while the query is `running`, and finish `turn`; `started` as time.monotonic() gave it.

        Raises:
            ServerError: the query failed, or something about the response cannot be done; nothing was sent.
            BrokenStreamError: the query failed after the response had begun.
            ClientGoneError: the client closed its connection.
        """
        chain, encoding = _encoders(request)
        beginning, is_whole = await self._beginning(request, answer, running)
        if is_whole and answer.output is not None and not answer.counters.result_bytes:
            # What the engine writes to a file it does not count.
            answer.counters.result_bytes = sum(map(len, beginning))
        tag = make_tag()
        headers = base_headers(self._engine, request.query_id) + progress_headers(answer.progress)
        headers += result_headers(answer.format_info, summary(answer.counters, started))
        if encoding is not None:
            headers.append((b"content-encoding", encoding.encode()))
        # Clients take data for an error that looks like one, unless they know the tag of the real one.
        headers.append((b"x-clickhouse-exception-tag", tag.encode()))
        headers = with_headers(headers, answer.headers) + cors_headers(request)
        if not is_whole:
            await self._stream(request, answer, turn, chain, headers, tag, send, beginning, running)
            return
        await turn.finish()
        body = answer.made_of(b"".join([answer.whole, *beginning]))
        if chain:
            compress = functools.partial(_encode_whole, chain, body)
            body = compress() if len(body) < _SMALL else await self._workers.run(compress)
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _beginning(
        self, request: QueryRequest, answer: Answer, running: asyncio.Future[None] | None
    ) -> tuple[list[bytes], bool]:
        """What to send first, and whether it is all.

        As on a real server each block of a result is sent when it comes, unless the client wants a larger buffer than
        there is anyway, or the end: until then, an error is still a plain answer. But a single block is sent with its
        length, if the query ends within `response_patience` after it.
        """
        pieces: list[bytes] = []
        size, limit = 0, self._buffer(request)
        until_end = request.wait_end_of_query
        deadline = None
        while answer.output is not None and (until_end or (size < limit if limit else len(pieces) < 2)):
            try:
                async with asyncio.timeout_at(deadline):
                    piece = await answer.output.next()
            except TimeoutError:
                return pieces, False
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if deadline is None and not until_end and not request.watches_progress:
                deadline = asyncio.get_running_loop().time() + self._config.response_patience
        else:
            if answer.output is not None:
                return pieces, False
        if running is not None:
            try:
                await asyncio.shield(running)
            except ServerError:
                if until_end or limit or answer.output is None or answer.output.is_file or not any(pieces):
                    raise
                return pieces, False  # which meets the error again
        return pieces, True

    def _buffer(self, request: QueryRequest) -> int:
        """How many bytes are held back, 0 for none; source: ClickHouse, src/Server/HTTPHandler.cpp."""
        wanted = request.number("buffer_size", 0) or request.number("http_response_buffer_size", 0)
        if wanted > self._config.response_buffer:
            return wanted
        return self._config.response_buffer if request.watches_progress else 0

    async def _stream(
        self,
        request: QueryRequest,
        answer: Answer,
        turn: Turn,
        chain: list[Encoder],
        headers: Headers,
        tag: str,
        send: Send,
        beginning: list[bytes],
        running: asyncio.Future[None] | None,
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for piece in _pieces(beginning, answer.output):
                part = answer.made_of(piece)
                if chain:
                    part = await self._workers.run(functools.partial(_encode, chain, part))
                if turn.gone:
                    raise ClientGoneError
                if part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            if running is not None:
                await asyncio.shield(running)
            await turn.finish()
            await send({"type": "http.response.body", "body": _encode_end(chain)})
        except ClientGoneError:
            raise
        except ServerError as error:
            mark = self._mark(request, answer, error, tag)
            data = _encode(chain, mark) + _encode_end(chain)
            await send({"type": "http.response.body", "body": data, "more_body": True})
            raise BrokenStreamError(error) from None

    def _mark(self, request: QueryRequest, answer: Answer, error: ServerError, tag: str) -> bytes:
        text = error.text(self._engine.version)
        if request.flag("http_write_exception_in_output_format") and answer.format_info is not None:
            formatted = formatted_exception(answer.format_info.name, text)
            if formatted is not None:
                return formatted
        return broken_stream_mark(text, tag)

    async def refuse(self, error: ServerError, query_id: str, send: Send, request: QueryRequest | None = None) -> None:
        """Send an error as the whole response, to a `request` that was understood or not."""
        content_type, body = error.formatted or (
            None,
            (error.text(self._engine.version) + "\n").encode("utf-8", "replace"),
        )
        headers = base_headers(self._engine, query_id)
        headers += error_headers(error, content_type) + ([] if request is None else cors_headers(request))
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _pieces(beginning: list[bytes], output: Output | None) -> AsyncIterator[bytes]:
    for piece in beginning:
        yield piece
    while output is not None and (piece := await output.next()):
        yield piece


def _encoders(request: QueryRequest) -> tuple[list[Encoder], str | None]:
    chain: list[Encoder] = []
    encoding = None
    if request.flag("compress"):
        chain.append(FrameEncoder())
    if request.flag("enable_http_compression", default=True):
        encoding = choose_encoding(request.headers.get("accept-encoding", ""))
    if encoding is not None:
        chain.append(encoder(encoding, request.number("http_zlib_compression_level", 3)))
    return chain, encoding


def _encode(chain: list[Encoder], piece: bytes) -> bytes:
    for each in chain:
        piece = each.feed(piece)
    return piece


def _encode_end(chain: list[Encoder]) -> bytes:
    """End every encoder, the end of each going through those after it."""
    tail = b""
    for each in chain:
        tail = (each.feed(tail) if tail else b"") + each.finish()
    return tail


def _encode_whole(chain: list[Encoder], body: bytes) -> bytes:
    return _encode(chain, body) + _encode_end(chain)
