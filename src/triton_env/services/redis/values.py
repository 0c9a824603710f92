"""The value of a key, as far as it can be shown."""

from collections.abc import Mapping
from typing import Any

from triton_env.services.base_insight import PREVIEW, ROWS, Column, Row, Table, cut, room, table_of
from triton_env.services.redis.connection import Connection

_ROOM = 16 * 1024 * 1024
"""Bytes of elements that are asked for at most, by what an element has on average."""
_FEWEST = 10
"""Elements that are asked for in any case."""
_LENGTHS: Mapping[str, str] = {
    "string": "STRLEN",
    "list": "LLEN",
    "set": "SCARD",
    "zset": "ZCARD",
    "hash": "HLEN",
    "stream": "XLEN",
}
_ELEMENTS: Mapping[str, str] = {
    "list": "Elements",
    "set": "Members",
    "zset": "Members",
    "hash": "Fields",
    "stream": "Entries",
}


def value_table(connection: Connection, key: bytes) -> Table:
    """A value in rows: one for a string, else one for each of its first elements.

    Of a stream, the last entries are shown, the newest first.
    """
    # Where the server can, this leaves alone what it knows of the last use of a key.
    connection.try_all([("CLIENT", "NO-TOUCH", "ON")])
    kind = connection.ask("TYPE", key).decode()
    if kind == "none":
        return table_of((Column("value", "code"),), ())
    if kind not in _LENGTHS:
        return table_of((Column("value", "code"),), (), f"A value of the type {kind}, which is not shown.")
    length = connection.ask(_LENGTHS[kind], key)
    if kind == "string":
        text = readable_value(connection.ask("GETRANGE", key, 0, PREVIEW - 1))
        note = f"A string of {length} bytes" + (
            f", of which the first {PREVIEW} are shown." if length > PREVIEW else "."
        )
        return table_of((Column("value", "code"),), (Row((text,)),), note, is_cut=length > PREVIEW)
    (memory,) = connection.try_all([("MEMORY", "USAGE", key)])
    average = max(1, (memory or 0) // max(1, length))
    count = max(_FEWEST, min(ROWS, _ROOM // average))
    headings, found = _elements(connection, kind, key, count)
    columns = tuple(Column(heading, "code" if heading == "value" else "text") for heading in headings)
    rows = [Row(tuple(cut(readable_value(cell), room(len(columns))) for cell in cells)) for cells in found[:count]]
    return table_of(columns, rows, f"{_ELEMENTS[kind]}: {length}.", is_cut=length > len(rows))


def readable_value(value: bytes) -> str:
    """A value as text; bytes that are not UTF-8 are `\\xff`."""
    return value.decode(errors="backslashreplace")


def _elements(connection: Connection, kind: str, key: bytes, count: int) -> tuple[tuple[str, ...], list[Any]]:
    """The headings, and the first elements."""
    match kind:
        case "list":
            return ("value",), [(each,) for each in connection.ask("LRANGE", key, 0, count - 1)]
        case "set":
            return ("value",), [(each,) for each in _scanned(connection, "SSCAN", key, count)]
        case "zset":
            return ("score", "value"), [
                (score, member) for member, score in _pairs(connection.ask("ZRANGE", key, 0, count - 1, "WITHSCORES"))
            ]
        case "hash":
            return ("field", "value"), _pairs(_scanned(connection, "HSCAN", key, count, width=2))
        case _:
            entries = connection.ask("XREVRANGE", key, "+", "-", "COUNT", count)
            return ("id", "value"), [
                (id_, b"\n".join(name + b": " + value for name, value in _pairs(fields or [])))
                for id_, fields in entries
            ]


def _scanned(connection: Connection, command: str, key: bytes, count: int, width: int = 1) -> list[bytes]:
    """The first elements, of which each is so many values."""
    found: list[bytes] = []
    for some in connection.scan(command, key, count=count):
        found += some
        if len(found) >= count * width:
            break
    return found


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
