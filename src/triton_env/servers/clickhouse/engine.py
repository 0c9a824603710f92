"""The chdb engine: the only module that imports it.

Every call here blocks, and releases the interpreter lock while the engine works. Connections are cheap
(about 0.1 ms), have their own settings, current database and temporary tables, and run in parallel.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import engine_config, querylog, sql
from .errors import BAD_ARGUMENTS, UNKNOWN_DATABASE, ServerError, from_engine
from .failed_inserts import FailedInserts

# From ClickHouse's parser, in ascending order of what a statement may change.
READ_ONLY, MUTATING, MUTATING_GLOBAL, CONTROL, UNKNOWN = range(5)


ROWS_AS_ARRAY = b"output_format_json_array_of_rows"
"""The setting that makes one document of what is otherwise a line for each row."""
_COMMENT = b"log_comment"
# Not of a view: what it has in its text stays.
_COMMENTED = frozenset({"SELECT", "WITH", "FROM", "INSERT", "SET"})
_PLAIN_DESCRIPTION = b"describe_compact_output = 1, print_pretty_type_names = 0"
# The second where the text of the first holds bytes of the query that are not UTF-8.
ENGINE_ERRORS = (RuntimeError, UnicodeDecodeError)


def _translated(error: RuntimeError | UnicodeDecodeError) -> ServerError:
    return from_engine(error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error))


def load_engine() -> Any:
    """Import chdb without pyarrow, which it takes if it is there, is not needed, and doubles the start time."""
    hidden = "pyarrow" not in sys.modules
    if hidden:
        sys.modules["pyarrow"] = None  # type: ignore[assignment]
    try:
        from chdb import _chdb
    finally:
        if hidden:
            del sys.modules["pyarrow"]
    return _chdb


@dataclass(slots=True)
class Counters:
    """What a statement did, as far as the engine reports it."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0

    def add(self, result: Any) -> None:
        """Add the counters of one engine result."""
        self.read_rows += result.storage_rows_read()
        self.read_bytes += result.storage_bytes_read()
        self.written_rows += result.rows_written()
        self.written_bytes += result.bytes_written()
        self.result_rows += result.rows_read()
        self.result_bytes += result.size()


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """One row of system.formats."""

    name: str
    content_type: str


class Engine:
    """One data directory, opened for the life of the process."""

    def __init__(self, path: Path, database: str, options: Iterable[tuple[str, str]] = ()) -> None:
        """Open or make the data directory `path`, and make `database` in it.

        Args:
            options: see `engine_config.write`.

        Raises:
            ServerError: the engine cannot open it, for instance because another process has it.
        """
        path.mkdir(parents=True, exist_ok=True)
        self._native = load_engine()
        self._path = path
        self._log_lock = threading.Lock()
        self._has_query_log = self._has_processes = False
        self._failed_inserts = FailedInserts(lambda: self._connect(""))
        self._profile = engine_config.profile(options)
        # Held open until the end: the engine shuts down with its last connection, and has the options of its first.
        self._keeper = self._connect(f"&config-file={engine_config.write(path, options)}")
        self._keeper.run(f"CREATE DATABASE IF NOT EXISTS {sql.identifier(database)}")
        ((self.version, self.timezone, self.host_name),) = self._keeper.rows("SELECT version(), timezone(), hostName()")
        formats = self._keeper.rows("SELECT name, content_type FROM system.formats WHERE is_output")
        self._formats = {name.lower(): FormatInfo(name, content_type) for name, content_type in formats}

    def connect(self, readonly: int = 0) -> Connection:
        """Open a connection with a state of its own; `readonly` as the setting of that name."""
        connection = self._connect(f"&readonly={readonly}" if readonly and not self._profile else "")
        if readonly and self._profile:
            # Not before those of the profile were set.
            connection.run(f"SET readonly = {readonly}")
        return connection

    def _connect(self, more: str) -> Connection:
        tag = uuid.uuid4().hex
        # An embedded engine takes a bare expression for a SELECT; a server calls it a syntax error.
        options = f"?implicit_select=0&log_comment={tag}{more}"
        path = f"{self._path}{options}"
        try:
            native = self._native.connect(path)
        except ENGINE_ERRORS as error:
            failure = _translated(error)
            if failure.code != UNKNOWN_DATABASE[0]:
                raise failure from error
            native = self._connect_again(path)
        connection = Connection(native, tag, self._failed_inserts)
        if self._profile:
            connection.run(self._profile)
        return connection

    def _connect_again(self, path: str) -> Any:
        """Make the database `default`, which a client has dropped: the engine (26.9) opens no connection without it."""
        with self._log_lock:
            self._keeper.run("CREATE DATABASE IF NOT EXISTS default")
        try:
            return self._native.connect(path)
        except ENGINE_ERRORS as error:
            raise _translated(error) from error

    def format_info(self, name: str) -> FormatInfo | None:
        """What the engine says about an output format, None if it has none of that name."""
        return self._formats.get(name.lower())

    @functools.cache  # noqa: B019 - there is one engine in a process
    def setting_names(self) -> frozenset[str]:
        """The names of all settings."""
        with contextlib.closing(self.connect()) as connection:
            return frozenset(row[0] for row in connection.rows("SELECT name FROM system.settings"))

    def cancel(self, connection: Connection) -> None:
        """Ask the engine to stop what `connection` is running, if it is running anything."""
        with contextlib.closing(self.connect()) as killer:
            killer.run(f"KILL QUERY WHERE {_runs_on(connection.tag)} ASYNC")

    def running_id(self, tag: str) -> str | None:
        """The id that the engine gave to the query of the connection with `tag`, None if it runs none."""
        with contextlib.closing(self.connect()) as watcher:
            found = watcher.rows(f"SELECT query_id FROM system.processes WHERE {_runs_on(tag)}")  # noqa: S608
        return str(found[0][0]) if found else None

    def cancel_all(self) -> None:
        """Ask the engine to stop every query."""
        with contextlib.closing(self.connect()) as killer:
            killer.run("KILL QUERY WHERE 1 ASYNC")

    def show_query_log(self) -> None:
        """See that there is a `system.query_log`: the engine makes its own when it first writes to it."""
        with self._log_lock:
            if not self._has_query_log:
                with contextlib.closing(self.connect()) as connection:
                    connection.run("SYSTEM FLUSH LOGS")
                    connection.run(querylog.VIEW)
                self._has_query_log = True

    def show_processes(self) -> None:
        """See that there is a view of `system.processes` as clients know it."""
        with self._log_lock:
            if not self._has_processes:
                self._keeper.run(querylog.PROCESSES_VIEW)
                self._has_processes = True

    def close(self) -> None:
        """Close the data directory."""
        self._failed_inserts.close()
        self._keeper.close()


