"""Streams of the dashboard: they end, whatever becomes of their source or their browser, and say why."""

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from patience import WAIT, until
from triton_env import Settings
from triton_env.dashboard import answers, logs, service_routes, serving, steps, watch
from triton_env.dashboard.looking import Looked, Looking
from triton_env.errors import InvalidSetting, QueryFailed, TritonError, UsageError
from triton_env.inspection import Inspection


async def test_one_that_its_browser_does_not_read_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_routes, "_TO_END", 0.0)
    closed = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "line"
        finally:
            closed.set()

    environment = cast(Any, SimpleNamespace(services={"any": None}))
    looking, looked = Looking(Settings()), Looked(environment, nullcontext(environment))
    looking._open["id"] = asyncio.get_running_loop().create_future()
    looking._open["id"].set_result(looked)
    line = looking._line(looked, "any")
    line.insight = cast(Any, SimpleNamespace(stream=lambda *_: endless()))

    async def found(identity: str) -> Any:
        return SimpleNamespace(id=identity, key=identity, services=[SimpleNamespace(name="any")])

    events = answers.events(asyncio.Event())
    watched = cast(Any, SimpleNamespace(environment=found))
    routes = service_routes.ServiceRoutes(watched, looking, cast(Any, None), events)
    path = {"environment": "id", "service": "any", "panel": "all"}
    await routes.stream(cast(Any, SimpleNamespace(path_params=path, query_params={"seconds": "0"})))
    assert await asyncio.to_thread(closed.wait, WAIT)
    assert line.extra == 0


async def test_an_error_amid_one_is_its_last_event() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield answers.event("line", "before")
        raise QueryFailed("The server has gone.", cause="\x1b[2J")

    found = [each async for each in answers._until(broken(), asyncio.Event()) if not each.startswith(b":")]

    assert found[0] == b'event: line\ndata: "before"\n\n'
    assert found[1].startswith(b'event: problem\ndata: {"what":"The server has gone."')
    assert b"\x1b" not in found[1]
    assert len(found) == 2


async def test_an_error_that_comes_late_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_FIRST_TIMEOUT", 0.01)
    unseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    may_fail = threading.Event()

    def source() -> Iterator[str]:
        may_fail.wait(WAIT)
        raise QueryFailed("late")
        yield

    taken = steps.Steps(source())
    await taken.begin()
    may_fail.set()
    with pytest.raises(QueryFailed, match="late"):
        await anext(taken)
    gc.collect()
    assert unseen == []


async def test_a_log_ends_with_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([True])

    @contextmanager
    def connected(*_: object, **__: object) -> Iterator[Any]:
        if not next(times, False):
            raise UsageError("It has ended.")
        yield SimpleNamespace(log_lines=lambda *_, follow: iter(["one", "two"]))

    monkeypatch.setattr(logs, "connect", connected)
    monkeypatch.setattr(logs, "_PAUSE", 0.0)
    # The last lines and the end come before the browser's side runs once.
    monkeypatch.setattr(logs, "in_thread", lambda act: act())
    read = logs.Logs(Settings())

    async def all_of_it() -> list[bytes]:
        entry = cast(Any, SimpleNamespace(id="id", key="id", runtime="docker"))
        return [each async for each in read.follow(entry, ["any"], 10)]

    found = await asyncio.wait_for(all_of_it(), WAIT)
    assert found == [answers.event("log", {"service": "any", "line": line}) for line in ("one", "two")]
    assert read._logs == {}


def test_a_log_that_cannot_be_read_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def put(self, service: str, lines: Sequence[str]) -> None:
            self.lines.extend(lines)

        def end(self) -> None:
            self.lines.append("(end)")

    first, late = Reader(), Reader()
    tries = iter(["stopped", "stopped", "late", "down", "runs", "down", "ended"])

    @contextmanager
    def connected(*_: object, **__: object) -> Iterator[Any]:
        match next(tries):
            case "stopped":
                raise TritonError("Nothing runs.")
            case "late":
                log.join(cast(Any, late), 10)
                raise TritonError("Nothing runs.")
            case "down":
                raise TritonError("The engine is down.")
            case "ended":
                raise UsageError("It has ended.")
        yield SimpleNamespace(log_lines=lambda *_, follow: iter(["a line"]))

    monkeypatch.setattr(logs, "connect", connected)
    monkeypatch.setattr(logs, "_PAUSE", 0.0)
    log = logs._Log(Settings(), cast(Any, SimpleNamespace(id="id", runtime="docker")), "any")
    log.join(cast(Any, first), 10)
    log.read()

    problem, another = (f"The log cannot be read: {what}" for what in ("Nothing runs.", "The engine is down."))
    assert first.lines == [problem, another, "a line", another, "(end)"]
    assert late.lines == first.lines


async def test_a_problem_is_over_with_the_next_inspection_even_if_that_is_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Inspection(asked=False, environments=(), leftovers=None, engine_problem=None)
    looks: Iterator[Inspection | None] = iter([found, None])

    def look(settings: Settings) -> Inspection:
        seen = next(looks, found)
        if seen is None:
            raise InvalidSetting("The state folder cannot be used.")
        return seen

    monkeypatch.setattr(watch, "inspect", look)
    monkeypatch.setattr(watch.Watch, "_ask", lambda self: None)
    monkeypatch.setattr(watch, "LOOKED_AT", 0.0)
    watched = watch.Watch(Settings(triton_state_dir=str(tmp_path)))
    events = watched.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    running = asyncio.ensure_future(watched.run())
    try:
        names = [await asyncio.wait_for(first, WAIT)]
        names += [await asyncio.wait_for(anext(events), WAIT) for _ in range(2)]
    finally:
        running.cancel()
    assert [each.partition(b"\n")[0] for each in names] == [
        b"event: inspection",
        b"event: problem",
        b"event: inspection",
    ]


def test_the_end_gives_up_requests_without_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def hang(settings: Settings) -> None:
        is_asked.set()
        may_answer.wait(WAIT)

    monkeypatch.setattr(watch, "inspect", hang)
    monkeypatch.setattr(serving, "_GRACE", 1)
    monkeypatch.setattr(serving, "_END_TIMEOUT", WAIT)
    statuses: list[int] = []
    log = logging.getLogger("uvicorn.error")
    filters = list(log.filters)
    with serving.Serving(Settings(triton_state_dir=str(tmp_path))) as running:
        address = running.url.replace("/?", "/api/inspection?")
        asking = threading.Thread(
            target=lambda: statuses.append(httpx.get(address, trust_env=False, timeout=WAIT).status_code)
        )
        asking.start()
        assert is_asked.wait(WAIT)
        # The request itself waits too, beside the look of the dashboard's own.
        assert until(lambda: running._server.server_state.tasks)
    may_answer.set()
    asking.join()
    assert statuses == [500]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert log.filters == filters
