"""What clients send before data, and what the server answers.

Source: ClickHouse, src/Core/Protocol.h, src/Interpreters/ClientInfo.cpp, src/Core/BaseSettings.h and
src/Server/TCPHandler.cpp. What a revision added is read or written from that revision on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ..errors import BAD_ARGUMENTS, INCORRECT_DATA, NOT_IMPLEMENTED, ServerError
from .statements import unescaped
from .wire import UINT32, Source, packet_error, string, varint

REVISION: Final = 54460
OLDEST: Final = 54429
"""Settings are text from here on (version 20.1); before, each had the form of its type."""

_INTERSERVER_SECRET: Final = 54441
_OPENTELEMETRY: Final = 54442
_FORWARDED_FOR: Final = 54443
_REFERER: Final = 54447
_DISTRIBUTED_DEPTH: Final = 54448
_START_TIME: Final = 54449
_PARALLEL_REPLICAS: Final = 54453
PROFILE_EVENTS_IN_INSERT: Final = 54456
ADDENDUM: Final = 54458
_PARAMETERS: Final = 54459
_QUERY_TIME: Final = 54460

_COMPLETE: Final = 2
_MOST_SETTINGS: Final = 10_000
_IMPORTANT, _CUSTOM = 1, 2
_OVER_TCP, _OVER_HTTP = 1, 2
_TRACE: Final = 16 + 8


class Client(IntEnum):
    """What a packet of a client is."""

    HELLO = 0
    QUERY = 1
    DATA = 2
    CANCEL = 3
    PING = 4
    TABLES_STATUS = 5
    KEEP_ALIVE = 6
    SCALAR = 7


class Server(IntEnum):
    """What a packet of the server is."""

    HELLO = 0
    DATA = 1
    EXCEPTION = 2
    PROGRESS = 3
    PONG = 4
    END_OF_STREAM = 5
    PROFILE_INFO = 6
    TOTALS = 7
    EXTREMES = 8
    TABLES_STATUS = 9
    TABLE_COLUMNS = 11
    PROFILE_EVENTS = 14


@dataclass(frozen=True, slots=True)
class Hello:
    """How a client introduces itself."""

    name: str
    revision: int
    database: str
    user: str
    password: str = field(repr=False)


async def read_hello(source: Source) -> Hello:
    """What comes after the type of the first packet."""
    name = await source.string()
    await source.varint()
    await source.varint()
    revision = await source.varint()
    return Hello(name, revision, await source.string(), await source.string(), await source.string())


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for.

    Attributes:
        optional: names of the settings that may be unknown here.
        compressed: whether blocks are compressed, both ways.
    """

    query_id: str
    client_name: str
    settings: Mapping[str, str]
    optional: frozenset[str]
    compressed: bool
    text: bytes = field(repr=False)
    parameters: Mapping[str, str]


async def read_query(source: Source, revision: int, limit: int) -> Query:
    """What comes after the type of the packet; the statement may have `limit` bytes."""
    query_id = await source.string()
    client_name = await _client_name(source, revision)
    settings, optional = await _read_settings(source, limit)
    if revision >= _INTERSERVER_SECRET and await source.raw(1 << 10):
        raise packet_error(NOT_IMPLEMENTED, "Queries of a cluster with a secret are not answered")
    stage = await source.varint()
    compressed = await source.varint() != 0
    text = await source.raw(limit)
    parameters: dict[str, str] = {}
    if revision >= _PARAMETERS:
        parameters, _ = await _read_settings(source, limit)
    if stage != _COMPLETE:
        raise packet_error(NOT_IMPLEMENTED, "Queries are answered as a whole, not up to a stage of a distributed one")
    return Query(query_id, client_name, settings, optional, compressed, text, parameters)


