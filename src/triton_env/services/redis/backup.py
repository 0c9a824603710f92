"""Saving Redis.

Values are read by the commands of their type. What DUMP gives would be shorter, but only the server that made it, or a
newer one of the same project, can read it; it is used for types of modules alone.
"""

import re
import time
from collections.abc import Collection, Iterator
from typing import Any

from triton_env.archive.archive import ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.records import Record, write_record
from triton_env.archive.steps import Meter
from triton_env.services import Redis
from triton_env.services.base_backup import KnownSpaces, Programs, left_by_restores
from triton_env.services.redis.claimed import holds_notes, taken_numbers, used_numbers
from triton_env.services.redis.claims import KEY as CLAIMS_KEY
from triton_env.services.redis.connection import (
    KEY,
    KEYS,
    Command,
    Connection,
    databases,
    functions,
    is_staged,
)
from triton_env.services.redis.names import NAMESPACE_USER, OWN_NUMBERS, own_numbers
from triton_env.services.redis.streams import stream_records

FUNCTIONS = "redis/functions.records"
_SHOWN = 6
"""How many logical databases are named."""
PIECE = 1 << 20
"""Bytes of a string that are read at once, and of a key that is read in one go."""

_GONE = re.compile("WRONGTYPE|NOGROUP|.*no such key", re.IGNORECASE)
"""What a server answers where a key is not what it was a moment ago."""
_TRIES = 5
"""How often a key is read that goes away, or changes its type, while it is."""
_WHOLE: dict[bytes, Command] = {
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
}
"""The command that reads a whole value; the key comes second."""
_SCANS = {b"hash": "HSCAN", b"set": "SSCAN", b"zset": "ZSCAN"}


def save(service: Redis, programs: Programs, archive: ArchiveWriter, meter: Meter, spaces: KnownSpaces) -> SavedService:
    """Save the user's logical databases and the functions; see `Saver`.

    Keys are read by SCAN, some at a time: what changes in between is saved as it was before or as it is after, and what
    goes away is left out and counted.

    Raises:
        redis.RedisError: the server does not answer.
    """
    before = taken_numbers(service, spaces)
    used = used_numbers(service)
    # Those too that a namespace has come to have by now.
    taken = before | taken_numbers(service, spaces)
    own = own_numbers(databases(service), taken)
    staged = [number for number in used if number not in taken and is_staged(service, number)]
    numbers = [number for number in used if number in own and number not in staged]
    notes = left_by_restores(f"logical database {number}" for number in staged)
    if others := _strays(service, spaces, {*OWN_NUMBERS, *staged}):
        shown = ", ".join(map(str, others[:_SHOWN])) + (" and others" if len(others) > _SHOWN else "")
        notes.append(f"Logical databases from {len(OWN_NUMBERS)} on are kept for namespaces and not saved: {shown}.")
    for number in numbers:
        meter.begin(f"database {number}")
        with (
            Connection(service, number) as connection,
            archive.member(f"redis/database-{number}.records", service.name, "keys", meter.count) as stream,
        ):
            keys = _Keys(connection, notes, CLAIMS_KEY.encode() if holds_notes(service, number) else None)
            for record in keys.records():
                write_record(stream, record)
        if keys.gone:
            notes.append(f"{keys.gone} keys of database {number} disappeared while being read, so they are not saved.")
    with (
        Connection(service, 0) as connection,
        archive.member(FUNCTIONS, service.name, "functions", meter.count) as stream,
    ):
        for code in functions(connection):
            write_record(stream, Record({}, (code,)))
        if connection.knows("ACL") and (
            users := [user for user in connection.ask("ACL", "USERS") if _is_the_users(user)]
        ):
            notes.append(f"{len(users)} users of Redis (ACL SETUSER) are not saved.")
    return SavedService(service.server_version(), tuple(map(str, numbers)), tuple(notes))


def _strays(service: Redis, spaces: KnownSpaces, others: Collection[int]) -> list[int]:
    """The used logical databases among those for namespaces that no namespace, template or snapshot has.

    Namespaces come and go during the look: a database counts if it is found twice, and was free before and after.

    Args:
        others: databases that are known to belong to something else.
    """

    def look() -> set[int]:
        before = taken_numbers(service, spaces)
        found = set(used_numbers(service)).difference(others)
        return found - before - taken_numbers(service, spaces) if found else found

    found = look()
    return sorted(found & look()) if found else []


def _is_the_users(user: bytes) -> bool:
    """Whether a user of Redis was made by hand, not with the server or with a namespace."""
    return user not in (b"default", NAMESPACE_USER.encode())


