"""The format Native as a client of a certain protocol version reads it.

The engine writes Native for the oldest clients: without what newer ones expect before a block and before a column, and
without the time zone of a DateTime, which is then lost without a word. What a newer client gets is put together here,
from the columns as the engine writes them in its format Buffers, and from their names and types.

Sources: ClickHouse, src/Formats/NativeWriter.cpp, src/Core/BlockInfo.h and src/Core/ProtocolDefines.h; documentation,
formats Native and Buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

_CUSTOM_SERIALIZATION: Final = 54454
"""From this version on, a byte says of each column whether it is written in its usual form."""
_OUT_OF_ORDER_BUCKETS: Final = 54480
"""From this version on, the block's information has a third field."""
_HEAD, _SIZE = struct.Struct("<QQ"), struct.Struct("<Q")
_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff"
"""Field 1, whether these are rows beyond a limit: no. Field 2, the bucket of a distributed GROUP BY: none."""
_NO_BUCKETS: Final = b"\x03\x00"


class NativeBlocks:
    """Makes Native out of Buffers, piece by piece."""

    def __init__(self, columns: Sequence[tuple[str, str]], version: int) -> None:
        """`columns` are pairs of name and type, `version` is that of the client's protocol."""
        self.columns = columns
        self._information = _INFO + (_NO_BUCKETS if version >= _OUT_OF_ORDER_BUCKETS else b"") + b"\x00"
        usual = b"\x00" if version >= _CUSTOM_SERIALIZATION else b""
        self._heads = [_string(name) + _string(kind) + usual for name, kind in columns]
        self._rest = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> bytes:
        """What `data` adds: the blocks that are complete by now."""
        return b"".join(block for _, block in self.blocks(data))

    def head(self) -> bytes:
        """A block without rows."""
        return b"".join([self._information, _number(len(self._heads)), _number(0), *self._heads])

    def blocks(self, data: bytes) -> list[tuple[int, bytes]]:
        """What `data` adds: rows and bytes of each block that is complete by now."""
        self._rest += data
        made: list[tuple[int, bytes]] = []
        position = 0
        with memoryview(self._rest) as view:
            while self._wanted <= len(view) - position and (end := self._block(view, position, made)):
                position = end
        del self._rest[:position]
        return made

    def _block(self, view: memoryview, start: int, made: list[tuple[int, bytes]]) -> int:
        """Take one block, and return where it ends; 0 where it is not complete.

        It is a number of columns, a number of rows, and for each column a number of bytes, and these.
        """
        parts: list[bytes | memoryview] = []
        position = start + _HEAD.size
        self._wanted = position - start
        if len(view) < position:
            return 0
        columns, rows = _HEAD.unpack_from(view, start)
        if columns != len(self._heads):
            raise ValueError(f"a block has {columns} columns instead of {len(self._heads)}")
        for name_and_type in self._heads:
            self._wanted = position + _SIZE.size - start
            if self._wanted > len(view) - start:
                return 0
            (size,) = _SIZE.unpack_from(view, position)
            position += _SIZE.size
            self._wanted = position + size - start
            if self._wanted > len(view) - start:
                return 0
            parts += [name_and_type, view[position : position + size]]
            position += size
        made.append((rows, b"".join([self._information, _number(columns), _number(rows), *parts])))
        parts.clear()
        self._wanted = 0
        return position


def names_and_types(rows: bytes) -> tuple[list[tuple[str, str]], int]:
    """The columns that data in the format RowBinaryWithNamesAndTypes has, and where its rows begin."""
    count, position = _read_number(rows, 0)
    words = []
    for _ in range(2 * count):
        size, position = _read_number(rows, position)
        words.append(rows[position : position + size].decode("utf-8", "surrogateescape"))
        position += size
    return list(zip(words[:count], words[count:], strict=True)), position


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _number(value: int) -> bytes:
    """As ClickHouse writes a variable-length number (LEB128)."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return _number(len(encoded)) + encoded
