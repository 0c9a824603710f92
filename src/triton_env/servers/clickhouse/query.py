"""Answering a query: from the body to the statement, from the statement to its result."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import sql
from .body import Body, Receive, Send
from .engine import Counters, InsertStream
from .errors import SYNTAX_ERROR, ServerError
from .execution import DEFAULT_FORMAT, SELECTS, Answer, Execution
from .external import MultipartReader, is_form
from .output import Output
from .request import QueryRequest, form_pairs
from .respond import Responder
from .response import formatted_exception
from .sessions import Lease, SessionManager
from .shared import Shared
from .sql import InsertData, Statement
from .turn import Turn

# What goes to the engine at once: large enough to be worth a thread's turn, small enough to hold twice.
_INSERT_BATCH = 1 << 20
# The beginning of an INSERT is looked for in so many bytes.
_HEAD_LIMIT = 1 << 20
# Seconds; ClickHouse's default of replace_running_query_max_wait_ms.
_REPLACING = 5.0
# Below this many bytes, looking at a statement takes less time than handing it to another thread.
_SMALL = 1 << 14


@dataclass(frozen=True, slots=True)
class _Query:
    """A statement ready to run."""

    request: QueryRequest
    text: bytes
    statement: Statement
    clean_up: Callable[[], None] = lambda: None


class QueryHandler:
    """Runs the queries of one server."""

    def __init__(self, shared: Shared, sessions: SessionManager) -> None:
        self._config, self._engine, self._workers = shared.config, shared.engine, shared.workers
        self._pool, self._sessions = shared.pool, sessions
        self._responder = Responder(shared.config, shared.engine, shared.workers)
        self._running = shared.running
        self._connections = shared.connections

    async def answer(self, request: QueryRequest, receive: Receive, send: Send) -> None:
        """Run what `request` asks for and send the result.

        Raises:
            ServerError: it failed, and nothing was sent.
            BrokenStreamError: it failed after the response had begun.
        """
        started = time.monotonic()
        body = Body.of(request, receive)
        if request.account.is_subject(request):
            request = await self._workers.control(functools.partial(request.account.prepared, request))
        if request.replaces_running:
            await self._end_running(request)
        turn = self._take_turn(request)
        try:
            if request.content_type == "multipart/form-data":
                await self._run_form(request, turn, body, send, started)
            else:
                await self._run(await self._read_query(request, body), turn, body, send, started)
        finally:
            await turn.finish()

    async def _end_running(self, request: QueryRequest) -> None:
        """End a query of this user that runs under this id; what changes something is not ended."""
        lease, deadline = self._running.get(request.query_id), time.monotonic() + _REPLACING
        while lease is not None and lease.user == request.account.name and time.monotonic() < deadline:
            await self._workers.control(lease.cancel)
            await asyncio.sleep(_REPLACING / 100)
            lease = lease if self._running.get(request.query_id) is lease else None

    def _take_turn(self, request: QueryRequest) -> Turn:
        user = request.account.name
        timeout = request.session_timeout(self._config.session_timeout, self._config.max_session_timeout)
        session_id, ends = request.parameters.get("session_id", ""), request.flag("close_session")
        query_id = request.query_id
        self._running.check(query_id)
        if session_id:
            session = self._sessions.acquire(user, session_id, timeout, request.flag("session_check"))
            lease = Lease(self._engine, self._pool, session=session)
        else:
            lease = Lease(self._engine, self._pool, readonly=2 if request.readonly == 2 else 0)
        lease.user = user
        self._running.add(query_id, lease)

        def release() -> None:
            self._running.remove(query_id)
            if session_id:
                self._sessions.release(user, session_id, ends)

        return Turn(self._workers, lease, release)

    async def _run_form(self, request: QueryRequest, turn: Turn, body: Body, send: Send, started: float) -> None:
        execution = self._execution(request, turn.lease)
        reader = MultipartReader(request.headers["content-type"], execution, self._config.max_query_bytes)
        try:
            async for piece in body.pieces():
                await turn.run(functools.partial(reader.feed, piece))
            reader.finish()
            full = request.with_form(reader.fields)
            query = _Query(full, full.query, sql.examine(full.query), reader.close)
            await self._run(query, turn, body, send, started)
        except BaseException:
            await turn.finish_with(reader.close)
            raise

    async def _read_query(self, request: QueryRequest, body: Body) -> _Query:
        """Read the body until the statement is known: to its end, or to where the data of an INSERT begins."""
        text = bytearray(request.query + b"\n" if request.query else b"")
        while not body.complete:
            text += await body.next()
            if not body.complete and sql.verb_of(bytes(text[:_SMALL])) in ("", "INSERT"):
                statement = sql.examine(bytes(text))
                if statement.settled:
                    return _Query(request, bytes(text), statement)
            if len(text) > _HEAD_LIMIT:
                text += await body.read(self._config.max_query_bytes)
        whole = bytes(text)
        announced = not request.query and request.content_type == "application/x-www-form-urlencoded"
        if announced and is_form(whole):
            request = request.with_form(form_pairs(whole))
            whole = request.query
        examine = functools.partial(sql.examine, whole)
        return _Query(request, whole, examine() if len(whole) < _SMALL else await self._workers.run(examine))

    async def _run(self, query: _Query, turn: Turn, body: Body, send: Send, started: float) -> None:
        execution = self._execution(query.request, turn.lease)
        if query.statement.insert is not None:
            counters = await self._insert(execution, query, query.statement.insert, turn, body)
            await self._responder.send(query.request, Answer(counters=counters), turn, started, send)
            return
        turn.watch(body.disconnected())
        answer = Answer(Output() if query.statement.verb in SELECTS else None)
        running = asyncio.ensure_future(turn.run(functools.partial(self._execute, execution, query, answer)))
        try:
            await self._responder.send(query.request, answer, turn, started, send, running)
        except ServerError as error:
            self._format_error(query, error)
            raise
        finally:
            if answer.output is not None:
                answer.output.close()
            with contextlib.suppress(ServerError, asyncio.CancelledError):
                await asyncio.shield(running)

    def _execute(self, execution: Execution, query: _Query, answer: Answer) -> None:
        try:
            execution.run(query.text, query.statement, answer)
            query.clean_up()
            execution.lease.close()
        finally:
            if answer.output is not None:
                answer.output.end()

    def _format_error(self, query: _Query, error: ServerError) -> None:
        """Write the error in the output format, if that is wanted and the query got as far as having one."""
        if error.status == 404 or error.code == SYNTAX_ERROR[0]:
            return
        if not query.request.flag("http_write_exception_in_output_format"):
            return
        info = self._engine.format_info(query.statement.format or query.request.default_format or DEFAULT_FORMAT)
        body = None if info is None else formatted_exception(info.name, error.text(self._engine.version))
        if info is not None and body is not None:
            error.formatted = (info.content_type, body)

    async def _insert(
        self, execution: Execution, query: _Query, insert: InsertData, turn: Turn, body: Body
    ) -> Counters:
        text = query.text
        if body.complete:
            return await turn.run(functools.partial(_insert_whole, execution, query, insert))
        stream = await turn.run(functools.partial(execution.begin_insert, text, insert))
        try:
            await self._feed(stream, text[insert.data_start :], turn, body)
            return await turn.run(functools.partial(execution.finish_insert, stream, text, insert))
        except BaseException:
            await turn.finish_with(stream.cancel)
            raise

    async def _feed(self, stream: InsertStream, first: bytes, turn: Turn, body: Body) -> None:
        """Hand the body over in batches, receiving the next one while the engine takes the last."""
        batch, size = [first], len(first)
        pending: asyncio.Future[None] | None = None
        try:
            while not body.complete:
                piece = await body.next()
                batch.append(piece)
                size += len(piece)
                if size >= _INSERT_BATCH or body.complete:
                    if pending is not None:
                        await pending
                    pending = asyncio.ensure_future(turn.run(functools.partial(_append_all, stream, batch)))
                    batch, size = [], 0
        finally:
            if pending is not None:
                await pending

    def _execution(self, request: QueryRequest, lease: Lease) -> Execution:
        return Execution(self._engine, lease, request, self._running.resolve, self._connections)


def _append_all(stream: InsertStream, batch: list[bytes]) -> None:
    for piece in batch:
        if piece:
            stream.append(piece)


def _insert_whole(execution: Execution, query: _Query, insert: InsertData) -> Counters:
    counters = execution.insert_whole(query.text, insert)
    query.clean_up()
    execution.lease.close()
    return counters
