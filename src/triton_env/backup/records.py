"""A stream of records: each a small header and any number of byte strings. For what is neither SQL nor a file."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

_LENGTH = struct.Struct(">I")


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
    """The records in order.

    Raises:
        EOFError: the stream ends within one.
    """
    while first := stream.read(1):
        header = json.loads(_exactly(stream, _LENGTH.unpack(first + _exactly(stream, 3))[0]))
        count = _length(stream)
        yield Record(header, tuple(_exactly(stream, _length(stream)) for _ in range(count)))


def _length(stream: IO[bytes]) -> int:
    return int(_LENGTH.unpack(_exactly(stream, _LENGTH.size))[0])


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("the records end too early")
    return data
