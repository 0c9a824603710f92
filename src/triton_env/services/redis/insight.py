"""What Redis reports about itself: keys with their types, times to live and sizes, slow commands, clients, messages."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from triton_env.errors import UsageError
from triton_env.services.base_insight import (
    ROWS,
    TEXT,
    Column,
    Insight,
    Metric,
    Panel,
    Row,
    Table,
    cut,
    raw,
    readable,
    table_of,
)
from triton_env.services.redis.connection import KEYS, Connection
from triton_env.services.redis.keys import exactly, is_short, key_table
from triton_env.services.redis.names import NAMESPACE_USER, OWN_NUMBERS
from triton_env.services.redis.service import Redis
from triton_env.services.redis.values import value_table

_Answer = TypeVar("_Answer")

_NAME = "triton-env-insight"
"""What its connections call themselves, so that none of them is shown."""
_INTERVAL = 0.5
"""Seconds after which a stream looks whether it is to end."""
_COUNTERS = {
    "commands_total": "total_commands_processed",
    "keyspace_hits_total": "keyspace_hits",
    "keyspace_misses_total": "keyspace_misses",
    "evicted_keys_total": "evicted_keys",
    "expired_keys_total": "expired_keys",
    "memory_bytes": "used_memory",
}
"""Metrics, by what INFO calls them: https://redis.io/docs/latest/commands/info/"""
_DATABASE = re.compile(rb"^db(\d+):keys=(\d+),expires=(\d+)(?:,avg_ttl=(\d+))?", re.MULTILINE)
_COMMAND = re.compile(rb"^(?P<at>[\d.]+) \[(?P<database>\d+) (?P<client>.*?)\] (?P<words>\".*)$", re.DOTALL)
"""A line of MONITOR: https://redis.io/docs/latest/commands/monitor/"""
_NAMING = re.compile(rb'"CLIENT" "SETNAME" "%s"' % _NAME.encode(), re.IGNORECASE)


