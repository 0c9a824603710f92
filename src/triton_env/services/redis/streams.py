"""Redis streams: entries, and who has read how far."""

from collections.abc import Iterator
from typing import Any

from triton_env.archive.records import Record
from triton_env.services.redis.connection import KEYS, Command, Connection

_FIRST = b"-"
_BEHIND_ALL = b"(18446744073709551615-18446744073709551615"
"""The start behind the last possible entry, which a server refuses."""
_COUNTERS = {b"last-generated-id": "last", b"max-deleted-entry-id": "deleted", b"entries-added": "added"}


def stream_records(connection: Connection, key: bytes, notes: list[str]) -> Iterator[Record]:
    """The records of one stream: `stream`, then `entry`, `group`, `consumer` and `pending`, then `counters`."""
    about = _fields(connection.ask("XINFO", "STREAM", key))
    yield Record({"t": "stream"}, (key,))
    start = _FIRST
    while start != _BEHIND_ALL and (entries := connection.ask("XRANGE", key, start, "+", "COUNT", KEYS)):
        for identifier, fields in entries:
            yield Record({"t": "entry"}, (key, identifier, *fields))
        start = b"(" + entries[-1][0]
    for group in map(_fields, connection.ask("XINFO", "GROUPS", key)):
        name = group[b"name"]
        read = group.get(b"entries-read")
        header = {"t": "group"} | ({"read": read} if read is not None else {})
        yield Record(header, (key, name, group[b"last-delivered-id"]))
        for consumer in map(_fields, connection.ask("XINFO", "CONSUMERS", key, name)):
            yield Record({"t": "consumer"}, (key, name, consumer[b"name"]))
        yield from _pending(connection, key, name, notes)
    counters = {name: _text(about[field]) for field, name in _COUNTERS.items() if field in about}
    yield Record({"t": "counters", **counters}, (key,))


def _pending(connection: Connection, key: bytes, group: bytes, notes: list[str]) -> Iterator[Record]:
    start = _FIRST
    while start != _BEHIND_ALL and (found := connection.ask("XPENDING", key, group, start, "+", KEYS)):
        seconds, microseconds = connection.ask("TIME")
        now = int(seconds) * 1000 + int(microseconds) // 1000
        entries = connection.ask_all(("XRANGE", key, identifier, identifier) for identifier, *_ in found)
        lost = 0
        for (identifier, consumer, idle, deliveries), entry in zip(found, entries, strict=True):
            if entry:
                header = {"t": "pending", "at": now - idle, "n": deliveries}
                yield Record(header, (key, group, consumer, identifier))
            else:
                lost += 1
        if lost:
            shown = key.decode(errors="backslashreplace")
            notes.append(f"{lost} pending entries of the stream {shown} are not saved: the entries are deleted.")
        start = b"(" + found[-1][0]


def restored(record: Record) -> list[Command]:
    """The commands that write a record of a stream."""
    key, *parts = record.parts
    match record.header:
        case {"t": "stream"}:
            # A group that comes and goes leaves an empty stream.
            return [("XGROUP", "CREATE", key, "restore", "$", "MKSTREAM"), ("XGROUP", "DESTROY", key, "restore")]
        case {"t": "entry"}:
            return [("XADD", key, *parts)]
        case {"t": "group", "read": int(read)}:
            return [("XGROUP", "CREATE", key, *parts, "ENTRIESREAD", read)]
        case {"t": "group"}:
            return [("XGROUP", "CREATE", key, *parts)]
        case {"t": "consumer"}:
            return [("XGROUP", "CREATECONSUMER", key, *parts)]
        case {"t": "pending", "at": int(at), "n": int(deliveries)}:
            group, consumer, identifier = parts
            options = ("TIME", at, "RETRYCOUNT", deliveries, "FORCE", "JUSTID")
            return [("XCLAIM", key, group, consumer, 0, identifier, *options)]
        case {"t": "counters", "last": str(last), "added": int(added), "deleted": str(deleted)}:
            return [("XSETID", key, last, "ENTRIESADDED", added, "MAXDELETEDID", deleted)]
        case {"t": "counters", "last": str(last)}:
            return [("XSETID", key, last)]
    raise ValueError(f"unknown kind of record {record.header.get('t')!r}")


def _fields(reply: list[Any]) -> dict[bytes, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
