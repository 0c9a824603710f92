"""Answers: data as JSON, errors in their parts, and streams of events that end with the dashboard."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from triton_env.errors import NotOffered, RuntimeUnavailable, ServiceDied, TritonError, UnknownService, UsageError

_HEARTBEAT = 15
"""Seconds without an event after which a comment is sent: the browser, or what is between, may have gone unnoticed."""
_LARGEST_INTEGER = 2**53
"""Above it, JavaScript would round."""


class NotThere(UsageError):
    """What a URL names does not exist, or not any more."""


class NoAnswer(TritonError):
    """A server did not answer in time, or is still busy with what it was asked before."""


_STATUS: tuple[tuple[type[TritonError], int], ...] = (
    (NotThere, 404),
    (UnknownService, 404),
    (NotOffered, 404),
    (UsageError, 400),
    (NoAnswer, 504),
    (ServiceDied, 503),
    (RuntimeUnavailable, 503),
    (TritonError, 502),
)


def as_json(value: Any) -> Any:
    """Data as JSON has it for a browser: numbers that it lacks are null, integers that it would round are text."""
    match value:
        case Mapping():
            return {str(key): as_json(each) for key, each in value.items()}
        case list() | tuple():
            return [as_json(each) for each in value]
        case float() if not math.isfinite(value):
            return None
        case int() if abs(value) > _LARGEST_INTEGER:
            return str(value)
        case _:
            return value


def data(value: Any, status: int = 200) -> Response:
    """An answer with data."""
    return JSONResponse(as_json(value), status)


def failure(error: TritonError) -> Response:
    """An answer with an error, in its parts."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return data({"error": in_parts(error)}, status)


def in_parts(error: TritonError) -> Mapping[str, str]:
    """What people read of an error."""
    return {"what": error.what, "where": error.where, "cause": error.cause, "hint": error.hint}


def event(name: str, content: Any) -> bytes:
    """An event of a stream. JSON has no line breaks, which would end it."""
    return f"event: {name}\ndata: {json.dumps(as_json(content), separators=(',', ':'))}\n\n".encode()


def events(source: AsyncIterator[bytes], closing: asyncio.Event) -> Response:
    """A stream of events, until its source or the dashboard ends."""
    return StreamingResponse(_until(source, closing), media_type="text/event-stream")


async def _until(source: AsyncIterator[bytes], closing: asyncio.Event) -> AsyncIterator[bytes]:
    yield b": the connection stands\n\n"
    end = asyncio.ensure_future(closing.wait())
    following: asyncio.Future[bytes] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(source))
            waiting: set[asyncio.Future[Any]] = {following, end}
            await asyncio.wait(waiting, timeout=_HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                return
            if not following.done():
                yield b": still there\n\n"
                continue
            try:
                found = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield found
    finally:
        end.cancel()
        if following is not None:
            following.cancel()
            await asyncio.wait({following}, timeout=1)
        if isinstance(source, AsyncGenerator):
            await source.aclose()
