"""Blocks of clients as the engine reads them.

It reads them without what was added for clients of the protocol: the block's info before it, and since revision 54454
a byte in each column, which says whether that is written in a way of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ..errors import INCORRECT_DATA, NOT_IMPLEMENTED, ServerError
from .kinds import Cursor, Walk, kind_of

CUSTOM_SERIALIZATION: Final = 54454
"""The first revision in which a column says how it is written."""
_MOST_COLUMNS: Final = 1_000_000
_MOST_ROWS: Final = 1_000_000_000_000


@dataclass(slots=True)
class Block:
    """What a block says about itself."""

    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: int = 0


class Incoming:
    """Follows one block from a client to its end, and makes it one for the engine."""

    def __init__(self, revision: int) -> None:
        self._cursor = Cursor()
        self.block = Block()
        self._walk = self._follow(revision >= CUSTOM_SERIALIZATION)
        self.done = not self._go_on()

    def feed(self, data: bytes) -> bytes:
        """Take more of the block; returns that for the engine.

        Raises:
            ServerError: this cannot be a block.
        """
        self._cursor.feed(data)
        self.done = not self._go_on()
        return self._cursor.copies()

    def rest(self) -> bytes:
        """What came after the end of the block."""
        return self._cursor.rest()

    def _go_on(self) -> bool:
        try:
            next(self._walk)
        except StopIteration:
            return False
        return True

    def _follow(self, has_own_ways: bool) -> Walk[None]:
        cursor, block = self._cursor, self.block
        yield from _drop_info(cursor)
        count, block.rows = yield from _size(cursor)
        for _ in range(count):
            name = yield from cursor.text()
            kind = yield from cursor.text()
            block.columns.append((name, kind))
            if has_own_ways and (yield from cursor.drop(1)) != b"\x00":
                raise ServerError(NOT_IMPLEMENTED, f"Column {name} is written in a way of its own (sparse)")
            yield from _follow_data(cursor, kind, block.rows)
        # What the place is ahead of has to come before the block is whole.
        yield from cursor.need(0)


def _size(cursor: Cursor) -> Walk[tuple[int, int]]:
    columns = yield from cursor.varint()
    rows = yield from cursor.varint()
    if columns > _MOST_COLUMNS or rows > _MOST_ROWS:
        raise ServerError(INCORRECT_DATA, f"A block has {columns} columns and {rows} rows")
    return columns, rows


def _follow_data(cursor: Cursor, kind: str, rows: int) -> Walk[None]:
    # Without rows a column has no data, not even what else comes before it.
    if rows:
        data = yield from kind_of(kind).prefix(cursor)
        yield from data.data(cursor, rows)


def _drop_info(cursor: Cursor) -> Walk[None]:
    while (field_number := (yield from cursor.drop(1))[0]) != 0:
        if field_number not in _INFO_WIDTHS:
            raise ServerError(INCORRECT_DATA, f"A block has the field {field_number} before it, which is not known")
        yield from cursor.drop(_INFO_WIDTHS[field_number])


_INFO_WIDTHS: Final = {1: 1, 2: 4}
