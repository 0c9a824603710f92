"""What is asked about one environment, and done to it: logs, actions, and ready lines to connect with."""

import asyncio
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from triton_env.core.forms import form_of
from triton_env.core.threads import in_thread
from triton_env.dashboard import answers
from triton_env.dashboard.futures import awaited
from triton_env.dashboard.logs import KEPT, Logs
from triton_env.dashboard.looking import Looking
from triton_env.dashboard.watch import Watch
from triton_env.errors import NotOffered, UsageError
from triton_env.services import Service
from triton_env.settings import Settings
from triton_env.steering import NO_LOGS, act, actions

_PATH = "/api/environments/{environment}"
_AT_ONCE = 4
"""Actions that are under way at the same time."""
_TAIL = 200


class _Wanted(BaseModel):
    """The body of an action."""

    model_config = ConfigDict(extra="forbid", strict=True)

    service: str = ""
    name: str = ""


class EnvironmentRoutes:
    """Answers about environments.

    Args:
        settings: where state is kept.
        watch: what runs.
        looking: the connections.
        events: makes an answer of events.
    """

    def __init__(self, settings: Settings, watch: Watch, looking: Looking, events: answers.Events) -> None:
        self._settings = settings
        self._watch = watch
        self._looking = looking
        self._events = events
        self._logs = Logs(settings)
        self._acting = asyncio.Semaphore(_AT_ONCE)

    def routes(self) -> list[Route]:
        """Where they are asked for."""
        return [
            Route(f"{_PATH}/logs", self.logs),
            Route(f"{_PATH}/actions", self.actions),
            Route(f"{_PATH}/actions/{{action}}", self.act, methods=["POST"]),
            Route(f"{_PATH}/snippets", self.snippets),
        ]

    async def logs(self, request: Request) -> Response:
        """What services wrote, and write from now on."""
        entry = await self._watch.environment(request.path_params["environment"])
        if not form_of(entry.runtime).is_started_by_us:
            raise NotOffered(NO_LOGS)
        there = [service.name for service in entry.services]
        asked = list(filter(None, request.query_params.get("services", "").split(","))) or there
        if absent := [name for name in asked if name not in there]:
            raise answers.NotThere(f"The environment {entry.id} has no {', '.join(absent)}.")
        tail = int(answers.number(request, "tail", _TAIL, KEPT))
        return self._events(self._logs.follow(entry, list(dict.fromkeys(asked)), tail), ExitStack())

    async def actions(self, request: Request) -> Response:
        """What can be done to an environment."""
        entry = await self._watch.environment(request.path_params["environment"])
        return answers.data([each.model_dump(mode="json") for each in actions(entry, self._watch.listed)])

    async def act(self, request: Request) -> Response:
        """Do it, and wait until it is done."""
        entry = await self._watch.environment(request.path_params["environment"])
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise UsageError("What is to be done is described in JSON, with Content-Type: application/json.")
        try:
            wanted = _Wanted.model_validate_json(await request.body() or b"{}")
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise UsageError("The body is not what an action takes.", where=where, cause=problem["msg"]) from error
        action = request.path_params["action"]
        async with self._acting:
            # Shielded: it goes on to its end where the browser has gone.
            acted = partial(act, self._settings, entry.id, action, runtime=entry.runtime)
            work = in_thread(partial(acted, service=wanted.service, name=wanted.name))
            try:
                words = await asyncio.shield(awaited(work))
            finally:
                # Servers may have moved, and what was made may be shown.
                self._looking.forget(entry.key)
                self._watch.look_soon()
        return answers.data({"words": words})

    async def snippets(self, request: Request) -> Response:
        """Ready lines to connect with, by service. They hold passwords."""
        entry = await self._watch.environment(request.path_params["environment"])
        environment = (await self._looking.environment(entry)).environment
        found: dict[str, Any] = {}
        for name in environment.services:
            found[name] = [{"title": title, "text": text} for title, text in _lines(environment.service(name))]
        return answers.data(found)


def _lines(service: Service) -> Iterator[tuple[str, str]]:
    yield from service.snippets().items()
    if shell := service.parts.load("way_in"):
        yield "Shell", shell.way_in(service)
    yield "Variables", "\n".join(f"export {name}={shlex.quote(value)}" for name, value in _variables(service).items())


def _variables(service: Service) -> Mapping[str, str]:
    return {name: value for name, value in service.environ().items() if value}