def _runs_on(tag: str) -> str:
    return f"startsWith(Settings['log_comment'], {sql.quote(tag)})"


class Connection:
    """One engine connection. Use it from one thread at a time."""

    def __init__(self, native: Any, tag: str, failed_inserts: FailedInserts) -> None:
        self._native = native
        self._label = self.tag = tag
        self._comment = ""  # what SET made of it
        self._parameters: dict[str, str] = {}
        self.names_rows_as_array = False
        """Whether a statement has named the setting, so that it may be on."""
        self._failed_inserts = failed_inserts

    def query(self, text: bytes, output_format: str, parameters: Mapping[str, str]) -> Any:
        """Run a statement of the client's and return the engine's result object, whole."""
        labelled = self._labelled(text, parameters)
        result = self._query(labelled, output_format, parameters)
        if labelled != text and sql.verb_of(text) == "SET":
            self._label = self.rows("SELECT getSetting('log_comment')")[0][0]
            self._comment = querylog.comment_of(self._label)
        return result

    def _labelled(self, text: bytes, parameters: Mapping[str, str]) -> bytes:
        """A statement that keeps the label: the comment that it sets becomes part of it."""
        if _COMMENT not in text or self._label == self.tag or sql.verb_of(text) not in _COMMENTED:
            return text
        return sql.replace_setting(text, _COMMENT, lambda value: querylog.with_comment(self._label, value, parameters))

    def _query(self, text: bytes, output_format: str, parameters: Mapping[str, str]) -> Any:
        self.names_rows_as_array |= ROWS_AS_ARRAY in text
        try:
            result = self._native.query(text, output_format, params=dict(parameters))
        except ENGINE_ERRORS as error:
            self._discard_output()
            raise _translated(error) from None
        if result.has_error():
            self._discard_output()
            raise from_engine(result.error_message())
        return result

    def _discard_output(self) -> None:
        """Throw away what a failed query had written: the engine (26.9) would begin the next result with it."""
        with contextlib.suppress(*ENGINE_ERRORS):
            self._native.query(_own("SELECT 1"), "Null")

    def stream(self, text: bytes, output_format: str, parameters: Mapping[str, str]) -> ResultStream:
        """Start a SELECT whose result is fetched piece by piece."""
        try:
            return ResultStream(
                self._native,
                self._native.send_query(self._labelled(text, parameters), output_format, params=dict(parameters)),
            )
        except ENGINE_ERRORS as error:
            raise _translated(error) from None

    def insert(self, head: bytes, data_format: str) -> InsertStream:
        """Start an INSERT; `head` is its text up to, and without, the FORMAT clause."""
        seen, since = self._failed_inserts.seen, time.time()

        def check() -> None:
            self._failed_inserts.check(seen, self.tag, since)

        try:
            handle = self._native.send_insert(self._labelled(head, self._parameters), data_format)
        except ENGINE_ERRORS as error:
            self._failed_inserts.note()
            raise _translated(error) from None
        return InsertStream(self._native, handle, check, self._failed_inserts.note)

    def classify(self, text: bytes) -> tuple[int, int]:
        """The class of the most far-reaching statement in `text`, and how many statements it holds."""
        try:
            answer = self._native.classify_query(text)
        except ENGINE_ERRORS as error:
            raise _translated(error) from None
        return answer["query_class"].value, answer["statement_count"]

    def set_parameter(self, name: str, value: str) -> None:
        """Set a query parameter for all later statements."""
        if not name.isidentifier():
            raise ServerError(BAD_ARGUMENTS, f"Bad name of a query parameter: '{name}'")
        self.run(f"SET param_{name} = {sql.quote(value)}")
        self._parameters[name] = value

    def label(self, query_id: str, user: str, sender: querylog.Sender, comment: str) -> None:
        """Say whose query comes next, for the engine's log; see `querylog`."""
        label = querylog.label(self.tag, query_id, user, sender, comment or self._comment)
        if label != self._label:
            self.run(f"SET log_comment = {sql.quote(label)}")
            self._label = label

    def run(self, text: str) -> None:
        """Run a statement of the server's own."""
        self._query(_own(text), "Null", {})

    def run_bytes(self, text: bytes) -> None:
        """Run a statement of the server's own that has a name in it as a client wrote it."""
        self._query(_own("") + text, "Null", {})

    def exists(self, name: bytes) -> bool:
        """Whether a table is there, by its name as a client wrote it."""
        return bool(self._query(_own("") + b"EXISTS TABLE " + name, "TSV", {}).bytes() == b"1\n")

    def rows(self, text: str) -> list[list[Any]]:
        """Run a query of the server's own, and return its rows."""
        lines = self._query(_own(text), "JSONCompactEachRow", {}).bytes().splitlines()
        return [json.loads(line) for line in lines]

    def columns(self, query: bytes, parameters: Mapping[str, str]) -> list[tuple[str, str]] | None:
        """Names and types of what a query gives, without running it; None where the engine cannot know them."""
        # As a plain subquery, its scalar subqueries would be executed for this.
        described = _own("") + b"DESCRIBE TABLE view(%b\n) SETTINGS %b" % (query, _PLAIN_DESCRIPTION)
        try:
            answer = self._query(described, "JSONCompactEachRow", parameters)
        except ServerError:
            return None
        return [(name, kind) for name, kind, *_ in map(json.loads, answer.bytes().splitlines())]

    def settings(self, names: Iterable[str]) -> list[tuple[str, str, bool]]:
        """Name, value and whether it was changed, of the settings among `names` that exist."""
        listed = ", ".join(sql.quote(name) for name in names)
        # The names are quoted: a request's text cannot leave its literal.
        found = self.rows(f"SELECT name, value, changed FROM system.settings WHERE name IN ({listed})")  # noqa: S608
        return [(name, value, bool(changed)) for name, value, changed in found]

    def on_progress(self, callback: Callable[[Mapping[str, int]], None] | None) -> None:
        """Have the engine report, about every 100 ms, how far a query is; with None, not any more."""
        self._native.set_progress_callback(callback)

    def close(self) -> None:
        """Close it, with its temporary tables and settings."""
        self._native.close()


