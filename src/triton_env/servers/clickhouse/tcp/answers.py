"""From a result of the engine to packets. Everything here blocks: call it from a worker thread."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .. import sql
from ..compression import FrameEncoder
from ..execution import SELECTS, Answer, Execution
from ..native import NativeBlocks
from ..output import Output
from ..sql import Statement
from . import packets
from .packets import Progress, Server
from .statements import has_totals, unescaped
from .wire import string

_TOTALS_TABLE: Final = "_native_totals"
_TEXT: Final = "TabSeparatedWithNamesAndTypes"
_ROWS_OF_TEXT: Final = "TabSeparatedWithNames"

Report = Callable[[Mapping[str, int]], None]
Send = Callable[[bytes], None]


class Sender:
    """Makes the packets of blocks for one query."""

    def __init__(self, revision: int, compressed: bool, settings: Mapping[str, str]) -> None:
        self.revision = revision
        method = settings.get("network_compression_method", "LZ4")
        self._encoder = FrameEncoder(method) if compressed else None

    def packet(self, kind: Server, block: bytes) -> bytes:
        """A packet of a block."""
        if self._encoder is not None:
            block = self._encoder.feed(block)
        return bytes([kind]) + string("") + block

    def head(self, columns: Sequence[tuple[str, str]]) -> bytes:
        """A packet of a block that has columns, and no rows."""
        return self.packet(Server.DATA, NativeBlocks(columns, self.revision).head())


class Result(Output):
    """The result of one statement, which is sent as the engine writes it.

    Args:
        send: sends packets, and returns when there is room for more.
        report: takes the engine's reports of how far the statement is, in threads of the engine.
    """

    def __init__(self, execution: Execution, sender: Sender, send: Send, report: Report) -> None:
        # Nothing waits here, as in another Output: `write` sends.
        self._execution, self._sender, self._send, self._report = execution, sender, send, report
        self._answer = Answer(self)
        self._native: NativeBlocks | None = None
        self._rows = self._blocks = self._size = 0

    def run(self, text: bytes, statement: Statement, names_extremes: bool) -> bytes:
        """Run the statement; returns the packets that come after the rows.

        Args:
            names_extremes: whether anything that the client sent up to now may have set `extremes`.
        """
        connection = self._execution.lease.connection
        # Before the reports: what brings the connection into its state is not the client's.
        self._execution.lease.prepare(self._execution.request, statement.verb)
        connection.on_progress(functools.partial(self._reported, statement.verb in SELECTS))
        last = b""
        try:
            if (
                statement.verb in SELECTS
                and statement.format != "Null"
                and (has_totals(text) or (names_extremes and self._has_extremes(text)))
            ):
                last = self._with_totals(text, statement)
            else:
                if statement.format not in (None, "Null"):
                    # Over the native protocol the client formats.
                    text = sql.without_format(text, statement)
                    statement = sql.examine(text)
                self._execution.run(text, statement, self._answer)
                self._send_blocks(self._answer.whole)
        finally:
            connection.on_progress(None)
        if self._native is not None:
            # How many rows there were before a LIMIT, the engine does not say.
            before_limit = None if b"limit" in text.lower() else self._rows
            last += packets.profile_info(self._rows, self._blocks, self._size, before_limit)
        return last

    def _reported(self, is_query: bool, progress: Mapping[str, int]) -> None:
        # First the engine is asked for the columns of a query.
        if not is_query or self._answer.native is not None or self._answer.output is None:
            self._report(progress)

    def begin(self) -> None:
        """Send the columns, for which clients wait before they return to who asks: the rows may take their time."""
        self._send_blocks(b"")

    def write(self, data: bytes) -> None:
        """Send what the engine writes while the statement runs."""
        self._send_blocks(data)

    def progress(self) -> Progress:
        """What the statement has done."""
        done = self._answer.counters
        # As many rows were to be read as were read, where the engine did not report in between.
        return Progress(done.read_rows, done.read_bytes, done.read_rows, done.written_rows, done.written_bytes)

    def end_of_data(self) -> bytes:
        """What comes after a result."""
        return b"" if self._native is None else self._sender.packet(Server.DATA, NativeBlocks((), 0).head())

    def _send_blocks(self, data: bytes) -> None:
        if self._answer.native is None:
            return
        if self._native is None:
            self._native = self._answer.native
            self._send(self._sender.head(self._native.columns))
        for rows, block in self._native.blocks(data):
            if rows:
                self._rows, self._blocks, self._size = self._rows + rows, self._blocks + 1, self._size + len(block)
                self._send(self._sender.packet(Server.DATA, block))

    def _has_extremes(self, text: bytes) -> bool:
        """Whether the smallest and the largest value of each column are wanted; rather too often than never."""
        if sql.value_of(text, b"extremes") is not None:
            return True
        return bool(self._execution.lease.connection.rows("SELECT getSetting('extremes')")[0][0])

    def _with_totals(self, text: bytes, statement: Statement) -> bytes:
        """The engine leaves totals and extremes out of Native: what it writes as text goes through a table."""
        text = b"%b\nFORMAT %b" % (sql.without_format(text, statement), _TEXT.encode())
        answer = self._answer = Answer()
        self._execution.run(text, sql.examine(text), answer)
        lines, rows = answer.whole.split(b"\n")[:-1], answer.counters.result_rows
        # Without rows the engine (26.9) writes the names and types last. After the rows come the totals, then two lines
        # with extremes, an empty one before each of these parts: so the number of lines says which of them there are.
        head, lines = (lines[:2], lines[2:]) if rows else (lines[-2:], lines[:-2])
        names, kinds = ([unescaped(word) for word in _decoded(line).split("\t")] for line in head)
        columns = list(zip(names, kinds, strict=True))
        answer.native = NativeBlocks(columns, self._sender.revision)
        self._send_blocks(self._buffers(columns, lines[:rows]))
        rest = lines[rows:]
        totals = rest[1:2] if len(rest) in (2, 5) else []
        extremes = rest[-2:] if len(rest) in (3, 5) else []
        return self._packets(Server.TOTALS, columns, totals) + self._packets(Server.EXTREMES, columns, extremes)

    def _packets(self, kind: Server, columns: Sequence[tuple[str, str]], lines: Sequence[bytes]) -> bytes:
        blocks = NativeBlocks(columns, self._sender.revision).blocks(self._buffers(columns, lines))
        return b"".join(self._sender.packet(kind, block) for _, block in blocks)

    def _buffers(self, columns: Sequence[tuple[str, str]], lines: Sequence[bytes]) -> bytes:
        if not lines:
            return b""
        execution = self._execution
        # Names of a result may be the same twice, those of a table may not.
        names = [f"c{number}" for number in range(len(columns))]
        structure = ", ".join(f"{name} {kind}" for name, (_, kind) in zip(names, columns, strict=True))
        execution.create_table(_TOTALS_TABLE, sql.quote(structure))
        try:
            stream = execution.fill_table(_TOTALS_TABLE, _ROWS_OF_TEXT)
            stream.append(b"\n".join(["\t".join(names).encode(), *lines, b""]))
            stream.finish()
            # With more threads, the order of the rows would be lost.
            select = f"SELECT * FROM {_TOTALS_TABLE} SETTINGS max_threads = 1".encode()  # noqa: S608
            return bytes(execution.lease.connection.query(select, "Buffers", {}).bytes())
        finally:
            execution.drop_table(_TOTALS_TABLE)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def described(execution: Execution, text: bytes) -> list[tuple[str, str]]:
    """Names and types of the columns that a DESCRIBE answers with."""
    return [(row[0], row[1]) for row in description_rows(execution, text)]


def description_rows(execution: Execution, text: bytes) -> list[list[str]]:
    """What a DESCRIBE answers with: name, type, kind of default, its expression, and more."""
    text += b" SETTINGS print_pretty_type_names = 0, describe_compact_output = 0, describe_include_subcolumns = 0"
    parameters = execution.request.query_parameters
    lines = bytes(execution.lease.connection.query(text, "JSONCompactEachRow", parameters).bytes()).splitlines()
    return [json.loads(line) for line in lines]
