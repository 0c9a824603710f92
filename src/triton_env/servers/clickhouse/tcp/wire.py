"""Numbers and strings as they go over the connection."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from ..errors import INCORRECT_DATA, ClientGoneError, ServerError

_CHUNK: Final = 1 << 18
_LONGEST_VARINT: Final = 10

UINT32: Final = struct.Struct("<I")
UINT64: Final = struct.Struct("<Q")


def varint(value: int) -> bytes:
    """A number of at least zero, seven bits in each byte."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def string(text: str | bytes) -> bytes:
    """A string after its length."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return varint(len(raw)) + raw


class PacketError(Exception):
    """What a client sends cannot be understood, nor what follows."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(str(error))
        self.error = error


def packet_error(kind: tuple[int, str], message: str) -> PacketError:
    """The same, from what is wrong."""
    return PacketError(ServerError(kind, message))


class Source:
    """What one client sends, in order.

    Its methods raise ClientGoneError where the connection ends.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._data = b""
        self._position = 0

    async def piece(self) -> bytes:
        """Whatever is here or comes next, at least one byte."""
        if self._position < len(self._data):
            piece = self._data[self._position :]
            self._data, self._position = b"", 0
            return piece
        piece = await self._reader.read(_CHUNK)
        if not piece:
            raise ClientGoneError
        return piece

    def put_back(self, data: bytes) -> None:
        """Return the end of the last piece."""
        assert self._position == len(self._data)
        self._data, self._position = data, 0

    async def peek(self) -> int | None:
        """The next byte, which stays where it is; None at the end."""
        if self._position == len(self._data):
            self._data, self._position = await self._reader.read(_CHUNK), 0
        return self._data[self._position] if self._data else None

    async def byte(self) -> int:
        """One byte."""
        if self._position == len(self._data):
            self._data, self._position = await self.piece(), 0
        self._position += 1
        return self._data[self._position - 1]

    async def take(self, count: int) -> bytes:
        """So many bytes."""
        parts = []
        while count > 0:
            piece = await self.piece()
            if len(piece) > count:
                self.put_back(piece[count:])
                piece = piece[:count]
            parts.append(piece)
            count -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def varint(self) -> int:
        """A number of at least zero."""
        value = 0
        for place in range(_LONGEST_VARINT):
            byte = await self.byte()
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise packet_error(INCORRECT_DATA, "A number in a packet is too long")

    async def raw(self, limit: int) -> bytes:
        """A string of at most `limit` bytes.

        Raises:
            PacketError: it is longer.
        """
        length = await self.varint()
        if length > limit:
            raise packet_error(INCORRECT_DATA, f"A string in a packet has {length} bytes, of which {limit} are allowed")
        return await self.take(length)

    async def string(self, limit: int = 1 << 16) -> str:
        """A string of at most `limit` bytes, as text."""
        return (await self.raw(limit)).decode("utf-8", "surrogateescape")
