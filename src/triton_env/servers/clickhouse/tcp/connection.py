"""One client of the native protocol: a connection is a session."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .. import sql
from ..accounts import ANYONE, Account
from ..auth import Credentials
from ..engine import Counters, Engine, InsertStream
from ..errors import (
    CLIENT_HAS_CONNECTED_TO_WRONG_PORT,
    INCORRECT_DATA,
    QUERY_WAS_CANCELLED,
    UNEXPECTED_PACKET_FROM_CLIENT,
    UNKNOWN_EXCEPTION,
    ClientGoneError,
    ServerError,
)
from ..execution import Execution
from ..native import NativeBlocks
from ..request import QueryRequest
from ..sessions import DEFAULT_DATABASE, Lease, Session
from ..shared import Shared
from ..sql import InsertData, Statement
from ..turn import Turn
from . import packets
from .answers import Result, Sender
from .blocks import Block
from .inserts import Receiver, Run, expected
from .packets import Client, Progress, Query, Server
from .wire import PacketError, Source, packet_error

log = logging.getLogger("clickhouse")

_HANDSHAKE: Final = 10.0
"""Seconds for a client to introduce itself; as in ClickHouse, `handshake_timeout_ms`."""
_PATIENCE: Final = 300.0
"""Seconds for the next part of what a client has begun, or for it to take a part; `receive_timeout` there."""
_IDLE: Final = 3600.0
"""Seconds between two queries; `idle_connection_timeout` there."""
_SMALL: Final = 1 << 14
"""Below so many bytes, looking at a statement takes less time than handing it to another thread."""
_BLANKS: Final = b"; \t\r\n\f\v"
_PARAMETERS: Final[tuple[str, ...]] = ("readonly", "log_comment")
"""Settings that this server handles itself."""
_NOT_SET: Final = frozenset({"run_query_in_background"})
"""Settings that SET, by which a connection gets them, does not take: an engine that asks another one sends them."""
_EXTREMES: Final = b"extremes"
_MOST_EXTERNAL: Final = 1 << 30
_MOST_TABLES: Final = 10_000
_HTTP_VERBS: Final = frozenset(b"GPHDO")
_WRONG_PORT: Final = (
    "HTTP/1.0 400 Bad Request\r\n\r\nPort {} is for clickhouse-client program\r\nYou must use port {} for HTTP.\r\n"
)
_PROFILE_EVENTS: Final = (
    ("host_name", "String"),
    ("current_time", "DateTime"),
    ("thread_id", "UInt64"),
    ("type", "Enum8('increment' = 1, 'gauge' = 2)"),
    ("name", "String"),
    ("value", "Int64"),
)


class Connection:
    """Serves one client until it leaves."""

    def __init__(self, shared: Shared, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._shared, self._writer = shared, writer
        self._source = Source(reader)
        self._address = (writer.get_extra_info("peername") or ("",))[0]
        self._revision = packets.REVISION
        self._session: Session | None = None
        self._account = ANYONE
        self._loop = asyncio.get_running_loop()
        self._lock: threading.RLock | None = None  # of the last query
        self._compressed = self._cancelled = self._names_extremes = False
        self._sent: Progress | None = None  # while reports of progress may be sent
        self._is_busy = self._is_leaving = False

    async def serve(self) -> None:
        """Answer everything that the client sends."""
        try:
            async with asyncio.timeout(_HANDSHAKE):
                known = await self._shake_hands()
            while known and not self._is_leaving:
                async with asyncio.timeout(_IDLE):
                    kind = await self._source.varint()
                self._is_busy = True
                await self._answer(kind)
                self._is_busy = False
        except (ClientGoneError, ConnectionError, TimeoutError):
            pass
        except ServerError as error:
            await self._end(error)
        except PacketError as failure:
            await self._end(failure.error)
        except Exception as error:
            log.exception("native client %s: unexpected error", self._address)
            await self._end(ServerError(UNKNOWN_EXCEPTION, f"Unexpected error in the server: {type(error).__name__}"))
        finally:
            # The workers may have been shut down.
            await self._loop.run_in_executor(None, self._close)

    def _close(self) -> None:
        """Close the session, unless its query does not stop: then the process ends with it. Blocks."""
        if self._session is not None and (self._lock is None or self._lock.acquire(blocking=False)):
            self._session.connection.close()

    def leave_when_idle(self) -> None:
        """End the connection, after the query that runs."""
        self._is_leaving = True
        if not self._is_busy:
            self.leave()

    def leave(self) -> None:
        """End the connection."""
        self._writer.transport.abort()

    async def _end(self, error: ServerError) -> None:
        """Send the last packet."""
        log.info("native client %s: code %d: %s", self._address, error.code, error)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._send(packets.exception(error))

    async def _shake_hands(self) -> bool:
        first = await self._source.byte()
        if first in _HTTP_VERBS:
            port = self._writer.get_extra_info("sockname")[1]
            await self._send(_WRONG_PORT.format(port, self._shared.config.port).encode())
            return False
        if first != Client.HELLO:
            raise packet_error(UNEXPECTED_PACKET_FROM_CLIENT, "Unexpected packet from client, not Hello")
        hello = await packets.read_hello(self._source)
        self._revision = min(hello.revision, packets.REVISION)
        if hello.revision < packets.OLDEST:
            words = f"The client speaks revision {hello.revision} of the protocol, the oldest here is {packets.OLDEST}"
            raise ServerError(CLIENT_HAS_CONNECTED_TO_WRONG_PORT, words)
        self._account = await self._shared.authenticated(
            Credentials(hello.user or "default", hello.password), self._address
        )
        engine = self._shared.engine
        self._session = await self._shared.workers.control(
            functools.partial(_session, engine, hello.database, self._account)
        )
        await self._send(packets.hello(engine.version, engine.timezone, engine.host_name))
        if self._revision >= packets.ADDENDUM:
            await self._source.string()  # the key of a quota
        return True

    async def _answer(self, kind: int) -> None:
        """Answer a packet."""
        match kind:
            case Client.QUERY:
                limit = self._shared.config.max_query_bytes
                async with asyncio.timeout(_PATIENCE):
                    query = await packets.read_query(self._source, self._revision, limit)
                try:
                    request = await self._request(query)
                    # Nothing waits between this and `add`, or two queries could get one id.
                    self._shared.running.check(request.query_id)
                except ServerError as error:
                    await self._send(packets.exception(error))
                else:
                    await self._query(query, request)
            case Client.DATA:
                # What a client had sent of an INSERT before it read that this has failed.
                await self._source.string()
                await self._receiver(self._shared.workers.run).into(None)
            case Client.PING:
                await self._send(bytes([Server.PONG]))
            case Client.TABLES_STATUS:
                await self._tables_status()
            case Client.CANCEL | Client.KEEP_ALIVE:
                pass  # what was to be cancelled has ended
            case _:
                raise packet_error(UNEXPECTED_PACKET_FROM_CLIENT, f"Unexpected packet {kind} from client")

    async def _tables_status(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            count = await self._source.varint()
            if count > _MOST_TABLES:
                raise packet_error(INCORRECT_DATA, f"A packet asks about {count} tables")
            asked = [(await self._source.string(), await self._source.string()) for _ in range(count)]
        assert self._session is not None
        call = functools.partial(_existing, self._session, asked)
        await self._send(packets.tables_status(await self._shared.workers.run(call)))

    async def _query(self, query: Query, request: QueryRequest) -> None:
        """Run a query, with everything that belongs to it before and after."""
        assert self._session is not None
        self._compressed = query.compressed
        self._cancelled = False
        lease = Lease(self._shared.engine, self._shared.pool, session=self._session, is_interactive=True)
        lease.user = self._account.name
        self._lock = lease.lock
        running = self._shared.running
        running.add(request.query_id, lease)
        turn = Turn(self._shared.workers, lease, lambda: running.remove(request.query_id))
        execution = Execution(self._shared.engine, lease, request, running.resolve, self._shared.connections)
        tables: list[str] = []
        try:
            try:
                await self._receive_tables(execution, turn, tables)
                last = await self._run(execution, query, turn)
            finally:
                if tables:
                    await turn.finish_with(functools.partial(_drop, execution, tables))
        except ClientGoneError:
            raise
        except ServerError as error:
            last = bytes([Server.END_OF_STREAM]) if self._cancelled else packets.exception(error)
        finally:
            await turn.finish()
        await self._send(last)

    async def _request(self, query: Query) -> QueryRequest:
        settings = {name: value for name, value in query.settings.items() if name not in _NOT_SET}
        if query.optional:
            known = await self._shared.workers.run(self._shared.engine.setting_names)
            settings = {name: value for name, value in settings.items() if name not in query.optional or name in known}
        parameters: dict[str, str] = {name: settings.pop(name) for name in _PARAMETERS if name in settings}
        parameters["client_protocol_version"] = str(self._revision)
        request = QueryRequest(
            method="POST",
            query=query.text,
            parameters=parameters,
            settings=settings,
            query_parameters=query.parameters,
            query_id=query.query_id or str(uuid.uuid4()),
            database=self._session.database if self._session is not None else "",
            default_format="Native",
            account=self._account,
            client_name=query.client_name,
        )
        if self._account.is_subject(request):
            return await self._shared.workers.control(functools.partial(self._account.prepared, request))
        return request

    async def _receive_tables(self, execution: Execution, turn: Turn, tables: list[str]) -> None:
        """Receive the external tables of a query, up to the block without columns after them."""
        receiver = self._receiver(turn.run)
        failure: ServerError | None = None
        while True:
            kind, name = await self._data_begins()
            block, data = await receiver.whole(_MOST_EXTERNAL)
            if kind == Client.DATA and not block.columns:
                break
            # Scalars are what an engine knows that asks another one, such as the number of the shard.
            if failure is None and kind == Client.DATA:
                try:
                    await turn.run(functools.partial(_fill_table, execution, name, block, data, tables))
                except ServerError as error:
                    failure = error  # to be sent when all of the query has come
        if failure is not None:
            raise failure

    async def _data_begins(self) -> tuple[int, str]:
        """Wait for a packet with a block; returns what it is, and the name of its table."""
        async with asyncio.timeout(_PATIENCE):
            kind = await self._source.varint()
            if kind == Client.CANCEL:
                self._cancelled = True
                raise ServerError(QUERY_WAS_CANCELLED, "The client cancelled the query")
            if kind not in (Client.DATA, Client.SCALAR):
                raise packet_error(UNEXPECTED_PACKET_FROM_CLIENT, f"Unexpected packet {kind} from client, not Data")
            return kind, await self._source.string()

    def _receiver(self, run: Run) -> Receiver:
        return Receiver(self._source, self._revision, self._compressed, run, _PATIENCE)

    async def _run(self, execution: Execution, query: Query, turn: Turn) -> bytes:
        """Run the statement; returns its last packets, before which the next query of the client cannot come."""
        examine = functools.partial(sql.examine, query.text)
        statement = examine() if len(query.text) < _SMALL else await self._shared.workers.run(examine)
        settings = {**execution.request.defaults, **execution.request.settings}
        self._names_extremes = self._names_extremes or _EXTREMES in query.text or _EXTREMES.decode() in settings
        if statement.insert is None:
            return await self._result(execution, query, statement, turn)
        if query.text[statement.insert.data_start :].strip(_BLANKS):
            call = functools.partial(execution.insert_whole, query.text, statement.insert)
            return self._written(await turn.run(call))
        return await self._insert(execution, query.text, statement.insert, turn)

    async def _result(self, execution: Execution, query: Query, statement: Statement, turn: Turn) -> bytes:
        sender = Sender(self._revision, query.compressed, query.settings)
        result = Result(execution, sender, self._send_from_thread, self._report)
        turn.watch(self._until_cancelled())
        began, self._sent = time.monotonic_ns(), Progress()
        try:
            run = functools.partial(result.run, query.text, statement, self._names_extremes)
            last = await turn.run(run)
            progress = result.progress()
            if progress != Progress():  # as it is after CREATE and the like
                progress.elapsed = time.monotonic_ns() - began
                last += progress.since(self._sent).packet(self._revision)
            return last + result.end_of_data() + bytes([Server.END_OF_STREAM])
        finally:
            self._sent = None

    def _send_from_thread(self, data: bytes) -> None:
        """Send, and wait until there is room for more. Blocks.

        Raises:
            ClientGoneError: the connection broke, or the client reads nothing any more.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._send(data), self._loop).result()
        except (ConnectionError, TimeoutError):
            raise ClientGoneError from None

    async def _until_cancelled(self) -> None:
        """Wait until the client cancels its query, or leaves. What else it sends is for afterwards."""
        first = await self._source.peek()
        if first == Client.CANCEL:
            await self._source.byte()
            self._cancelled = True
        elif first is not None:
            await asyncio.get_running_loop().create_future()

    def _report(self, progress: Mapping[str, int]) -> None:
        """Take a report of the engine, in one of its threads."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._send_progress, dict(progress))

    def _send_progress(self, progress: Mapping[str, int]) -> None:
        if self._sent is None or self._writer.is_closing():
            return
        names = ("read_rows", "read_bytes", "total_rows_to_read", "written_rows", "written_bytes", "elapsed_ns")
        reached = Progress(*(progress.get(name, 0) for name in names))
        self._writer.write(reached.since(self._sent).packet(self._revision))
        self._sent = reached

    async def _insert(self, execution: Execution, text: bytes, insert: InsertData, turn: Turn) -> bytes:
        native = replace(insert, format="Native")

        def begin() -> tuple[list[tuple[str, str]], str, InsertStream]:
            columns, description = expected(execution, text, insert)
            return columns, description, execution.begin_insert(text, native)

        columns, description, stream = await turn.run(begin)
        try:
            about = packets.table_columns(description) if description else b""
            sender = Sender(self._revision, self._compressed, execution.request.settings)
            await self._send(about + sender.head(columns))
            receiver = self._receiver(turn.run)
            while True:
                await self._data_begins()
                if not (await receiver.into(stream)).columns:
                    break
                await self._send(self._profile_events())
            return self._written(await turn.run(functools.partial(execution.finish_insert, stream, text, native)))
        except BaseException:
            await turn.finish_with(stream.cancel)
            raise

    def _written(self, counters: Counters) -> bytes:
        """The end of an INSERT."""
        end = bytes([Server.END_OF_STREAM])
        if self._revision < packets.PROFILE_EVENTS_IN_INSERT:
            return end
        progress = Progress(written_rows=counters.written_rows, written_bytes=counters.written_bytes)
        return progress.packet(self._revision) + self._profile_events() + end

    def _profile_events(self) -> bytes:
        """Clients since revision 54456 wait for this after each block. The engine hands out no such events."""
        if self._revision < packets.PROFILE_EVENTS_IN_INSERT:
            return b""
        return Sender(self._revision, compressed=False, settings={}).packet(
            Server.PROFILE_EVENTS, NativeBlocks(_PROFILE_EVENTS, self._revision).head()
        )

    async def _send(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            async with asyncio.timeout(_PATIENCE):
                await self._writer.drain()


def _session(engine: Engine, database: str, account: Account) -> Session:
    """A session in that database, which has to exist; where none is named, in the one of its user. Blocks."""
    session = Session(engine.connect(), math.inf, database or DEFAULT_DATABASE)
    try:
        session.prepare(account.prepared(QueryRequest("POST", b"", account=account)), "")
    except BaseException:
        session.connection.close()
        raise
    return session


def _existing(session: Session, asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
    def exists(database: str, table: str) -> bool:
        name = ".".join(sql.identifier(part) for part in (database, table) if part)
        return bool(session.connection.rows(f"EXISTS TABLE {name}")[0][0])

    return [each for each in asked if exists(*each)]


def _fill_table(execution: Execution, name: str, block: Block, data: bytes, tables: list[str]) -> None:
    """Put a block into the external table of that name, which is made for its first one."""
    execution.lease.prepare(execution.request, "SELECT")
    if name not in tables:
        structure = ", ".join(f"{sql.identifier(column)} {kind}" for column, kind in block.columns)
        execution.create_table(name, sql.quote(structure))
        tables.append(name)
    if block.rows:
        stream = execution.fill_table(name, "Native")
        stream.append(data)
        stream.finish()


def _drop(execution: Execution, tables: list[str]) -> None:
    for name in tables:
        execution.drop_table(name)
