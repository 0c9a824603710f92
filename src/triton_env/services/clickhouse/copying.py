"""Copying a ClickHouse database: statements with the other name in them, and rows at the cost of a hard link.

Tables of the MergeTree family share the files of their parts with the copy until one of the two changes them. The rows
of others, which are few by the nature of these (Memory, Log and the like), are read and written.

https://clickhouse.com/docs/sql-reference/statements/alter/partition#attach-partition-from
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from triton_env.core.threads import for_each
from triton_env.errors import IsolationFailed
from triton_env.services.clickhouse.http import Http, ServerError, literal, quoted
from triton_env.services.clickhouse.renaming import HIDDEN, Account, rename_database, with_empty, without_columns
from triton_env.services.clickhouse.schema import AS_THEY_ARE, INNER, UNCHECKED, belongs, experimental, holds_rows
from triton_env.services.clickhouse.trying import in_working_order

THREADS: Final = 4
UNSYNCED: Final = {"fsync_metadata": "0"}
"""For making what need not survive a power failure."""

_MUTATIONS_TIMEOUT: Final = 60
"""Seconds for changes to a table that the server works on behind the scenes."""
_LOADING: Final = {**AS_THEY_ARE, "engine_file_empty_if_not_exists": "1"}
_TABLES: Final = """
SELECT name, engine, engine_full, toString(uuid) AS uuid, create_table_query AS statement, total_rows AS rows
FROM system.tables WHERE database = {} AND NOT is_temporary ORDER BY name
"""
_MUTATIONS: Final = """
SELECT table, mutation_id, latest_fail_reason AS problem FROM system.mutations WHERE database = {} AND NOT is_done
"""
_COLUMNS: Final = """
SELECT name FROM system.columns
WHERE database = {} AND table = {} AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') ORDER BY position
"""
_SHARED: Final = re.compile(r"(Replicated|Shared).*MergeTree|KeeperMap")
"""Tables whose data is known to a keeper by a path: a copy would be one more replica."""
_FLUSHED: Final = {"Buffer": "OPTIMIZE TABLE {}", "Distributed": "SYSTEM FLUSH DISTRIBUTED {}"}


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table, view or dictionary of the source.

    Attributes:
        name: its name.
        uuid: its UUID, which is part of the names of its inner tables.
        engine: of its data, as the server calls it.
        engine_full: that with its arguments.
        rows: how many it has; None where the server does not know.
        statement: what makes it in the copy.
        needs: the names of others that have to be there before.
        inner: the tables that the server made for its data, by their names.
        stands_alone: whether it is a table that names neither another nor the database, so that it can be renamed.
    """

    name: str
    uuid: str
    engine: str
    engine_full: str
    rows: int | None
    statement: str
    needs: frozenset[str] = frozenset()
    inner: tuple[TableSpec, ...] = ()
    stands_alone: bool = False


