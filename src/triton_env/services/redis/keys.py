"""The keys of a logical database by their beginnings, as far as some of them show in a bounded time."""

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import nsmallest

from triton_env.services.base_insight import ROWS, TEXT, Column, Row, Table, cut, readable, table_of
from triton_env.services.redis.connection import KEYS, Connection

_CALLS = 100
"""How often SCAN is asked where it has found a key; where it has not, until the time is over."""
_SAMPLE = 10
"""Keys of a prefix of which type, time to live and memory are asked for."""
_COLUMNS = (
    Column("key"),
    Column("keys", "number"),
    Column("type"),
    Column("expires in", "seconds"),
    Column("memory", "bytes"),
)
_SEPARATOR = b":"


def key_table(connection: Connection, number: int, prefix: bytes, seconds: float, mark: str) -> Table:
    """The keys that begin so. Those that go on alike up to a colon are one row, with the most keys first.

    Args:
        number: of the logical database.
        seconds: after which no more keys are looked for.
        mark: of the rows.
    """
    total = connection.ask("DBSIZE")
    keys, looked, is_all = _found(connection, prefix, seconds)
    groups = sorted(_groups(keys, prefix), key=lambda group: (-len(group[1]), group[0]))
    shown = groups[:ROWS]
    samples = [nsmallest(_SAMPLE, members) for _, members in shown]
    asked = [(*words, key) for each in samples for key in each for words in (("TYPE",), ("PTTL",), ("MEMORY", "USAGE"))]
    answers = iter(connection.try_all(asked))
    rows = []
    for (name, members), sample in zip(shown, samples, strict=True):
        found = [each for each in ([next(answers) for _ in range(3)] for _ in sample) if each[0] not in (b"none", None)]
        if not found:  # gone since
            continue
        is_group = len(members) > 1
        kinds = ", ".join(sorted({kind.decode() for kind, _, _ in found}))
        left = [ttl / 1000 for _, ttl, _ in found if ttl is not None and ttl >= 0]
        sizes = [size for _, _, size in found if size is not None]
        memory = round(sum(sizes) / len(sizes) * len(members)) if sizes else None
        opens = ("keys" if is_group else "value") if is_short(name) else ""
        cells = (cut(readable(name)), len(members), kinds, min(left, default=None), memory)
        rows.append(Row(cells, opens, f"{number}/{readable(name)}" if opens else "", mark=mark))
    return table_of(_COLUMNS, rows, _note(shown, total, looked, is_all=is_all), is_cut=not is_all or len(groups) > ROWS)


def exactly(text: bytes) -> bytes:
    """A pattern that this text alone matches."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", text)


def is_short(name: bytes) -> bool:
    """Whether a name may be an argument, which goes into an address."""
    return len(name) <= TEXT


def _found(connection: Connection, prefix: bytes, seconds: float) -> tuple[set[bytes], int, bool]:
    """Keys that begin so, how many keys were looked at, and whether those are all."""
    # A key that is named in full is not missed among millions.
    keys = {prefix} if prefix and connection.ask("EXISTS", prefix) else set()
    cursor, calls, end = b"0", 0, time.monotonic() + seconds
    while True:
        cursor, found = connection.ask("SCAN", cursor, "MATCH", exactly(prefix) + b"*", "COUNT", KEYS)
        keys.update(found)
        calls += 1
        if cursor == b"0" or (keys and calls >= _CALLS) or time.monotonic() > end:
            return keys, calls * KEYS, cursor == b"0"


def _groups(keys: set[bytes], prefix: bytes) -> Iterator[tuple[bytes, Sequence[bytes]]]:
    """Names with their keys: a beginning that several have in common, or the key itself."""
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for key in keys:
        head, colon, _ = key[len(prefix) :].partition(_SEPARATOR)
        found[prefix + head + colon if colon else key].append(key)
    for name, members in found.items():
        if len(members) == 1:
            yield members[0], members
        else:
            # On to where they differ: names such as `:1:users:` do not take a click for each colon.
            first, last = min(members), max(members)
            same = next(
                (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
            )
            yield first[: max(len(name), first.rfind(_SEPARATOR, 0, same) + 1)], members


def _note(shown: Sequence[tuple[bytes, Sequence[bytes]]], total: int, looked: int, *, is_all: bool) -> str:
    note = "" if is_all else f"Of {total} keys, {min(total, looked)} were looked at."
    if any(len(members) > _SAMPLE for _, members in shown):
        note += f" Of a prefix, {_SAMPLE} keys show types, the next to expire, and memory."
    elif any(len(members) > 1 for _, members in shown):
        note += " Of a prefix, the next key to expire is shown."
    return note.strip()
