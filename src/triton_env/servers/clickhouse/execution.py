"""Running one statement on a leased connection. Everything here blocks: call it from a worker thread."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from . import engine as chdb
from . import sql
from .engine import Counters, Engine, FormatInfo, HeldResult, InsertStream, ResultStream
from .errors import ACCESS_DENIED, BAD_ARGUMENTS, INTO_OUTFILE_NOT_ALLOWED, READONLY, SYNTAX_ERROR, ServerError
from .request import QueryRequest
from .sessions import Lease
from .sql import InsertData, Statement

_USER: Final = "default"  # the engine runs everything as this user
DEFAULT_FORMAT: Final = "TabSeparated"
_SELECTS: Final = frozenset({"SELECT", "WITH", "FROM"})
_OF_THE_PROCESS: Final = (b"python", b"executable", b"executable_pool", b"executablepool")
# The engine formats every piece of a streamed result as a result of its own. Only where pieces put
# together are the same as the whole may a result be streamed.
_STREAMED: Final = frozenset(
    {
        "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "raw", "csv", "tskv", "jsoneachrow", "jsonlines", "ndjson",
        "jsonstringseachrow", "jsoncompacteachrow", "jsoncompactstringseachrow", "rowbinary", "native",
        "lineasstring", "msgpack", "rawblob",
    }
)  # fmt: skip
_SIGNALS: Final = {"SYSTEM SHUTDOWN": signal.SIGTERM, "SYSTEM KILL": signal.SIGKILL}
_RARELY: Final = 10.0  # seconds
_INPUT_TABLE: Final = "_http_input"


@dataclass(slots=True)
class Answer:
    """The result of a statement, whole or on its way.

    `ready` is the beginning of it (all of it, if `more` is false); `next_piece` brings the rest.
    """

    format_info: FormatInfo | None
    ready: list[bytes] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    stream: ResultStream | None = None
    held: HeldResult | None = None
    progress: list[Mapping[str, int]] = field(default_factory=list)
    on_end: Callable[[], None] = lambda: None

    @property
    def more(self) -> bool:
        """Whether there is more than what is ready."""
        return self.stream is not None or self.held is not None

    def next_piece(self) -> bytes | None:
        """The next piece, None after the last. Blocks."""
        if self.held is not None:
            return self.held.next_piece()
        while self.stream is not None and (result := self.stream.fetch()) is not None:
            self.counters.add(result)
            if result.size():
                return bytes(result.bytes())
        return None

    def end(self) -> None:
        """Stop what is still running, and clean up. Blocks."""
        if self.stream is not None:
            self.stream.cancel()
        self.on_end()


@dataclass(frozen=True, slots=True)
class Execution:
    """One request on one connection."""

    engine: Engine
    lease: Lease
    request: QueryRequest
    resolve_query_id: Callable[[bytes], bytes] = bytes

    def run(self, text: bytes, statement: Statement, buffer_size: int) -> Answer:
        """Run a statement without data; of a streamed result, `buffer_size` bytes are fetched at once."""
        self.lease.prepare(self.request, statement.verb)
        query_class = self._check(text, statement)
        if self.request.readonly == 1 and self.lease.session is None:
            self.lease.connection.run("SET readonly = 1")
        if statement.verb == "SYSTEM" and (number := _SIGNALS.get(" ".join(sql.keywords(text, 2)))):
            # The engine would signal the whole process group, and with it the process that started this server.
            if self.request.readonly:
                raise ServerError(READONLY, f"{_USER}: Cannot execute query in readonly mode")
            os.kill(os.getpid(), number)
            return Answer(None)
        if statement.verb == "KILL":
            text = sql.replace_strings(text, self.resolve_query_id)
        name = statement.format or self.request.default_format or DEFAULT_FORMAT
        answer = Answer(self.engine.format_info(name))
        watched = self.request.flag("send_progress_in_http_headers")
        interval = self.request.number("http_headers_progress_interval_ms", 100) / 1000
        if watched:
            self._watch_progress(answer, interval)
        # Of a streamed result the engine reports no progress. Who asks for it so rarely wants it against
        # timeouts of the network only (clickhouse-connect does, every two minutes).
        whole = self.request.wait_end_of_query or (watched and interval < _RARELY)
        if statement.verb in _SELECTS and name.lower() in _STREAMED and not whole:
            self._stream(text, name, buffer_size, answer)
        else:
            self._whole(text, statement, name, buffer_size, answer)
        if query_class != chdb.READ_ONLY:
            self.lease.forget_others()
        elif answer.stream is None and not watched and self.request.readonly != 1:
            self.lease.reusable = True
        return answer

    def _stream(self, text: bytes, name: str, buffer_size: int, answer: Answer) -> None:
        stream = self.lease.connection.stream(text, name, self.request.query_parameters)
        size = 0
        while size < buffer_size and (result := stream.fetch()) is not None:
            answer.counters.add(result)
            answer.ready.append(bytes(result.bytes()))
            size += result.size()
        answer.stream = None if stream.finished else stream

    def _whole(self, text: bytes, statement: Statement, name: str, buffer_size: int, answer: Answer) -> None:
        result = self.lease.connection.query(text, name, self.request.query_parameters)
        if self.lease.session is not None:
            self.lease.session.settle(statement.verb)
        answer.counters.add(result)
        if result.size() > buffer_size:
            answer.held = HeldResult(result)
        elif result.size():
            answer.ready.append(bytes(result.bytes()))
        elif statement.verb not in _SELECTS:
            answer.format_info = None

    def _watch_progress(self, answer: Answer, interval: float) -> None:
        last = time.monotonic()

        def report(progress: Mapping[str, int]) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= interval:
                last = now
                answer.progress.append(dict(progress))

        self.lease.connection.on_progress(report)

    def begin_insert(self, text: bytes, insert: InsertData) -> InsertStream:
        """Start an INSERT that brings data."""
        if self.request.readonly:
            raise ServerError(READONLY, f"{_USER}: Cannot execute query in readonly mode")
        self._refuse_process(text[: insert.head_end])
        self.lease.prepare(self.request, "INSERT")
        # The engine takes no parameters along with an insert; set on the connection they mean the same.
        for name, value in self.request.query_parameters.items():
            self.lease.connection.set_parameter(name, value)
        if insert.structure is not None:
            structure = text[insert.structure.start : insert.structure.end].decode("utf-8", "surrogateescape")
            self.create_table(_INPUT_TABLE, structure)
            return self.fill_table(_INPUT_TABLE, insert.format)
        return self.lease.connection.insert(text[: insert.head_end], insert.format)

    def finish_insert(self, stream: InsertStream, text: bytes, insert: InsertData) -> Counters:
        """Commit it, and report what it did."""
        counters = Counters()
        result = stream.finish()
        if insert.input is not None:
            statement = text[: insert.input.start] + _INPUT_TABLE.encode() + text[insert.input.end : insert.head_end]
            result = self.lease.connection.query(statement, "Null", self.request.query_parameters)
            self.drop_table(_INPUT_TABLE)
        counters.add(result)
        counters.result_rows, counters.result_bytes = counters.written_rows, counters.written_bytes
        return counters

    def create_table(self, name: str, structure: str) -> None:
        """Make a temporary table; `structure` as a string literal."""
        self.lease.keep_from_others()
        self.lease.connection.run(
            f"CREATE TEMPORARY TABLE {sql.identifier(name)} ENGINE = Memory EMPTY AS SELECT * FROM null({structure})"  # noqa: S608
        )

    def fill_table(self, name: str, data_format: str) -> InsertStream:
        """Start to fill a temporary table."""
        if not data_format.isidentifier():
            raise ServerError(BAD_ARGUMENTS, f"Bad name of a format: '{data_format}'")
        return self.lease.connection.insert(f"INSERT INTO {sql.identifier(name)}".encode(), data_format)

    def drop_table(self, name: str) -> None:
        """Remove a temporary table."""
        self.lease.connection.run(f"DROP TEMPORARY TABLE IF EXISTS {sql.identifier(name)}")

    def _check(self, text: bytes, statement: Statement) -> int:
        """Refuse what must not run; returns the class of the statement."""
        if not statement.verb and not text.strip(b"; \t\r\n\f\v"):
            raise ServerError(SYNTAX_ERROR, "Syntax error: failed at position 1 (end of query): Empty query")
        query_class, count = self.lease.connection.classify(text)
        if count > 1:
            raise ServerError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")
        if statement.verb in _SELECTS and query_class == chdb.CONTROL:
            raise ServerError(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
        self._refuse_process(text)
        self.lease.cancellable = query_class == chdb.READ_ONLY
        # A session outlives this request, and readonly could never be taken back from its connection.
        if self.lease.session is not None and (level := self.request.readonly):
            harmless = query_class in (chdb.READ_ONLY, chdb.UNKNOWN)
            if not harmless and not (level > 1 and statement.verb in ("SET", "USE")):
                raise ServerError(READONLY, f"{_USER}: Cannot execute query in readonly mode")
        return query_class

    def _refuse_process(self, text: bytes) -> None:
        """What leads out of the engine: to variables of this process by their names, and to programs.

        A server refuses the latter in dictionaries that are created by a query, the engine in a process does not.
        """
        for name in sql.called_functions(text, _OF_THE_PROCESS):
            raise ServerError(ACCESS_DENIED, f"{_USER}: The function {name.decode()} is not available over HTTP")