class RedisInsight(Insight[Redis]):
    """Looks at a Redis server, with commands that only read."""

    metrics = (
        Metric("connections", "Connections", "Connections of clients, without the one that looks."),
        Metric("commands_total", "Commands", "Commands that the server has processed.", "counter"),
        Metric("keyspace_hits_total", "Hits", "Look-ups of keys that were there.", "counter"),
        Metric("keyspace_misses_total", "Misses", "Look-ups of keys that were not there.", "counter"),
        Metric("keys", "Keys", "Keys in all logical databases."),
        Metric("memory_bytes", "Allocated", "Memory that the server has allocated.", unit="bytes"),
        Metric("evicted_keys_total", "Evicted", "Keys that were removed because memory ran short.", "counter"),
        Metric("expired_keys_total", "Expired", "Keys whose time to live was over.", "counter"),
    )
    panels = (
        Panel("databases", "Logical databases", "No logical database holds a key."),
        Panel("keys", "Keys", "No key begins like this.", "database/prefix"),
        Panel("value", "Value", "The key does not exist, or its value is empty.", "database/key", needs_argument=True),
        Panel("slow", "Slow commands", "No command took longer than slowlog-log-slower-than allows."),
        Panel("clients", "Clients", "No client is connected."),
        Panel("channels", "Channels", "No client has subscribed to a channel."),
        Panel("messages", "Messages", "No message has been published.", "channel or pattern", is_stream=True),
        Panel("monitor", "Commands as they come", "No command has come.", is_stream=True),
    )

    _kept: Connection | None = None

    def _sample(self) -> Mapping[str, float]:
        info = self._asked(lambda connection: connection.ask("INFO"))
        lines = (line.split(b":", 1) for line in info.splitlines() if b":" in line)
        fields = {name.decode(): value for name, value in lines}
        found = {metric: float(fields[name]) for metric, name in _COUNTERS.items() if name in fields}
        found["keys"] = sum(int(keys) for _, keys, *_ in _DATABASE.findall(info))
        if "connected_clients" in fields:
            found["connections"] = max(0, int(fields["connected_clients"]) - 1)
        return found

    def _sizes(self) -> Mapping[int, int]:
        found = _DATABASE.findall(self._asked(lambda connection: connection.ask("INFO", "keyspace")))
        filled = {int(number): int(keys) for number, keys, *_ in found}
        return {number: self._memory(number, keys) for number, keys in filled.items() if number not in OWN_NUMBERS}

    def _memory(self, number: int, keys: int) -> int:
        """Bytes that the keys of a logical database take. Where there are many, some stand for all."""

        def ask(connection: Connection) -> list[Any]:
            _, found = connection.ask("SCAN", 0, "COUNT", KEYS)
            return connection.try_all(("MEMORY", "USAGE", key) for key in found)

        sizes = [size for size in self._asked(ask, number) if size]
        return round(sum(sizes) / len(sizes) * keys) if sizes else 0

    def _table(self, panel: str, argument: str) -> Table:
        match panel:
            case "databases":
                return self._databases()
            case "keys":
                number, prefix = self._place(argument)
                return self._asked(
                    lambda connection: key_table(connection, number, raw(prefix), self._timeout / 2, _mark(number)),
                    number,
                )
            case "value":
                number, key = self._place(argument)
                return self._asked(lambda connection: value_table(connection, raw(key)), number)
            case "slow":
                return self._slow()
            case "clients":
                return self._clients()
            case _:
                return self._channels()

    def _stream(self, panel: str, argument: str, seconds: float, cancelled: threading.Event) -> Iterator[str]:
        end = time.monotonic() + seconds
        with self._connect(self._service.database) as connection:
            line = connection.raw()
            try:
                line.connect()
                read = _messages(line, argument) if panel == "messages" else _commands(line, _own(connection))
                while not cancelled.is_set() and (left := end - time.monotonic()) > 0:
                    if line.can_read(timeout=min(_INTERVAL, left)) and (text := read()):
                        yield text
            finally:
                line.disconnect()

    def _errors(self) -> tuple[type[Exception], ...]:
        from redis.exceptions import RedisError

        return (RedisError, OSError)

    def _databases(self) -> Table:
        columns = (
            Column("database", "number"),
            Column("keys", "number"),
            Column("that expire", "number"),
            Column("expire on average in", "seconds"),
        )
        found = _DATABASE.findall(self._asked(lambda connection: connection.ask("INFO", "keyspace")))
        filled = {int(number): (int(keys), int(expires), int(ttl or 0) / 1000) for number, keys, expires, ttl in found}
        rows = [
            Row(
                (number, *(filled.get(number, (0, 0, 0))[:2]), filled.get(number, (0, 0, 0))[2] or None),
                "keys",
                f"{number}/",
                mark=_mark(number),
            )
            for number in sorted({*filled, self._service.database})
        ]
        return table_of(columns, rows)

    def _slow(self) -> Table:
        columns = (
            Column("at", "time"),
            Column("took", "seconds"),
            Column("client"),
            Column("command", "code"),
        )
        found = self._asked(lambda connection: connection.ask("SLOWLOG", "GET", ROWS + 1))
        rows = [
            Row((at, took / 1e6, _text(b" ".join(filter(None, reversed(client)))), _text(b" ".join(words))))
            for _, at, took, words, *client in found
            if _NAME.encode() not in client
        ]
        return table_of(columns, rows)

    def _clients(self) -> Table:
        columns = (
            Column("id", "number"),
            Column("address"),
            Column("name"),
            Column("database", "number"),
            Column("connected for", "seconds"),
            Column("idle for", "seconds"),
            Column("last command"),
            Column("memory", "bytes"),
        )
        rows = [
            Row(
                (
                    int(each["id"]),
                    each["addr"],
                    each.get("name", ""),
                    int(each["db"]),
                    int(each["age"]),
                    int(each["idle"]),
                    each["cmd"],
                    int(each["tot-mem"]) if "tot-mem" in each else None,
                ),
                mark="space" if each.get("user") == NAMESPACE_USER else _mark(int(each["db"])),
            )
            for each in self._asked(_clients)
            if each.get("name") != _NAME
        ]
        return table_of(columns, rows)

    def _channels(self) -> Table:
        def ask(connection: Connection) -> list[Any]:
            channels = sorted(connection.ask("PUBSUB", "CHANNELS"))[: ROWS + 1]
            return list(connection.ask("PUBSUB", "NUMSUB", *channels))

        numbers = iter(self._asked(ask))
        rows = [
            Row(
                (cut(readable(channel)), subscribers),
                opens="messages" if is_short(channel) else "",
                key=readable(exactly(channel)) if is_short(channel) else "",
            )
            for channel, subscribers in zip(numbers, numbers, strict=True)
        ]
        return table_of((Column("channel"), Column("subscribers", "number")), rows)

    def _place(self, argument: str) -> tuple[int, str]:
        """The logical database and the beginning of a key that are asked for."""
        if not argument:
            return self._service.database, ""
        number, slash, rest = argument.partition("/")
        if not (slash and number.isascii() and number.isdigit() and len(number) < 10):
            raise UsageError(
                f"{cut(argument, 80)!r} names no logical database.",
                hint=f"put its number before it: {self._service.database}/{cut(argument, 40)}",
            )
        return int(number), rest

    def _asked(self, ask: Callable[[Connection], _Answer], number: int | None = None) -> _Answer:
        """What comes of questions: over the connection that is kept, or one to another logical database."""
        from redis.exceptions import ConnectionError as Broken
        from redis.exceptions import ResponseError

        if number is not None and number != self._service.database:
            try:
                with self._connect(number) as connection:
                    return ask(connection)
            except ResponseError as error:
                if "DB index" not in str(error):
                    raise
                raise UsageError(
                    f"The server has no logical database {number}.", hint="see the panel 'databases'"
                ) from error
        if self._kept is not None:
            try:
                return ask(self._kept)
            except Broken:  # as after a restart
                self.close()
        self._kept = self._connect(self._service.database)
        return ask(self._kept)

    def _connect(self, number: int) -> Connection:
        return Connection(self._service, number, _NAME, self._timeout)


