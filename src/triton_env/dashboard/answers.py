"""Answers: data as JSON, errors in their parts, and streams of events that end with the dashboard."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from triton_env.errors import NotOffered, RuntimeUnavailable, ServiceDied, TritonError, UnknownService, UsageError

_HEARTBEAT = 15
"""Seconds without an event after which a comment is sent: the browser, or what is between, may have gone unnoticed."""
_LARGEST_INTEGER = 2**53
"""Above it, JavaScript would round."""


class NotThere(UsageError):
    """What a URL names does not exist, or not any more."""


class NoAnswer(TritonError):
    """A server did not answer in time, or is still busy with what it was asked before."""


class TooMany(TritonError):
    """As much as there may be of this at once goes on already."""


_STATUS: tuple[tuple[type[TritonError], int], ...] = (
    (NotThere, 404),
    (UnknownService, 404),
    (NotOffered, 404),
    (UsageError, 400),
    (NoAnswer, 504),
    (TooMany, 429),
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
    return Response(_encoded(value), status, media_type="application/json")


def failure(error: TritonError, status: int = 0) -> Response:
    """An answer with an error, in its parts; its status follows from its kind unless it is given."""
    status = status or next(status for kind, status in _STATUS if isinstance(error, kind))
    return data({"error": in_parts(error)}, status)


def in_parts(error: TritonError) -> Mapping[str, str]:
    """What people read of an error."""
    return {"what": error.what, "where": error.where, "cause": error.cause, "hint": error.hint}


def event(name: str, content: Any) -> bytes:
    """An event of a stream. JSON has no line breaks, which would end it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encoded(content))


class Streamed(StreamingResponse):
    """An answer that comes piece by piece.

    Args:
        stack: is closed at its end, however that comes, also before it has begun.
    """

    def __init__(self, content: AsyncIterator[bytes], stack: ExitStack, **options: Any) -> None:
        super().__init__(content, **options)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stack:
            await super().__call__(scope, receive, send)


Events = Callable[[AsyncIterator[bytes], ExitStack], Response]
"""What makes an answer of events, from their source and what is closed at its end."""


def events(closing: asyncio.Event) -> Events:
    """What makes streams of events that end with their source, or when `closing` is set.

    Where the source fails, the last event is `problem`, with the error in its parts.
    """
    return lambda source, stack: Streamed(_until(source, closing), stack, media_type="text/event-stream")


def number(request: Request, name: str, default: float, most: float) -> float:
    """A number of a query, from 0 to `most`.

    Raises:
        UsageError: it is not a number.
    """
    text = request.query_params.get(name, "")
    try:
        found = float(text) if text else default
    except ValueError:
        found = math.nan
    if math.isnan(found):
        raise UsageError(f"{name!r} is not a number: {text!r}.")
    return min(max(found, 0.0), most)


def _encoded(value: Any) -> bytes:
    """JSON in ASCII: half a character, which a name of a file may hold, has no other encoding."""
    return json.dumps(as_json(value), separators=(",", ":"), allow_nan=False).encode("ascii")


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
            except TritonError as error:
                yield event("problem", in_parts(error))
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
