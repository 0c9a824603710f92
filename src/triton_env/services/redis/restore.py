"""Restoring Redis."""

import re
from base64 import b64encode
from contextlib import closing
from dataclasses import asdict
from typing import Any

from triton_env.archive.archive import Archive
from triton_env.archive.records import Record, read_records
from triton_env.archive.steps import Meter
from triton_env.errors import RestoreFailed
from triton_env.services import Redis
from triton_env.services.base_backup import KnownSpaces, Note, Programs
from triton_env.services.redis import streams
from triton_env.services.redis.backup import FUNCTIONS
from triton_env.services.redis.claimed import hold, holds_notes, taken_numbers, used_numbers
from triton_env.services.redis.claims import KEY as CLAIMS_KEY
from triton_env.services.redis.connection import (
    KEY,
    Command,
    Connection,
    databases,
    functions,
    is_staged,
)
from triton_env.services.redis.names import OWN_NUMBERS, own_numbers
from triton_env.services.redis.takeover import Plan, RedisTakeover

_BATCH_BYTES = 1 << 20
_BATCH_COMMANDS = 1000
_MEMBER = re.compile(r"redis/database-(0|[1-9][0-9]{0,6})\.records")
_MODULES = (6, 7)
"""The first byte of what DUMP gives for a type of a module; all other types are saved by their own commands."""
_WRITES = {"hash": "HSET", "list": "RPUSH", "set": "SADD"}


class RedisRestorer:
    """Restores Redis; see `Restorer`.

    Keys are loaded into logical databases that are empty. One transaction then swaps them with those of the backup. In
    the end all others of the user are emptied.
    """

    def __init__(
        self, service: Redis, programs: Programs, archive: Archive, meter: Meter, spaces: KnownSpaces, mark: str
    ) -> None:
        self._service = service
        self._archive = archive
        self._meter = meter
        self._spaces = spaces
        self._mark = mark
        self._members: dict[int, str] = {}
        for member in archive.manifest.members:
            if member.service == service.name and member.kind == "keys":
                match = _MEMBER.fullmatch(member.name)
                if match is None:
                    raise archive.refused(f"{member.name} is not the name of a logical database")
                self._members[int(match[1])] = member.name
        self._plan = Plan(mark)

    def check(self) -> None:
        self._choose_databases()
        with Connection(self._service, 0) as connection:
            kinds = {"HPEXPIREAT": "fields of hashes that expire", "FUNCTION": "functions"}
            lacks = {command: what for command, what in kinds.items() if not connection.knows(command)}
        if "HPEXPIREAT" in lacks and self._has_expiring_fields():
            raise self._refused(f"The server has no {lacks['HPEXPIREAT']}, and the backup does.")
        if "FUNCTION" in lacks and self._functions():
            raise self._refused(f"The server has no {lacks['FUNCTION']}, and the backup does.")

    def present(self) -> list[str]:
        with Connection(self._service, 0) as connection:
            libraries = functions(connection)
        own = own_numbers(databases(self._service), taken_numbers(self._service, self._spaces))
        found = [f"the logical database {number}" for number in used_numbers(self._service) if number in own]
        return [*found, *(["functions"] if libraries else [])]

    def plan(self) -> dict[str, Any]:
        # Again: others may have used one of them since.
        self._choose_databases()
        return asdict(self._plan)

    def stage(self) -> None:
        # The journal has the plan by now, so that what is noted for it goes with it.
        if (board := hold(self._service, self._plan.numbers, self._mark)) is None:
            raise self._refused(
                "A namespace, template or snapshot has taken a logical database that the restore needs.",
                hint="try again",
            )
        # Attended while keys are written there. If FLUSHALL comes after that, nothing is swapped.
        with closing(board):
            self._load()

    def _load(self) -> None:
        targets = dict(self._plan.pairs) | {number: number for number in self._plan.in_place}
        for number, target in targets.items():
            # In place of which the notes of machines stay there.
            omitted = CLAIMS_KEY.encode() if holds_notes(self._service, number) else b""
            self._meter.begin(f"database {number}")
            with (
                Connection(self._service, target, self._mark) as connection,
                self._archive.member(self._members[number]) as stream,
            ):
                connection.ask("SET", KEY, self._plan.new(number))
                loader = _Loader(connection, self._meter)
                for record in read_records(stream):
                    if not omitted or record.parts[:1] != (omitted,):
                        loader.add(record)
                loader.send()

    def swap(self) -> None:
        self._meter.begin("taking over")
        has_functions = self._plan.functions is not None
        RedisTakeover(self._service, self._plan).swap(self._functions() if has_functions else None)

    def finish(self, note: Note) -> None:
        RedisTakeover(self._service, self._plan).finish()

    def _choose_databases(self) -> None:
        taken = taken_numbers(self._service, self._spaces)
        used = set(used_numbers(self._service))
        count = databases(self._service)
        if self._members and max(self._members) >= count:
            raise self._refused(
                f"The backup has a logical database {max(self._members)}, and the server has {count} in all."
            )
        if spaces := sorted(taken & self._members.keys() - set(OWN_NUMBERS)):
            # Older versions have saved all of them, also those of namespaces.
            shown = ", ".join(map(str, spaces))
            self._meter.note(
                f"not restored: logical databases that a namespace, template or snapshot has here ({shown})"
            )
            self._members = {number: name for number, name in self._members.items() if number not in spaces}
        if spaces := sorted(taken & self._members.keys()):
            raise self._refused(
                f"The backup has a logical database {spaces[0]}, which a namespace, template or snapshot has here.",
                hint="restore into a new session, or first remove what has it: python -m triton_env prune --kept",
            )
        # Each is swapped with one that is empty and not in the way, best with one that applications do not use. Where
        # there are too few, those that are empty themselves are loaded in their place.
        # The last is where machines note what is theirs: it is never loaded into for another.
        spare = [number for number in range(max(count - 1, 1)) if number not in used | taken | self._members.keys()]
        pool = [*reversed([n for n in spare if n >= len(OWN_NUMBERS)]), *(n for n in spare if n < len(OWN_NUMBERS))]
        in_use = [number for number in sorted(self._members) if number in used]
        others = [number for number in sorted(self._members) if number not in used]
        if len(pool) < len(in_use):
            raise self._refused(
                f"The restore needs {len(in_use)} empty logical databases to load into, "
                f"and the server has {len(pool)}.",
                hint="empty one (redis-cli -n NUMBER FLUSHDB), or give the server more (the setting `databases`)",
            )
        staged = dict(zip([*in_use, *others], pool, strict=False))
        with Connection(self._service, 0) as connection:
            dump = connection.ask("FUNCTION", "DUMP") if connection.knows("FUNCTION") else None
        self._plan = Plan(
            self._mark,
            {str(number): target for number, target in staged.items()},
            [number for number in others if number not in staged],
            [n for n in own_numbers(count, taken) if n not in self._members and not is_staged(self._service, n)],
            None if dump is None else b64encode(dump).decode(),
        )

    def _functions(self) -> list[bytes]:
        with self._archive.member(FUNCTIONS) as stream:
            return [record.parts[0] for record in read_records(stream)]

    def _has_expiring_fields(self) -> bool:
        for name in self._members.values():
            with self._archive.member(name) as stream:
                if any(record.header.get("t") == "fields" for record in read_records(stream)):
                    return True
        return False

    def _refused(self, what: str, hint: str = "set REDIS_IMAGE to a newer version") -> RestoreFailed:
        return RestoreFailed(what, where=f"{self._service.host}:{self._service.port}", hint=hint)