def _clients(connection: Connection) -> list[dict[str, str]]:
    """https://redis.io/docs/latest/commands/client-list/"""
    lines = connection.ask("CLIENT", "LIST").decode(errors="replace").splitlines()
    return [dict(word.partition("=")[::2] for word in line.split(" ")) for line in lines]


def _own(connection: Connection) -> set[bytes]:
    """The addresses of those that look, as MONITOR has them."""
    return {each["addr"].encode() for each in _clients(connection) if each.get("name") == _NAME}


def _messages(line: Any, pattern: str) -> Callable[[], str]:
    # As a pattern also where it is one channel: so it is not among the channels that clients have subscribed to.
    line.send_command("PSUBSCRIBE", raw(pattern) or b"*")

    def read() -> str:
        kind, _, channel, *message = line.read_response()
        return f"{readable(channel)}: {_text(message[0])}" if kind == b"pmessage" else ""

    return read


def _commands(line: Any, own: set[bytes]) -> Callable[[], str]:
    line.send_command("MONITOR")

    def read() -> str:
        command = _COMMAND.match(line.read_response())
        if command is None:  # "OK"
            return ""
        if _NAMING.match(command["words"]):
            own.add(command["client"])
        return "" if command["client"] in own else _text(command[0].partition(b" ")[2])

    return read


def _text(value: bytes) -> str:
    return cut(value[: 4 * TEXT].decode(errors="backslashreplace"))


def _mark(number: int) -> str:
    return "" if number in OWN_NUMBERS else "space"
