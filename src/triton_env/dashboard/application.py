"""The application: its routes, and what runs beside them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from triton_env.dashboard import answers, metrics
from triton_env.dashboard.environment_routes import EnvironmentRoutes
from triton_env.dashboard.guard import Key
from triton_env.dashboard.looking import TIMEOUT, Looking
from triton_env.dashboard.sampler import Sampler
from triton_env.dashboard.service_routes import ServiceRoutes
from triton_env.dashboard.watch import LOOKED_AT, Watch
from triton_env.errors import TritonError
from triton_env.settings import Settings

_STATIC = Path(__file__).parent / "static"

Handler = Callable[[Request], Awaitable[Response]]


class Dashboard:
    """What the dashboard answers.

    Args:
        settings: where state is kept, and with which environments are looked at.
        key: what opens it.
        timeout: seconds that a server has for one question.
    """

    def __init__(self, settings: Settings, key: Key, timeout: float = TIMEOUT) -> None:
        self._key = key
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._events = answers.events(self._closing)
        self._watch = Watch(settings)
        self._looking = Looking(settings, timeout)
        self._sampler = Sampler(settings, self._watch, self._looking)
        of_services = ServiceRoutes(self._watch, self._looking, self._sampler, self._events)
        of_environments = EnvironmentRoutes(settings, self._watch, self._looking, self._events)
        routes: list[BaseRoute] = [
            Route("/", self._page),
            Mount("/static", _Static(directory=_STATIC)),
            Route("/metrics", self._metrics),
            Route("/api/inspection", self._inspection),
            Route("/api/events", self._watched),
            *of_services.routes(),
            *of_environments.routes(),
        ]
        self.app = Starlette(
            routes=routes,
            exception_handlers={TritonError: _failed, HTTPException: _refused, Exception: _unexpected},
            lifespan=self._running,
        )

    def end(self) -> None:
        """End all streams, from any thread: a server does not end before them."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._closing.set)

    @asynccontextmanager
    async def _running(self, app: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(_kept_up(each.run)) for each in (self._watch, self._sampler)]
        try:
            yield
        finally:
            self._closing.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sampler.close()
            self._looking.close()

    async def _page(self, request: Request) -> Response:
        answer = FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-store"})
        # What the page asks for carries it: neither scripts nor styles nor streams of events can carry a header.
        answer.set_cookie(self._key.cookie, self._key.token, httponly=True, samesite="strict")
        return answer

    async def _inspection(self, request: Request) -> Response:
        await self._watch.fresh()
        return answers.data(self._watch.shown())

    async def _watched(self, request: Request) -> Response:
        return self._events(self._watch.events(), ExitStack())

    async def _metrics(self, request: Request) -> Response:
        await self._sampler.now()
        return metrics.answer(request.headers.get("accept", ""), self._watch.inspection, self._sampler.latest())


class _Static(StaticFiles):
    """Files that browsers ask for again each time, in case they are those of another version by now."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        answer = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        answer.headers["Cache-Control"] = "no-cache"
        return answer


async def _kept_up(run: Callable[[], Awaitable[None]]) -> None:
    """Run what goes on beside the answers, and again where a mistake of ours has ended it."""
    while True:
        try:
            await run()
        except Exception:
            logging.getLogger(__name__).exception("Part of the dashboard failed, and is retried.")
        await asyncio.sleep(LOOKED_AT)


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
