"""Sending a result: whole, or piece by piece while the engine makes the next one."""

from __future__ import annotations

import asyncio
import contextlib
import functools

from .body import Send
from .compression import Encoder, FrameEncoder, choose_encoding, encoder
from .engine import Engine
from .errors import BrokenStreamError, ClientGoneError, ServerError
from .execution import Answer
from .request import QueryRequest
from .response import (
    Headers,
    base_headers,
    broken_stream_mark,
    error_headers,
    formatted_exception,
    make_tag,
    progress_headers,
    result_headers,
    summary,
)
from .turn import Turn
from .workers import Workers

# Below this many bytes, compressing takes less time than handing it to another thread.
_SMALL = 1 << 16


class Responder:
    """Sends results to clients."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine, self._workers = engine, workers

    async def send(self, request: QueryRequest, answer: Answer, turn: Turn, started: float, send: Send) -> None:
        """Send `answer` and finish `turn`; `started` as time.monotonic() gave it.

        Raises:
            ServerError: something about the response cannot be done; nothing was sent.
            BrokenStreamError: the query failed after the response had begun.
            ClientGoneError: the client closed its connection.
        """
        chain, encoding = _encoders(request)
        headers = base_headers(self._engine, request.query_id) + progress_headers(answer.progress)
        headers += result_headers(answer.format_info, summary(answer.counters, started))
        if encoding is not None:
            headers.append((b"content-encoding", encoding.encode()))
        if answer.more:
            await self._stream(request, answer, turn, chain, headers, send)
            return
        await turn.finish()
        body = b"".join(answer.ready)
        if chain:
            compress = functools.partial(_encode_whole, chain, body)
            body = compress() if len(body) < _SMALL else await self._workers.run(compress)
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(
        self, request: QueryRequest, answer: Answer, turn: Turn, chain: list[Encoder], headers: Headers, send: Send
    ) -> None:
        tag = make_tag()
        headers.append((b"x-clickhouse-exception-tag", tag.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        ready, answer.ready = iter(answer.ready), []

        def following() -> bytes | None:
            piece = next(ready, None) or answer.next_piece()
            return None if piece is None else _encode(chain, piece)

        pending = asyncio.ensure_future(turn.run(following))
        try:
            while (part := await pending) is not None:
                pending = asyncio.ensure_future(turn.run(following))
                if turn.gone:
                    raise ClientGoneError
                if part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await turn.finish_with(answer.end)
            await turn.finish()
            await send({"type": "http.response.body", "body": _encode_end(chain)})
        except ClientGoneError:
            raise
        except ServerError as error:
            mark = self._mark(request, answer, error, tag)
            data = _encode(chain, mark) + _encode_end(chain)
            await send({"type": "http.response.body", "body": data, "more_body": True})
            raise BrokenStreamError(error) from None
        finally:
            with contextlib.suppress(ServerError):
                await asyncio.shield(pending)
            await turn.finish_with(answer.end)

    def _mark(self, request: QueryRequest, answer: Answer, error: ServerError, tag: str) -> bytes:
        text = error.text(self._engine.version)
        if request.flag("http_write_exception_in_output_format") and answer.format_info is not None:
            formatted = formatted_exception(answer.format_info.name, text)
            if formatted is not None:
                return formatted
        return broken_stream_mark(text, tag)

    async def refuse(self, error: ServerError, query_id: str, send: Send) -> None:
        """Send an error as the whole response."""
        content_type, body = error.formatted or (
            None,
            (error.text(self._engine.version) + "\n").encode("utf-8", "replace"),
        )
        headers = base_headers(self._engine, query_id)
        headers += error_headers(error, content_type)
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


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