class DatabaseCopier:
    """Copies one database.

    Args:
        http: the server, for several threads.

    Raises:
        IsolationFailed: something in it cannot be copied.
    """

    def __init__(self, http: Http, source: str, comment: str, account: Account) -> None:
        self.comment = comment
        self._http = http
        self._source = source
        self._account = account
        self._experimental: dict[str, str] | None = None
        self._rows = http.rows(_TABLES.format(literal(source)))
        for row in self._rows:
            self._check(row)
        self._settle()

    def items(self, target: str, others: Mapping[str, str] | None = None) -> list[TableSpec]:
        """What the copy `target` will have: each behind what it needs.

        Args:
            others: other databases that are named by its statements, and what the copy names instead.
        """
        others = others or {}
        names = frozenset(row["name"] for row in self._rows)
        inner = [row for row in self._rows if INNER.match(row["name"])]
        found: dict[str, TableSpec] = {}
        for row in self._rows:
            own = [each for each in inner if each is not row and belongs(each["name"], row)]
            rewritten = rename_database(row["statement"], self._source, target, names, self._account)
            if HIDDEN in rewritten.statement:
                raise IsolationFailed(
                    f"{self._source}.{row['name']} cannot be copied: the server does not show a password in it.",
                    where=f"the ClickHouse database {self._source}",
                    hint="let it read with the user of the environment, whose password is known, "
                    "or make it after the copy",
                )
            statement = rewritten.statement
            for before, after in others.items():
                statement = rename_database(statement, before, after, self._tables(before), self._account).statement
            statement = without_columns(statement) if row["engine"] == "Alias" else with_empty(statement)
            named = rewritten.names - {row["name"]}
            is_table = "View" not in row["engine"] and row["engine"] != "Dictionary"
            found[row["name"]] = TableSpec(
                row["name"],
                row["uuid"],
                row["engine"],
                row["engine_full"],
                row["rows"],
                statement,
                named & names,
                tuple(TableSpec(each["name"], "", each["engine"], "", each["rows"], "") for each in own),
                is_table and not named and not own,
            )
        made_with_others = {each.name for item in found.values() for each in item.inner}
        return list(_in_order([item for item in found.values() if item.name not in made_with_others]))

    def _tables(self, database: str) -> frozenset[str]:
        query = f"SELECT name FROM system.tables WHERE database = {literal(database)}"  # noqa: S608
        return frozenset(row["name"] for row in self._http.rows(query))

    def make(self, items: Sequence[TableSpec], target: str, *, filled: bool = True) -> list[TableSpec]:
        """Make these in the database `target`, with their rows, several at once where they need nothing.

        Returns:
            What was made, in that order.
        """
        alone = [item for item in items if item.stands_alone]
        for_each(alone, lambda item: self._make(item, target, filled), THREADS)
        others = [item for item in items if not item.stands_alone]
        # An engine may want something that no rule here finds in its statement.
        return alone + in_working_order(others, lambda item: self._make(item, target, filled))

    def _check(self, row: dict[str, Any]) -> None:
        problem = ""
        if _SHARED.fullmatch(row["engine"]):
            problem = f"a copy of a {row['engine']} table would be one more replica of it"
        elif row["engine"] == "Set" and row["rows"]:
            problem = "the rows of a Set cannot be read"
        if problem:
            raise IsolationFailed(
                f"{self._source}.{row['name']} cannot be copied: {problem}.",
                where=f"the ClickHouse database {self._source}",
                hint="use an engine of the MergeTree family without a keeper, or make it after the copy",
            )

    def _settle(self) -> None:
        """Have the server do what it has put off: the copy would lack it."""
        for row in self._rows:
            if row["engine"] in _FLUSHED:
                self._http.run(_FLUSHED[row["engine"]].format(quoted(self._source, row["name"])))
        deadline = time.monotonic() + _MUTATIONS_TIMEOUT
        while self._rows and (unfinished := self._http.rows(_MUTATIONS.format(literal(self._source)))):
            failed = next((each for each in unfinished if each["problem"]), None)
            if failed or time.monotonic() > deadline:
                each = failed or unfinished[0]
                raise IsolationFailed(
                    f"{self._source}.{each['table']} cannot be copied: a mutation of it is not finished.",
                    where=f"the mutation {each['mutation_id']}",
                    cause=each["problem"] or f"it has not ended within {_MUTATIONS_TIMEOUT} s",
                    hint=f"KILL MUTATION WHERE database = {literal(self._source)} AND table = {literal(each['table'])}",
                )
            time.sleep(0.02)

    def _make(self, item: TableSpec, target: str, filled: bool) -> None:
        # The database of the request is that of names without one.
        try:
            self._http.run(item.statement, {"database": target, **UNSYNCED})
        except ServerError:
            self._http.run(item.statement, {"database": target, **UNSYNCED, **self._allowed()})
        try:
            if filled:
                self._fill(item, target)
        except BaseException:
            self._http.run(f"DROP TABLE IF EXISTS {quoted(target, item.name)} SYNC", UNCHECKED)
            raise

    def _allowed(self) -> dict[str, str]:
        if self._experimental is None:
            self._experimental = experimental(self._http)
        return self._experimental

    def _fill(self, item: TableSpec, target: str) -> None:
        if not item.inner:
            self._load(item, item.name, target)
            return
        where = f"database = {literal(target)} AND name = {literal(item.name)}"
        uuid = self._http.rows(f"SELECT toString(uuid) AS uuid FROM system.tables WHERE {where}")[0]["uuid"]  # noqa: S608
        for each in item.inner:
            self._load(each, each.name.replace(item.uuid, uuid), target)

    def _load(self, item: TableSpec, name: str, target: str) -> None:
        if item.rows == 0:
            return
        source, copy = quoted(self._source, item.name), quoted(target, name)
        if item.engine.endswith("MergeTree"):
            self._http.run(f"ALTER TABLE {copy} ATTACH PARTITION ALL FROM {source}", UNSYNCED)
        # A File with a path of its own is an external file, which the copy reads as well.
        elif holds_rows(item.engine) or (item.engine == "File" and "," not in item.engine_full):
            rows = self._http.rows(_COLUMNS.format(literal(self._source), literal(item.name)))
            columns = ", ".join(quoted(row["name"]) for row in rows)
            self._http.run(f"INSERT INTO {copy} ({columns}) SELECT {columns} FROM {source}", _LOADING)  # noqa: S608


def _in_order(items: Iterable[TableSpec]) -> Iterator[TableSpec]:
    """Each behind what it needs, as far as there is such an order.

    So materialized views come behind the tables that they read, which have their rows by then: none goes through a view
    once more.
    """
    waiting = {item.name: item for item in items}
    while waiting:
        ready = [item for item in waiting.values() if not (item.needs & waiting.keys())] or list(waiting.values())
        for item in ready:
            del waiting[item.name]
            yield item
