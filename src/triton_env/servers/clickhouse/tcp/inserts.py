"""What an INSERT expects, and the blocks of a client on their way to the engine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeVar

from .. import sql
from ..compression import FRAME_HEAD, frame_size, open_frame
from ..engine import InsertStream
from ..errors import INCORRECT_DATA, NO_SUCH_COLUMN_IN_TABLE, SYNTAX_ERROR, ClientGoneError, ServerError
from ..execution import Execution
from ..sql import InsertData
from .answers import described, description_rows
from .blocks import Block, Incoming
from .statements import insert_target, name_of
from .wire import PacketError, Source, packet_error

T = TypeVar("T")


class Run(Protocol):
    """Runs a call in a thread."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]:
        """Run it."""
        ...


_SENT: Final = ("", "DEFAULT")
"""The kinds of columns that an INSERT without a list of them fills."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r", "\0": r"\0", "'": r"\'"})


def expected(execution: Execution, text: bytes, insert: InsertData) -> tuple[list[tuple[str, str]], str]:
    """The columns that a client has to send, and those of the table as a client reads them. Blocks.

    Raises:
        ServerError: the table or one of the columns does not exist.
    """
    request, lease = execution.request, execution.lease
    lease.prepare(request.account.guarded(request, text, insert, is_whole=False), "INSERT")
    request.account.check_insert(lease, request, text, insert)
    if insert.structure is not None:
        literal = text[insert.structure.start : insert.structure.end]
        return described(execution, b"DESCRIBE (SELECT * FROM null(" + literal + b"))"), ""
    target = insert_target(text[: insert.head_end])
    if target is None:
        raise ServerError(SYNTAX_ERROR, "Syntax error: an INSERT names no table")
    # Without FUNCTION, after which the engine (26.9) does not take `null(...)`.
    table = description_rows(execution, b"DESCRIBE TABLE " + target.table)
    description = "" if target.is_function else _description(table)
    if target.columns is None:
        return [(name, kind) for name, kind, default, *_ in table if default in _SENT], description
    kinds = {name: kind for name, kind, *_ in table}
    names = [name_of(item) for item in sql.split_list(target.columns.decode("utf-8", "surrogateescape"))]
    if None in names:  # such as (* EXCEPT a)
        ordinary = (f"{sql.identifier(name)} {kind}" for name, kind, default, *_ in table if default in _SENT)
        structure = sql.quote(", ".join(ordinary))
        select = b"SELECT " + target.columns + b" FROM null(" + structure.encode("utf-8", "surrogateescape") + b")"
        return described(execution, b"DESCRIBE (" + select + b")"), description
    return [_column(name or "", kinds, target.table) for name in names], description


def _column(name: str, kinds: Mapping[str, str], table: bytes) -> tuple[str, str]:
    # The name of the table may stand before that of the column.
    for known in (name, name.partition(".")[2]):
        if known in kinds:
            return known, kinds[known]
    raise ServerError(NO_SUCH_COLUMN_IN_TABLE, f"No such column {name} in table {table.decode('utf-8', 'replace')}")


def _description(table: list[list[str]]) -> str:
    """The columns of a table as ClickHouse writes them, src/Storages/ColumnsDescription.cpp."""
    lines = ["columns format version: 1", f"{len(table)} columns:"]
    for name, kind, default, expression, *_ in table:
        line = f"{sql.identifier(name)} {kind.translate(_ESCAPES)}"
        lines.append(f"{line}\t{default}\t{expression.translate(_ESCAPES)}" if default else line)
    return "\n".join([*lines, ""])


class Receiver:
    """Receives the blocks of a client.

    Args:
        run: runs what takes a while in a thread.
        patience: seconds to wait for the next piece.
    """

    def __init__(self, source: Source, revision: int, compressed: bool, run: Run, patience: float) -> None:
        self._source, self._revision, self._compressed = source, revision, compressed
        self._run, self._patience = run, patience

    async def into(self, stream: InsertStream | None) -> Block:
        """Receive one block, and hand it over to the engine, or pass over it.

        Raises:
            PacketError: it is not a block.
            ServerError: the engine does not take it; it was received all the same.
        """
        incoming, failure = Incoming(self._revision), None
        while not incoming.done:
            piece = await self._next()
            try:
                await self._run(functools.partial(_hand_over, stream, incoming, piece))
            except ServerError as error:
                failure, stream = error, None
        self._end(incoming)
        if failure is not None:
            raise failure
        return incoming.block

    async def whole(self, limit: int) -> tuple[Block, bytes]:
        """Receive one block of at most `limit` bytes, as the engine reads it.

        Raises:
            PacketError: it is not a block.
        """
        incoming, parts, size = Incoming(self._revision), [], 0
        while not incoming.done:
            part = await self._run(functools.partial(_followed, incoming, await self._next()))
            parts.append(part)
            size += len(part)
            if size > limit:
                raise packet_error(INCORRECT_DATA, f"A block has more than {limit} bytes")
        self._end(incoming)
        return incoming.block, b"".join(parts)

    async def _next(self) -> bytes:
        async with asyncio.timeout(self._patience):
            if not self._compressed:
                return await self._source.piece()
            head = await self._source.take(FRAME_HEAD)
            try:
                frame = head + await self._source.take(frame_size(head) - FRAME_HEAD)
                return await self._run(functools.partial(open_frame, frame))
            except ClientGoneError:
                raise
            except ServerError as error:
                raise PacketError(error) from None

    def _end(self, incoming: Incoming) -> None:
        rest = incoming.rest()
        if rest and self._compressed:
            raise packet_error(INCORRECT_DATA, "A compressed block has more data than it says")
        if rest:
            self._source.put_back(rest)


def _followed(incoming: Incoming, piece: bytes) -> bytes:
    try:
        return incoming.feed(piece)
    except ServerError as error:
        raise PacketError(error) from None


def _hand_over(stream: InsertStream | None, incoming: Incoming, piece: bytes) -> None:
    data = _followed(incoming, piece)
    if stream is not None and data and incoming.block.columns:
        stream.append(data)