async def _client_name(source: Source, revision: int) -> str:
    """Pass what the client says about itself, and return its name: nothing else matters here."""
    name = ""
    if await source.byte() == 0:  # no query, no more
        return name
    for _ in range(3):  # the first user, query and address
        await source.raw(1 << 16)
    if revision >= _START_TIME:
        await source.take(8)
    interface = await source.byte()
    if interface == _OVER_HTTP:
        await source.byte()
        await source.raw(1 << 16)
        for since in (_FORWARDED_FOR, _REFERER):
            if revision >= since:
                await source.raw(1 << 16)
    elif interface == _OVER_TCP:
        for _ in range(2):  # the user of the system, the host
            await source.raw(1 << 16)
        name = await source.string()
        for _ in range(3):  # its version and revision
            await source.varint()
    await source.raw(1 << 16)  # the key of the quota
    if revision >= _DISTRIBUTED_DEPTH:
        await source.varint()
    if interface == _OVER_TCP:
        await source.varint()
    if revision >= _OPENTELEMETRY and await source.byte():
        await source.take(_TRACE)
        await source.raw(1 << 16)
        await source.byte()
    if revision >= _PARALLEL_REPLICAS:
        for _ in range(3):
            await source.varint()
    return name


async def _read_settings(source: Source, limit: int) -> tuple[dict[str, str], frozenset[str]]:
    settings: dict[str, str] = {}
    optional = set()
    while name := await source.string():
        flags = await source.varint()
        value = await source.string(limit)
        if len(settings) == _MOST_SETTINGS:
            raise packet_error(INCORRECT_DATA, f"A query has more than {_MOST_SETTINGS} settings")
        # A custom one is written as the engine's literals are.
        settings[name] = _unquoted(value) if flags & _CUSTOM else value
        if not flags & _IMPORTANT:
            optional.add(name)
    return settings, frozenset(optional)


def _unquoted(value: str) -> str:
    """A value that is written as a literal; see Field::dump in ClickHouse, src/Core/Field.cpp."""
    if not value.startswith("'"):
        # What is not a string has its type before it: UInt64_5, Array_[1, 2].
        return re.sub(r"^[A-Z]\w*?_(?=.)", "", value)
    if len(value) < 2 or not value.endswith("'"):
        raise packet_error(BAD_ARGUMENTS, "The value of a query parameter has no closing quote")
    return unescaped(value[1:-1])


def hello(version: str, timezone: str, display_name: str) -> bytes:
    """The answer to a client's introduction."""
    major, minor, patch = (int(part) for part in [*version.split("."), "0", "0"][:3])
    parts = [bytes([Server.HELLO]), string("ClickHouse"), varint(major), varint(minor), varint(REVISION)]
    return b"".join([*parts, string(timezone), string(display_name), varint(patch)])


def exception(error: ServerError) -> bytes:
    """An error, which ends a query."""
    name, message = string("DB::Exception"), string(f"DB::Exception: {error.message}")
    return bytes([Server.EXCEPTION]) + UINT32.pack(error.code) + name + message + string("") + b"\x00"


@dataclass(slots=True)
class Progress:
    """How far a query is; rows and bytes, time in nanoseconds."""

    read_rows: int = 0
    read_bytes: int = 0
    total_rows: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed: int = 0

    def since(self, sent: Progress) -> Progress:
        """What was added after `sent`, as packets have it."""
        return Progress(
            max(0, self.read_rows - sent.read_rows),
            max(0, self.read_bytes - sent.read_bytes),
            max(0, self.total_rows - sent.total_rows),
            max(0, self.written_rows - sent.written_rows),
            max(0, self.written_bytes - sent.written_bytes),
            max(0, self.elapsed - sent.elapsed),
        )

    def packet(self, revision: int) -> bytes:
        """The packet."""
        values = [self.read_rows, self.read_bytes, self.total_rows, self.written_rows, self.written_bytes]
        if revision >= _QUERY_TIME:
            values.append(self.elapsed)
        return bytes([Server.PROGRESS]) + b"".join(map(varint, values))


def profile_info(rows: int, blocks: int, size: int, before_limit: int | None) -> bytes:
    """What a result was, `size` in bytes, and how many rows there were `before_limit`, None where that is not known."""
    limit = varint(before_limit or 0) + bytes([before_limit is not None])
    return bytes([Server.PROFILE_INFO]) + varint(rows) + varint(blocks) + varint(size) + b"\x00" + limit


def table_columns(description: str) -> bytes:
    """The columns of the table of an INSERT, with their defaults."""
    return bytes([Server.TABLE_COLUMNS]) + string("") + string(description)


def tables_status(tables: list[tuple[str, str]]) -> bytes:
    """Which of the tables that a client asked about exist; none of them is replicated."""
    each = (string(database) + string(table) + b"\x00" for database, table in tables)
    return bytes([Server.TABLES_STATUS]) + varint(len(tables)) + b"".join(each)
