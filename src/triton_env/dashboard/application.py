"""The application: its routes, and what runs beside them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from triton_env.dashboard import answers
from triton_env.dashboard.guard import Key
from triton_env.dashboard.watch import Watch
from triton_env.errors import TritonError
from triton_env.settings import Settings

_STATIC = Path(__file__).parent / "static"

Handler = Callable[[Request], Awaitable[Response]]


class Dashboard:
    """What the dashboard answers.

    Args:
        settings: where state is kept, and with which environments are looked at.
        key: what opens it.
    """

    def __init__(self, settings: Settings, key: Key) -> None:
        self._settings = settings
        self._key = key
        self._loop: asyncio.AbstractEventLoop | None = None
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Mount("/static", StaticFiles(directory=_STATIC)),
                Route("/api/inspection", self._inspection),
                Route("/api/events", self._events),
            ],
            exception_handlers={TritonError: _failed, HTTPException: _refused, Exception: _unexpected},
            lifespan=self._running,
        )

    def end(self) -> None:
        """End all streams, from any thread: a server does not end before them."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._closing.set)

    @asynccontextmanager
    async def _running(self, app: Starlette) -> AsyncIterator[None]:
        self._closing = asyncio.Event()
        self._watch = Watch(self._settings)
        self._loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._watch.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _page(self, request: Request) -> Response:
        answer = FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-store"})
        # What the page asks for carries it: neither scripts nor styles nor streams of events can carry a header.
        answer.set_cookie(self._key.cookie, self._key.token, httponly=True, samesite="strict")
        return answer

    async def _inspection(self, request: Request) -> Response:
        return answers.data((await self._watch.fresh()).model_dump(mode="json"))

    async def _events(self, request: Request) -> Response:
        return answers.events(self._watch.events(), self._closing)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, TritonError)
    return answers.failure(error)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answers.data({"error": {"what": error.detail, "where": "", "cause": "", "hint": ""}}, error.status_code)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Our own mistake. What it says may hold anything, so it goes to the terminal alone."""
    what = "The dashboard failed; what happened is on its terminal."
    return answers.data({"error": {"what": what, "where": "", "cause": type(error).__name__, "hint": ""}}, 500)
