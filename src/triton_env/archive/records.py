"""A stream of records: each a small header and any number of byte strings. For what is neither SQL nor a file."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

_LENGTH = struct.Struct(">I")
_HEADER_BYTES = 16 << 20
_PART_BYTES = 512 << 20
"""The longest value that any server takes, and far more than any other part."""
_PARTS = 2_000_000
"""More than a value has that is saved in one piece, which takes less than a megabyte in a server."""
_PIECE = 1 << 20


class Writable(Protocol):
    """Where records go."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        header: data that JSON can hold.
        parts: byte strings, of less than 4 GiB each.
    """

    header: dict[str, Any]
    parts: tuple[bytes, ...] = ()


def write_record(stream: Writable, record: Record) -> None:
    """Append a record."""
    header = json.dumps(record.header, separators=(",", ":")).encode()
    pieces = [_LENGTH.pack(len(header)), header, _LENGTH.pack(len(record.parts))]
    for part in record.parts:
        pieces += (_LENGTH.pack(len(part)), part)
    stream.write(b"".join(pieces))


def read_records(stream: IO[bytes]) -> Iterator[Record]:
    """The records in order. No more is held in memory than the stream really has.

    Raises:
        EOFError: the stream ends within one.
        ValueError: it is not a stream of records.
    """
    while first := stream.read(1):
        header = _header(_exactly(stream, _bounded(_LENGTH.unpack(first + _exactly(stream, 3))[0], _HEADER_BYTES)))
        count = _length(stream)
        if count > _PARTS:
            raise ValueError(f"a record has {count:,} parts")
        yield Record(header, tuple(_exactly(stream, _bounded(_length(stream), _PART_BYTES)) for _ in range(count)))


def _header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except RecursionError as error:
        raise ValueError("the header of a record is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("the header of a record is not an object")
    return header


def _bounded(length: int, limit: int) -> int:
    if length > limit:
        raise ValueError(f"a record has a part of {length:,} bytes")
    return length


def _length(stream: IO[bytes]) -> int:
    return int(_LENGTH.unpack(_exactly(stream, _LENGTH.size))[0])


def _exactly(stream: IO[bytes], count: int) -> bytes:
    # In pieces: a reader reserves the memory for what it is asked for, whatever there is.
    pieces = []
    while count > 0:
        piece = stream.read(min(count, _PIECE))
        if not piece:
            raise EOFError("the records end too early")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
