"""Running one statement on a leased connection. Everything here blocks: call it from a worker thread."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from . import engine as chdb
from . import sql
from .engine import Counters, Engine, FormatInfo, InsertStream
from .errors import ACCESS_DENIED, BAD_ARGUMENTS, INTO_OUTFILE_NOT_ALLOWED, READONLY, SYNTAX_ERROR, ServerError
from .native import NativeBlocks, names_and_types
from .output import Output
from .request import QueryRequest
from .rewriting import CLUSTER_ANSWER, custom_settings, processes_by_name, rewritten, with_connections
from .sessions import Lease
from .sql import InsertData, Statement

DEFAULT_FORMAT: Final = "TabSeparated"
SELECTS: Final = frozenset({"SELECT", "WITH", "FROM"})
_READING: Final = SELECTS | {"CHECK", "DESC", "DESCRIBE", "EXISTS", "EXPLAIN", "SHOW"}
_OF_THE_PROCESS: Final = (b"python", b"executable", b"executable_pool", b"executablepool", b"odbc", b"jdbc")
# The engine formats every piece of a streamed result as a result of its own. Where pieces put together are the same as
# the whole it is asked for them, since its logs then have the query as it was sent; else it writes to a file.
_PIECEWISE: Final = frozenset(
    {
        "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "raw", "csv", "tskv", "jsoneachrow", "jsonlines", "ndjson",
        "jsonstringseachrow", "jsoncompacteachrow", "jsoncompactstringseachrow", "rowbinary", "native",
        "rowbinarywithnamesandtypes", "lineasstring", "msgpack", "rawblob", "null",
    }
)  # fmt: skip
_QUERY_LOG, _PROCESSES = re.compile(rb"(?i)query_log"), re.compile(rb"(?i)\bsystem\b.{1,9}\bprocesses\b")
_METRICS: Final = re.compile(rb"(?i)\bsystem\b.{1,9}\bmetrics\b")
_SIGNALS: Final = {"SYSTEM SHUTDOWN": signal.SIGTERM, "SYSTEM KILL": signal.SIGKILL}
_NATIVE: Final = "Native"
_BUFFERS: Final = "Buffers"
_ROWS: Final = "RowBinary"
_TYPED_ROWS: Final = f"{_ROWS}WithNamesAndTypes"
_HEADERS: Final = "http_response_headers"
_RESULT_TABLE: Final = "_http_result"
_INPUT_TABLE: Final = "_http_input"


@dataclass(slots=True)
class Answer:
    """The result of a statement: what a query writes to `output` while it runs, or all of it in `whole`.

    The rest is known before the first of it is written, but for `counters`. `native` makes out of it what
    the client reads, where the engine does not write that.
    """

    output: Output | None = None
    whole: bytes = b""
    format_info: FormatInfo | None = None
    native: NativeBlocks | None = None
    headers: dict[str, str] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    progress: list[Mapping[str, int]] = field(default_factory=list)

    def made_of(self, piece: bytes) -> bytes:
        """What the client gets for a piece of the result."""
        return piece if self.native is None else self.native.feed(piece)


@dataclass(frozen=True, slots=True)
class Execution:
    """One request on one connection."""

    engine: Engine
    lease: Lease
    request: QueryRequest
    resolve_query_id: Callable[[bytes], bytes] = bytes
    connections: Callable[[], Mapping[str, int]] = dict

    @property
    def _user(self) -> str:
        return self.request.account.name

    def run(self, text: bytes, statement: Statement, answer: Answer) -> None:
        """Run a statement without data; returns when all of its result is written."""
        self.lease.prepare(self.request, statement.verb)
        query_class = self._check(text, statement)
        if statement.verb == "SET" and self._set_custom(text):
            return
        text, is_for_cluster = rewritten(text, statement.verb, self.request.query_id, self._custom)
        if is_for_cluster:
            statement = sql.examine(text)
        admitted = self.request.account.admit(self.lease, self.request, text, statement)
        if admitted is None and not is_for_cluster:
            return
        if admitted is None:
            text, statement, is_for_cluster = CLUSTER_ANSWER.encode(), Statement("SELECT", statement.format), False
        elif admitted != text:
            text, statement = admitted, sql.examine(admitted)
        if self.request.readonly == 1 and self.lease.session is None:
            self.lease.connection.run("SET readonly = 1")
        if statement.verb == "SYSTEM" and (number := _SIGNALS.get(" ".join(sql.keywords(text, 2)))):
            # The engine would signal the whole process group, and with it the process that started this server.
            if self.request.readonly:
                raise ServerError(READONLY, f"{self._user}: Cannot execute query in readonly mode")
            os.kill(os.getpid(), number)
            return
        if _QUERY_LOG.search(text):
            self.engine.show_query_log()
        if statement.verb == "KILL":
            text = sql.replace_strings(text, self.resolve_query_id)
            statement = sql.examine(text)
        elif _PROCESSES.search(text):
            self.engine.show_processes()
            text = processes_by_name(text)
            statement = sql.examine(text)
        if _METRICS.search(text) and (counted := with_connections(text, self.connections())) != text:
            text, statement = counted, sql.examine(counted)
        name = statement.format or self.request.default_format or DEFAULT_FORMAT
        answer.format_info = self.engine.format_info(name)
        answer.headers = self._headers(text)
        if self.request.watches_progress:
            self._watch_progress(answer)
        if query_class == chdb.READ_ONLY and answer.output is not None and answer.format_info is not None:
            self._query(text, statement, answer.format_info.name, answer.output, answer)
        elif is_for_cluster:
            self._change(text, statement, answer)
            self._whole(CLUSTER_ANSWER.encode(), Statement("SELECT"), name, answer)
        elif statement.verb == "CREATE":
            answer.format_info = None
            self._change(text, statement, answer)
        else:
            self._whole(text, statement, name, answer)
        if query_class != chdb.READ_ONLY:
            self.lease.forget_others()
        elif not self.request.watches_progress and self.request.readonly != 1:
            self.lease.reusable = True

    def _query(self, text: bytes, statement: Statement, name: str, output: Output, answer: Answer) -> None:
        connection, parameters = self.lease.connection, self.request.query_parameters
        if self.request.protocol_version and name == _NATIVE:
            columns = connection.columns(sql.without_format(text, statement), parameters)
            if not columns:
                return self._whole(text, statement, name, answer)
            answer.native = NativeBlocks(columns, self.request.protocol_version)
            output.begin()
            text, name = sql.without_format(text, statement), _BUFFERS
        elif self.request.watches_progress or not self._is_piecewise(text, name.lower()):
            # Of a streamed result the engine reports no progress.
            text = sql.with_output(text, statement, output.open_file(), name)
            answer.counters.add(connection.query(text, name, parameters))
            return None
        stream = connection.stream(text, name, parameters)
        head = None if name == _TYPED_ROWS else 0
        try:
            while (piece := stream.fetch()) is not None:
                answer.counters.add(piece)
                data = bytes(piece.bytes())
                if head is None and data:
                    _, head = names_and_types(data)
                    output.write(data)
                elif rows := data[head:]:  # each piece has the names and types before it
                    output.write(rows)
        finally:
            stream.cancel()
        return None

    def _is_piecewise(self, text: bytes, name: str) -> bool:
        is_array = "json" in name and (chdb.ROWS_AS_ARRAY in text or self.lease.connection.names_rows_as_array)
        return name in _PIECEWISE and not is_array

    def _whole(self, text: bytes, statement: Statement, name: str, answer: Answer) -> None:
        is_native = answer.format_info is not None and answer.format_info.name == _NATIVE
        as_blocks = False
        if is_native and self.request.protocol_version:
            bare = sql.without_format(text, statement)
            # Where another FORMAT stands before it, the engine refuses the text as it is.
            as_blocks = sql.examine(bare).format is None
            if as_blocks:
                text, name = bare, _TYPED_ROWS
        result = self.lease.connection.query(text, name, self.request.query_parameters)
        if self.lease.session is not None:
            self.lease.session.settle(statement.verb)
        answer.counters.add(result)
        if result.size():
            answer.whole = self._as_blocks(bytes(result.bytes()), answer) if as_blocks else bytes(result.bytes())
        elif statement.verb not in SELECTS:
            answer.format_info = None

    def _change(self, text: bytes, statement: Statement, answer: Answer) -> None:
        """Run a statement that has no result.

        A table whose engine does not start, such as Kafka, is there all the same, and what reads it fails.
        """
        connection, parameters = self.lease.connection, self.request.query_parameters
        name = sql.created(text) if statement.verb == "CREATE" else None
        was_there = name is not None and connection.exists(name)
        try:
            answer.counters.add(connection.query(text, "Null", parameters))
        except ServerError:
            if name is not None and not was_there and connection.exists(name):
                connection.run_bytes(b"DROP TABLE %b SYNC" % name)
            raise

    def _headers(self, text: bytes) -> dict[str, str]:
        """What the client wants to have in the head of its answer."""
        written = sql.value_of(text, _HEADERS.encode())
        sent = self.request.parameters.get(_HEADERS, "")
        value = sql.quote(sent) if written is None else written.decode("utf-8", "replace")
        if written is None and not sent:
            return {}
        ((headers,),) = self.lease.connection.rows(f"SELECT getSetting('{_HEADERS}') SETTINGS {_HEADERS} = {value}")
        return dict(headers)

    @property
    def _custom(self) -> Mapping[str, str]:
        session = self.lease.session
        return self.request.custom_settings if session is None else {**session.custom, **self.request.custom_settings}

    def _set_custom(self, text: bytes) -> bool:
        if (custom := custom_settings(text)) is None:
            return False
        if self.lease.session is not None:
            self.lease.session.custom.update(custom)
        return True

    def _as_blocks(self, rows: bytes, answer: Answer) -> bytes:
        """The result of a statement that is not a query, and cannot be looked at before it has run, as columns."""
        columns, start = names_and_types(rows)
        answer.native = NativeBlocks(columns, self.request.protocol_version)
        # Two columns of a result may have the same name, those of a table may not.
        structure = ", ".join(f"_{index} {kind}" for index, (_, kind) in enumerate(columns))
        with contextlib.closing(self.engine.connect()) as connection:
            connection.run(f"CREATE TEMPORARY TABLE {_RESULT_TABLE} ({structure}) ENGINE = Memory")
            stream = connection.insert(f"INSERT INTO {_RESULT_TABLE}".encode(), _ROWS)
            stream.append(rows[start:])
            stream.finish()
            return bytes(connection.query(f"SELECT * FROM {_RESULT_TABLE}".encode(), _BUFFERS, {}).bytes())  # noqa: S608

    def _watch_progress(self, answer: Answer) -> None:
        interval = self.request.number("http_headers_progress_interval_ms", 100) / 1000
        last = time.monotonic()

        def report(progress: Mapping[str, int]) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= interval:
                last = now
                answer.progress.append(dict(progress))

        self.lease.connection.on_progress(report)

    def begin_insert(self, text: bytes, insert: InsertData, *, is_whole: bool = False) -> InsertStream:
        """Start an INSERT that brings data; `is_whole`: all of which is in `text`."""
        if self.request.readonly:
            raise ServerError(READONLY, f"{self._user}: Cannot execute query in readonly mode")
        self._refuse_process(text[: insert.head_end])
        account = self.request.account
        self.lease.prepare(account.guarded(self.request, text, insert, is_whole=is_whole), "INSERT")
        account.check_insert(self.lease, self.request, text, insert)
        # The engine takes no parameters along with an insert; set on the connection they mean the same.
        for name, value in self.request.query_parameters.items():
            self.lease.connection.set_parameter(name, value)
        if insert.structure is not None:
            structure = text[insert.structure.start : insert.structure.end].decode("utf-8", "surrogateescape")
            source = f"null({structure})".encode("utf-8", "surrogateescape")
            target = sql.insert_target(text[: insert.input.start]) if insert.input else None
            columns = b"*"
            if structure.lower() == "'auto'" and target is not None:
                source, columns = target
            self._create_table(_INPUT_TABLE, b"SELECT %b FROM %b" % (columns, source))
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

    def insert_whole(self, text: bytes, insert: InsertData) -> Counters:
        """Run an INSERT whose data is in its text."""
        stream = self.begin_insert(text, insert, is_whole=True)
        try:
            if data := text[insert.data_start :]:
                stream.append(data)
            return self.finish_insert(stream, text, insert)
        except BaseException:
            stream.cancel()
            raise

    def create_table(self, name: str, structure: str) -> None:
        """Make a temporary table; `structure` as a string literal."""
        self._create_table(name, f"SELECT * FROM null({structure})".encode("utf-8", "surrogateescape"))  # noqa: S608

    def _create_table(self, name: str, like: bytes) -> None:
        self.lease.keep_from_others()
        head = f"CREATE TEMPORARY TABLE {sql.identifier(name)} ENGINE = Memory EMPTY AS "
        self.lease.connection.run_bytes(head.encode() + like)

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
        if sql.writes_file(text) or (statement.verb in _READING and query_class == chdb.CONTROL):
            raise ServerError(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
        self._refuse_process(text)
        self.lease.cancellable = query_class == chdb.READ_ONLY
        # A session outlives this request, and readonly could never be taken back from its connection.
        if self.lease.session is not None and (level := self.request.readonly):
            harmless = query_class in (chdb.READ_ONLY, chdb.UNKNOWN)
            if level == 1 and sql.has_settings(text):
                raise ServerError(READONLY, f"{self._user}: Cannot modify settings in readonly mode")
            if level == 1 and statement.verb == "SET" and (name := sql.keywords(text, 2)[1:]) not in ([], ["ROLE"]):
                raise ServerError(READONLY, f"Cannot modify '{name[0].lower()}' setting in readonly mode")
            if not harmless and not (level > 1 and statement.verb in ("SET", "USE")):
                raise ServerError(READONLY, f"{self._user}: Cannot execute query in readonly mode")
        return query_class

    def _refuse_process(self, text: bytes) -> None:
        """What leads out of the engine: to variables of this process by their names, and to programs.

        A server refuses the latter in dictionaries that are created by a query, the engine in a process does not. For
        ODBC and JDBC it starts a bridge, or looks for one, and waits for minutes where there is none.
        """
        for name in sql.called_functions(text, _OF_THE_PROCESS):
            raise ServerError(ACCESS_DENIED, f"{self._user}: The function {name.decode()} is not available here")