def _own(text: str) -> bytes:
    return (querylog.OWN + text).encode("utf-8", "surrogateescape")


class ResultStream:
    """A running SELECT."""

    def __init__(self, native: Any, handle: Any) -> None:
        self._native, self._handle = native, handle
        self.finished = False

    def fetch(self) -> Any | None:
        """The next piece of the result, or None after the last one (the engine ends with an empty piece)."""
        if self.finished:
            return None
        try:
            piece = self._native.streaming_fetch_result(self._handle)
        except ENGINE_ERRORS as error:
            self.finished = True
            raise _translated(error) from None
        if piece is None:
            self.finished = True
            return None
        if piece.has_error():
            self.finished = True
            raise from_engine(piece.error_message())
        self.finished = piece.rows_read() == 0
        return piece

    def cancel(self) -> None:
        """Stop it; harmless after the end."""
        if not self.finished:
            self.finished = True
            with contextlib.suppress(*ENGINE_ERRORS):
                self._native.streaming_cancel_query(self._handle)


class InsertStream:
    """A running INSERT.

    Args:
        check: raises what it failed with, where the engine reports none.
        note: is called where it reports one.
    """

    def __init__(self, native: Any, handle: Any, check: Callable[[], None], note: Callable[[], None]) -> None:
        self._native, self._handle = native, handle
        self._check, self._note = check, note
        self._open = True

    def append(self, data: bytes) -> None:
        """Hand over more data; waits while the engine has enough to do."""
        try:
            self._native.insert_append(self._handle, data)
        except ENGINE_ERRORS as error:
            # The append only says that the insert broke; why is what finishing it says.
            self._fail(error)

    def finish(self) -> Any:
        """Commit, and return the engine's result object."""
        self._open = False
        try:
            result = self._native.insert_done(self._handle)
        except ENGINE_ERRORS as error:
            self._note()
            raise _translated(error) from None
        if result.has_error():
            self._note()
            raise from_engine(result.error_message())
        self._check()
        return result

    def cancel(self) -> None:
        """Give up without committing; harmless after the end."""
        if self._open:
            self._open = False
            with contextlib.suppress(*ENGINE_ERRORS):
                self._native.insert_cancel(self._handle)

    def _fail(self, error: RuntimeError | UnicodeDecodeError) -> None:
        failure = _translated(error)
        try:
            self.finish()
        except ServerError as cause:
            failure = cause
        raise failure from None
