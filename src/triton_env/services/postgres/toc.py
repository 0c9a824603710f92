"""The table of contents of an archive of pg_dump (its custom format), read and written without pg_restore.

pg_restore sends the statements in it to the server as they are. So what goes to it is chosen here, entry by entry.
Formats 1.12 (PostgreSQL 9.0) to 1.16 (18) are known; they differ in three fields.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from triton_env.archive.sealing import CHUNK

_MAGIC = b"PGDMP"
_CUSTOM = 1
_KNOWN = range(12, 17)
_ALGORITHM = 15
"""From this minor version on, one byte names the compression; before, a number was its level."""
_TABLE_AM = 14
_RELKIND = 16
_LIMIT = 128 << 20
"""Bytes of a table of contents."""
_ENTRIES = 500_000


class NotAnArchive(Exception):
    """Not an archive of pg_dump that is known here; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        description: its kind ("TABLE", "ACL").
        tag: its name, for functions with the types of their arguments.
        namespace: its schema; empty where it is in none.
        owner: the role that owns it; empty where that is not said.
        definition: the statements that make it.
        raw: all of it, as it stands in the file.
    """

    description: str
    tag: str
    namespace: str
    owner: str
    definition: str
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Contents:
    """A table of contents: what stands before it, and its entries."""

    head: bytes
    int_size: int
    entries: tuple[Entry, ...]

    def only(self, entries: Iterable[Entry]) -> bytes:
        """The beginning of an archive that has these entries and no others."""
        kept = [entry.raw for entry in entries]
        count = b"\0" + len(kept).to_bytes(self.int_size, "little")
        return b"".join((self.head, count, *kept))


def read(stream: IO[bytes], encoding: str) -> Contents:
    """Read the table of contents; `stream` stands at the data then.

    Args:
        encoding: that of the database, in which pg_dump writes.

    Raises:
        NotAnArchive: it is something else, damaged, compressed, or of an unknown version.
    """
    reader = _Reader(stream, _codec(encoding))
    if reader.take(5) != _MAGIC:
        raise NotAnArchive("it does not begin like one")
    major, minor, _, reader.int_size, reader.offset_size, form = reader.take(6)
    if major != 1 or minor not in _KNOWN or form != _CUSTOM:
        raise NotAnArchive(f"it has the version {major}.{minor} and the format {form}")
    if reader.int_size not in (4, 8) or reader.offset_size not in (4, 8):
        raise NotAnArchive("its numbers have an unknown size")
    compressed = reader.take(1)[0] if minor >= _ALGORITHM else reader.number()
    if compressed != 0:
        raise NotAnArchive("it is compressed, which those in a backup are not")
    for _ in range(7):
        reader.number()  # when it was made
    for _ in range(3):
        reader.text()  # the database, and the versions of server and pg_dump
    head = reader.so_far()
    count = reader.number()
    if not 0 <= count <= _ENTRIES:
        raise NotAnArchive(f"it has {count} entries")
    reader.so_far()
    return Contents(head, reader.int_size, tuple(_entry(reader, minor) for _ in range(count)))


def restream(beginning: bytes, rest: IO[bytes]) -> Iterator[bytes]:
    """An archive in pieces: another beginning, and the data as it is."""
    yield beginning
    while data := rest.read(CHUNK):
        yield data


def _entry(reader: "_Reader", minor: int) -> Entry:
    reader.number()  # its id
    reader.number()  # whether there is data
    for _ in range(2):
        reader.text()  # the ids in the catalog
    tag, description = reader.text(), reader.text()
    reader.number()  # its section
    definition = reader.text()
    for _ in range(2):
        reader.text()  # how to drop it, how to copy its data
    namespace = reader.text()
    reader.text()  # the tablespace
    if minor >= _TABLE_AM:
        reader.text()
    if minor >= _RELKIND:
        reader.number()
    owner = reader.text()
    reader.text()  # whether it has OIDs
    while reader.text() is not None:
        pass  # what it depends on
    reader.take(1 + reader.offset_size)  # where its data is
    return Entry(description or "", tag or "", namespace or "", owner or "", definition or "", reader.so_far())


class _Reader:
    """Reads numbers and texts, and keeps the bytes that they were."""

    def __init__(self, stream: IO[bytes], codec: str) -> None:
        self._stream = stream
        self._codec = codec
        self._kept: list[bytes] = []
        self._total = 0
        self.int_size = 4
        self.offset_size = 8

    def so_far(self) -> bytes:
        """What was read since the last call."""
        kept = b"".join(self._kept)
        self._kept.clear()
        return kept

    def take(self, count: int) -> bytes:
        self._total += count
        if self._total > _LIMIT:
            raise NotAnArchive(f"its table of contents is longer than {_LIMIT:,} bytes")
        data = self._stream.read(count)
        if len(data) != count:
            raise NotAnArchive("it ends too early")
        self._kept.append(data)
        return data

    def number(self) -> int:
        data = self.take(1 + self.int_size)
        value = int.from_bytes(data[1:], "little")
        return -value if data[0] else value

    def text(self) -> str | None:
        length = self.number()
        if length < 0:
            return None
        return self.take(length).decode(self._codec, errors="surrogateescape")


def _codec(encoding: str) -> str:
    try:
        return codecs.lookup(encoding.replace("WIN", "cp")).name
    except LookupError:
        return "utf-8"
