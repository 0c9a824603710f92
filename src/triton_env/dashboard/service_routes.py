"""What is asked about one service: its samples, panels, streams and documents."""

import asyncio
import codecs
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from triton_env.core.codec import to_data
from triton_env.dashboard import answers
from triton_env.dashboard.looking import Looking, declared
from triton_env.dashboard.sampler import Sampler
from triton_env.dashboard.steps import Steps
from triton_env.dashboard.watch import Watch
from triton_env.errors import UsageError
from triton_env.inspection import EnvironmentEntry
from triton_env.services import SERVICES
from triton_env.services.base_insight import STREAM_SECONDS, Document
from triton_env.services.selection import title_of
from triton_env.state.samples import HOUR

_PATH = "/api/environments/{environment}/services/{service}"
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What a browser shows without running anything in it."""
_TO_END = 2.0
"""Seconds that a stream gets to end by itself. One that its browser does not read is ended then: its server would keep
for it what it does not take."""


class ServiceRoutes:
    """Answers about services.

    Args:
        watch: what runs.
        looking: the connections.
        sampler: the numbers.
        events: makes an answer of events.
    """

    def __init__(self, watch: Watch, looking: Looking, sampler: Sampler, events: answers.Events) -> None:
        self._watch = watch
        self._looking = looking
        self._sampler = sampler
        self._events = events

    def routes(self) -> list[Route]:
        """Where they are asked for."""
        return [
            Route("/api/services", self.declarations),
            Route(f"{_PATH}/samples", self.samples),
            Route(f"{_PATH}/panels/{{panel}}", self.panel),
            Route(f"{_PATH}/streams/{{panel}}", self.stream),
            Route(f"{_PATH}/documents", self.document),
        ]

    async def declarations(self, request: Request) -> Response:
        """What each service measures and shows."""
        return answers.data({name: _declaration(name) for name in SERVICES.usable()})

    async def samples(self, request: Request) -> Response:
        """The numbers of the last hour, or less."""
        environment, service = await self._named(request)
        seconds = answers.number(request, "since", HOUR, HOUR)
        found = self._sampler.since(environment.key, service, seconds)
        return answers.data([{"at": at, "values": values} for at, values in found])

    async def panel(self, request: Request) -> Response:
        """A table."""
        environment, service = await self._named(request)
        panel, argument = request.path_params["panel"], request.query_params.get("argument", "")
        table = await self._looking.ask(environment, service, lambda insight: insight.table(panel, argument))
        return answers.data(to_data(table))

    async def stream(self, request: Request) -> Response:
        """Lines as they come, for a bounded time."""
        environment, service = await self._named(request)
        panel, argument = request.path_params["panel"], request.query_params.get("argument", "")
        seconds = answers.number(request, "seconds", STREAM_SECONDS, STREAM_SECONDS)
        cancelled = threading.Event()
        with ExitStack() as stack:
            looked = await self._looking.environment(environment)
            stack.enter_context(self._looking.going_on(looked, service))
            lines = await self._looking.ask(
                environment, service, lambda insight: insight.stream(panel, argument, seconds, cancelled)
            )
            steps = Steps(lines, cancelled)
            stack.callback(steps.close)
            await steps.begin()
            held = stack.pop_all()
            held.callback(asyncio.get_running_loop().call_later(seconds + _TO_END, held.close).cancel)
            return self._events(_lines(steps), held)

    async def document(self, request: Request) -> Response:
        """Something to download, or to look at."""
        environment, service = await self._named(request)
        key = request.query_params.get("key", "")
        with ExitStack() as stack:
            looked = await self._looking.environment(environment)
            stack.enter_context(self._looking.going_on(looked, service))
            document = await self._looking.ask(environment, service, lambda insight: insight.document(key))
            steps = Steps(document.chunks)
            stack.callback(steps.close)
            head = await anext(steps, b"")
            headers = _headers(document, head, is_inline=request.query_params.get("inline") == "1")
            return answers.Streamed(_chunks(head, steps), stack.pop_all(), headers=headers)

    async def _named(self, request: Request) -> tuple[EnvironmentEntry, str]:
        """The environment and the service that a path names.

        Raises:
            NotThere: one of them is not there.
        """
        entry = await self._watch.environment(request.path_params["environment"])
        service = request.path_params["service"]
        if service not in {each.name for each in entry.services}:
            raise answers.NotThere(f"The environment {entry.id} has no {title_of(service)}.")
        return entry, service


def _declaration(service: str) -> Mapping[str, Any]:
    kind = declared(service)
    return {
        "title": title_of(service),
        "metrics": to_data(kind.metrics) if kind else [],
        "panels": to_data(kind.panels) if kind else [],
    }


async def _lines(steps: Steps[str]) -> AsyncIterator[bytes]:
    async for line in steps:
        yield answers.event("line", line)


async def _chunks(head: bytes, steps: Steps[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in steps:
        yield chunk


def _headers(document: Document, head: bytes, *, is_inline: bool) -> Mapping[str, str]:
    media_type = document.media_type.partition(";")[0].strip().lower()
    shown = ""
    if is_inline and media_type in _IMAGES:
        shown = media_type
    elif is_inline and _is_text(head):
        # Whatever it says it is: as plain text, nothing runs in it.
        shown = "text/plain; charset=utf-8"
    elif is_inline:
        raise UsageError("The page shows text and pictures, and this is neither.", hint="download it")
    kind = "inline" if shown else "attachment"
    return {
        "Content-Type": shown or "application/octet-stream",
        "Content-Length": str(document.size),
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(document.name, safe='')}",
        # Of its own, and with less than a page may.
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    }


def _is_text(head: bytes) -> bool:
    try:
        # The last character may be cut.
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
