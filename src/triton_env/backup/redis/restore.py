"""Restoring Redis."""

from typing import Any

from triton_env.backup.archive import Archive
from triton_env.backup.base import HalfApplied, RunsPrograms
from triton_env.backup.records import Record, read_records
from triton_env.backup.redis import streams
from triton_env.backup.redis.connection import Command, Connection, functions, used_databases
from triton_env.backup.redis.dump import FUNCTIONS
from triton_env.backup.steps import Meter
from triton_env.errors import RestoreFailed
from triton_env.services import Redis, Service

_BATCH_BYTES = 1 << 20
_BATCH_COMMANDS = 1000
_WRITES = {"hash": "HSET", "list": "RPUSH", "set": "SADD"}


class RedisRestorer:
    """Restores Redis; see `Restorer`.

    Keys are loaded into logical databases that are empty. One transaction then swaps them with those of the backup and
    empties all others.
    """

    def __init__(self, service: Service, program: RunsPrograms, archive: Archive, meter: Meter) -> None:
        assert isinstance(service, Redis)
        self._service = service
        self._archive = archive
        self._meter = meter
        self._members = {
            int(member.name.removeprefix("redis/database-").removesuffix(".records")): member.name
            for member in archive.manifest.members
            if member.service == service.name and member.kind == "keys"
        }
        self._staged: dict[int, int] = {}
        """By the number in the backup, the number to load it into."""
        self._loaded: set[int] = set()
        """Those of the latter in which there is something."""

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
        found = [f"the logical database {number}" for number in used_databases(self._service)]
        return [*found, *(["functions"] if libraries else [])]

    def stage(self) -> None:
        # Again: others may have used one of them meanwhile.
        self._choose_databases()
        for number, target in self._staged.items():
            self._meter.begin(f"database {number}")
            self._loaded.add(target)
            with (
                Connection(self._service, target) as connection,
                self._archive.member(self._members[number]) as stream,
            ):
                loader = _Loader(connection, self._meter)
                for record in read_records(stream):
                    loader.add(record)
                loader.send()

    def swap(self) -> None:
        self._meter.begin("taking over")
        swaps: list[Command] = [
            ("SWAPDB", number, target) for number, target in self._staged.items() if number != target
        ]
        with Connection(self._service, 0) as connection:
            databases = int(connection.ask("CONFIG", "GET", "databases")[1])
            emptied: list[Command] = []
            for number in range(databases):
                if number not in self._staged:
                    emptied += [("SELECT", number), ("FLUSHDB", "ASYNC")]
            connection.at_once([*swaps, *emptied, ("SELECT", 0)])
            self._loaded.clear()
            if not connection.knows("FUNCTION"):
                return
            try:
                connection.ask("FUNCTION", "FLUSH")
                for code in self._functions():
                    connection.ask("FUNCTION", "LOAD", code)
            except Exception as error:
                raise HalfApplied(f"its keys were restored, but not its functions: {error}") from error

    def discard(self) -> None:
        for number in sorted(self._loaded):
            with Connection(self._service, number) as connection:
                connection.ask("FLUSHDB")
            self._loaded.discard(number)

    def _choose_databases(self) -> None:
        used = set(used_databases(self._service))
        with Connection(self._service, 0) as connection:
            databases = int(connection.ask("CONFIG", "GET", "databases")[1])
        if self._members and max(self._members) >= databases:
            raise self._refused(
                f"The backup has a logical database {max(self._members)}, and the server has {databases} in all."
            )
        # Each is swapped with one that is empty and in nobody's way. Where there are too few, those that are empty
        # themselves are loaded in their place.
        pool = [number for number in range(databases) if number not in used and number not in self._members]
        in_use = [number for number in sorted(self._members) if number in used]
        others = [number for number in sorted(self._members) if number not in used]
        if len(pool) < len(in_use):
            raise self._refused(
                f"The restore needs {len(in_use)} empty logical databases to load into, "
                f"and the server has {len(pool)}.",
                hint="empty one (redis-cli -n NUMBER FLUSHDB), or give the server more (the setting `databases`)",
            )
        self._staged = dict(zip(in_use, pool, strict=False))
        spare = pool[len(in_use) :]
        self._staged |= {number: spare.pop(0) if spare else number for number in others}

    def _functions(self) -> list[bytes]:
        with self._archive.member(FUNCTIONS) as stream:
            return [record.parts[0] for record in read_records(stream)]

    def _has_expiring_fields(self) -> bool:
        for name in self._members.values():
            with self._archive.member(name) as stream:
                if any(record.header["t"] == "fields" for record in read_records(stream)):
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
    kind = header["t"]
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
        commands = [("RESTORE", key, 0, *parts)]
    elif kind == "end":
        commands = []
    else:
        commands = streams.restored(record)
    if "e" in header:
        commands.append(("PEXPIREAT", key, header["e"]))
    return commands