class _Loader:
    """Writes records to one logical database, many at a time."""

    def __init__(self, connection: Connection, meter: Meter) -> None:
        self._connection = connection
        self._meter = meter
        self._commands: list[Command] = []
        self._size = 0

    def add(self, record: Record) -> None:
        """Write a record, now or with the next ones."""
        if not record.parts:
            raise ValueError("a record names no key")
        if record.parts[0] == KEY.encode():
            raise ValueError(f"a record is of the key {KEY}, which restores use")
        if not record.header.get("more"):
            # A scan may find a key twice.
            self._commands.append(("DEL", record.parts[0]))
        self._commands += _commands(record)
        size = sum(map(len, record.parts))
        self._meter.count(size)
        self._size += size
        if self._size >= _BATCH_BYTES or len(self._commands) >= _BATCH_COMMANDS:
            self.send()

    def send(self) -> None:
        """Write what waits."""
        if self._commands:
            self._connection.ask_all(self._commands)
        self._commands, self._size = [], 0


def _commands(record: Record) -> list[Command]:
    header = record.header
    key, *parts = record.parts
    kind, expiry = header.get("t"), header.get("e")
    if not isinstance(kind, str) or not isinstance(expiry, int | None):
        raise ValueError(f"the record of {key!r} has another form")
    commands: list[Command]
    if kind == "string":
        commands = [("APPEND" if header.get("more") else "SET", key, *parts)]
    elif kind in _WRITES:
        commands = [(_WRITES[kind], key, *parts)]
    elif kind == "zset":
        scored: list[Any] = []
        for member, score in zip(parts[::2], parts[1::2], strict=True):
            scored += (score, member)
        commands = [("ZADD", key, *scored)]
    elif kind == "fields":
        commands = [
            ("HPEXPIREAT", key, at, "FIELDS", 1, field) for field, at in zip(parts[::2], parts[1::2], strict=True)
        ]
    elif kind == "dump":
        if not parts or not parts[0] or parts[0][0] not in _MODULES:
            raise ValueError(f"the value of {key!r} is not of a type of a module")
        commands = [("RESTORE", key, 0, *parts)]
    elif kind == "end":
        commands = []
    else:
        commands = streams.restored(record)
    if expiry is not None:
        commands.append(("PEXPIREAT", key, expiry))
    return commands