class _Keys:
    """The keys of one logical database, as records.

    A record's header has `t`, the type; its first part is the key. `more` marks one that goes on with the key before.
    `e` is when the key expires, in milliseconds since 1970, in its last record.

    Args:
        claims: the key in which machines note what is theirs; None where it is in another logical database.
    """

    def __init__(self, connection: Connection, notes: list[str], claims: bytes | None) -> None:
        self._connection = connection
        self._claims = claims
        self._notes = notes
        self.gone = 0
        self._knows_expiry = connection.knows("PEXPIRETIME")
        self._knows_fields = connection.knows("HPEXPIRETIME")

    def records(self) -> Iterator[Record]:
        for keys in self._connection.scan("SCAN"):
            if (own := KEY.encode()) in keys:
                self._notes.append(f"A key {KEY} is not saved: restores use this name.")
                keys.remove(own)
            if self._claims is not None and self._claims in keys:
                keys.remove(self._claims)
            small: list[tuple[bytes, bytes, dict[str, Any]]] = []
            size = 0
            for key, kind, expiry, usage in self._looked_at(keys):
                if kind in _WHOLE and usage <= PIECE:
                    small.append((key, kind, expiry))
                    size += usage
                    if size > PIECE:
                        yield from self._read_whole(small)
                        small, size = [], 0
                else:
                    yield from self._read_in_pieces(key, kind, expiry)
            yield from self._read_whole(small)

    def _looked_at(self, keys: list[bytes]) -> Iterator[tuple[bytes, bytes, dict[str, Any], int]]:
        """Each key that is still there, with its type, expiry and size in memory."""
        expiry = "PEXPIRETIME" if self._knows_expiry else "PTTL"
        commands = [command for key in keys for command in (("TYPE", key), (expiry, key), ("MEMORY", "USAGE", key))]
        now = time.time_ns() // 1_000_000
        replies = self._connection.ask_all(commands)
        for key, kind, at, usage in zip(keys, replies[::3], replies[1::3], replies[2::3], strict=True):
            if kind == b"none" or usage is None:
                self.gone += 1
            else:
                moment = {} if at < 0 else {"e": at if self._knows_expiry else now + at}
                yield key, kind, moment, usage

    def _read_whole(self, small: list[tuple[bytes, bytes, dict[str, Any]]]) -> Iterator[Record]:
        """Values that are small, many at a time."""
        commands = [(_WHOLE[kind][0], key, *_WHOLE[kind][1:]) for key, kind, _ in small]
        replies = self._connection.try_all(commands)
        hashes = [
            (key, value[::2]) for (key, kind, _), value in zip(small, replies, strict=True) if value and kind == b"hash"
        ]
        moments = self._field_expiries(hashes)
        for (key, kind, expiry), value in zip(small, replies, strict=True):
            if (not value and kind != b"string") or value is None:
                # Gone, or of another type by now.
                yield from self._read_again(key)
                continue
            parts = (value,) if kind == b"string" else value
            fields = moments.get(key)
            if fields is None:
                yield Record({"t": kind.decode()} | expiry, (key, *parts))
            else:
                yield Record({"t": kind.decode()}, (key, *parts))
                yield fields
                yield Record({"t": "end", "more": True} | expiry, (key,))

    def _read_in_pieces(self, key: bytes, kind: bytes, expiry: dict[str, Any], tries: int = _TRIES) -> Iterator[Record]:
        from redis.exceptions import ResponseError

        header: dict[str, Any] = {}
        try:
            for record in self._pieces(key, kind):
                yield Record(record.header | header, record.parts)
                header = {"more": True}
            is_there = self._connection.ask("TYPE", key) == kind
        except ResponseError as error:
            if not _GONE.match(str(error)):
                raise
            is_there = False
        if is_there and header:
            yield Record({"t": "end", "more": True} | expiry, (key,))
        else:
            # Without `more`, it takes back what was saved of the key.
            yield Record({"t": "end"}, (key,))
            yield from self._read_again(key, tries)

    def _read_again(self, key: bytes, tries: int = _TRIES) -> Iterator[Record]:
        """A key that went away while it was read, and that may be there again."""
        for _, kind, expiry, _ in self._looked_at([key]) if tries else ():
            yield from self._read_in_pieces(key, kind, expiry, tries - 1)
        self.gone += not tries

    def _pieces(self, key: bytes, kind: bytes) -> Iterator[Record]:
        if kind == b"string":
            # Also of one that is empty.
            yield Record({"t": "string"}, (key, b""))
            yield from self._string(key)
        elif kind == b"list":
            yield from self._list(key)
        elif kind in _SCANS:
            yield from self._scanned(key, kind)
        elif kind == b"stream":
            yield from stream_records(self._connection, key, self._notes)
        else:
            yield from self._dumped(key, kind)

    def _string(self, key: bytes) -> Iterator[Record]:
        start = 0
        while value := self._connection.ask("GETRANGE", key, start, start + PIECE - 1):
            yield Record({"t": "string"}, (key, value))
            start += len(value)

    def _list(self, key: bytes) -> Iterator[Record]:
        start = 0
        while values := self._connection.ask("LRANGE", key, start, start + KEYS - 1):
            yield Record({"t": "list"}, (key, *values))
            start += len(values)

    def _scanned(self, key: bytes, kind: bytes) -> Iterator[Record]:
        for values in self._connection.scan(_SCANS[kind], key):
            yield Record({"t": kind.decode()}, (key, *values))
            if kind == b"hash" and (fields := self._field_expiries([(key, values[::2])]).get(key)):
                yield fields

    def _dumped(self, key: bytes, kind: bytes) -> Iterator[Record]:
        payload = self._connection.ask("DUMP", key)
        if payload is not None:
            yield Record({"t": "dump", "kind": kind.decode()}, (key, payload))
            note = f"Keys of the type {kind.decode()} can only be restored to the same server."
            if note not in self._notes:
                self._notes.append(note)

    def _field_expiries(self, hashes: list[tuple[bytes, list[bytes]]]) -> dict[bytes, Record]:
        """For each hash with fields that expire, a record with these fields and when they do."""
        if not self._knows_fields:
            return {}
        asked = [(key, fields) for key, fields in hashes if fields]
        replies = self._connection.try_all(
            ("HPEXPIRETIME", key, "FIELDS", len(fields), *fields) for key, fields in asked
        )
        found = {}
        for (key, fields), moments in zip(asked, replies, strict=True):
            expiring = [(field, b"%d" % at) for field, at in zip(fields, moments or (), strict=False) if at >= 0]
            if expiring:
                parts = (part for pair in expiring for part in pair)
                found[key] = Record({"t": "fields", "more": True}, (key, *parts))
        return found
