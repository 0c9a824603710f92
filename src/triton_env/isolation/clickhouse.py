"""ClickHouse: a space is a database."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Final

from triton_env.backup.clickhouse.http import Http, ServerError, literal, quoted
from triton_env.backup.clickhouse.schema import SYSTEM
from triton_env.isolation import clickhouse_access
from triton_env.isolation.base import NAMESPACE, SNAPSHOT, TEMPLATE, ContentLost, Isolation, Space
from triton_env.isolation.clickhouse_copy import THREADS, UNCHECKED, UNSYNCED, Copying
from triton_env.isolation.clickhouse_names import Account
from triton_env.services import ClickHouse

_STAGED: Final = "__new"
"""Ends the name of a database that is about to take the place of the one whose name it begins with."""
_SPACE: Final = re.compile(f"({NAMESPACE}|{TEMPLATE}|{SNAPSHOT})[a-z0-9_]+")
_FROZEN: Final = (TEMPLATE, SNAPSHOT)
"""Spaces that nobody changes once they are made."""
_DEFAULT: Final = "default"
"""The database in which clients are that name none; it cannot be missed."""


_CONTENTS: Final = r"""
SELECT database AS name, toUInt32(count()) AS tables, toString(sumIf(total_rows, is_exact)) AS rows,
       toUInt32(countIf(total_rows > 0 AND is_merged)) AS filled
FROM (
    SELECT database, total_rows, position(engine_full, ' TTL ') = 0 AS stays,
           stays AND engine IN ('MergeTree', 'Memory', 'Log', 'TinyLog', 'StripeLog') AS is_exact,
           stays AND match(engine, '^(Replacing|Summing|Aggregating)MergeTree$') AS is_merged
    FROM system.tables WHERE database IN ({}) AND NOT is_temporary AND NOT match(name, '^\\.(inner|tmp)')
) GROUP BY database
"""
"""What databases with tables hold: how many, and their rows, as far as a server leaves these alone.

It merges rows of some engines, removes those whose time is over, and fills inner tables of views anew.
"""


class ClickHouseIsolation(Isolation[ClickHouse]):
    """What ClickHouse does with spaces; see `Isolation`.

    Users, roles, quotas, functions and named collections belong to the server, not to a database: all spaces share
    them. So do tables see other spaces that name their databases themselves, such as `Merge(REGEXP('.*'), 'claims')`.
    """

    name = ClickHouse.name

    def __init__(self, service: ClickHouse) -> None:
        super().__init__(service)
        self._http = Http(service, connections=2 * THREADS)
        self._frozen: dict[str, tuple[str, Copying]] = {}

    def bound(self, space: Space) -> ClickHouse:
        if space.is_own:
            return self._service
        return ClickHouse(self._service._settings.updated(clickhouse_db=space.id), self._service.placement)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        """Make a space; see `Isolation.create`.

        Tables, views and dictionaries of a source name the copy where they named the source. Rows that wait in a
        Buffer or Distributed table of the source are written first, and mutations are waited for.

        Raises:
            IsolationFailed: the source has something that cannot be copied: tables whose data a keeper knows
                (ReplicatedMergeTree, KeeperMap), a Set with rows, a mutation that fails, a dictionary with a password
                of another user or server.
        """
        database = self._database(space)
        if source is None:
            self._make(database)
            return
        copying = self._copying(source)
        self._make(database, copying.comment)
        try:
            copying.make(copying.items(database), database)
        except BaseException:
            self._drop(database)
            raise

    def drop(self, space: Space) -> None:
        database = self._database(space)
        self._drop(database)
        self._drop(database + _STAGED)

    def replace(self, space: Space, source: Space | None) -> None:
        database = self._database(space)
        if source is None:
            self._make_empty(database)
            return
        copying = self._copying(source)
        staged = database + _STAGED
        self._make(staged)
        try:
            items = copying.items(staged)
            alone = [item for item in items if item.stands_alone]
            copying.make(alone, staged)
            # What names other tables cannot be renamed. It is made here once to see that it can be, without its rows.
            rehearsed = copying.make([item for item in items if not item.stands_alone], staged, filled=False)
            for item in reversed(rehearsed):
                kind = "DICTIONARY" if item.engine == "Dictionary" else "TABLE"
                self._http.run(f"DROP {kind} {quoted(staged, item.name)} SYNC", UNCHECKED)
            self._make_empty(database, copying.comment)
            if alone:
                moves = (f"{quoted(staged, item.name)} TO {quoted(database, item.name)}" for item in alone)
                self._http.run(f"RENAME TABLE {', '.join(moves)}", UNCHECKED)
            copying.make([item for item in copying.items(database) if not item.stands_alone], database)
        finally:
            self._drop(staged)

    def record(self, space: Space) -> str:
        held = self._contents(space.id).get(space.id, {})
        server = clickhouse_access.removals(self._http)
        if not held and not server and not self._copying(space).comment:
            return ""
        return json.dumps({"held": held, "server": server})

    def verify(self, source: Space, record: str) -> None:
        self._verify(self._contents(source.id), source, record)

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        found = self._contents(copy.id, *([source.id] if source and is_new else []))
        if source and is_new:
            self._verify(found, source, record)
        self._verify(found, copy, record or '{"held": {}}')

    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        """Bring the server back to what it was after the start; see `Isolation.clear`.

        Of what belongs to the whole server, such as users and functions, that stays which a kept space may need: all of
        it where clients use one, and what was there when a template or snapshot was finished.
        """
        own = self._service.database
        stay = {*SYSTEM, _DEFAULT, own, *(self._database(space) for space in kept)}
        for name in self._databases():
            if name not in stay:
                self._drop(name)
        for name in {_DEFAULT, own} - {self._database(space) for space in kept}:
            self._make_empty(name)
        if any(space.id.startswith(NAMESPACE) for space in kept if space not in idle):
            return
        needed = {each for record in records if record for each in json.loads(record)["server"]}
        clickhouse_access.remove_all(self._http, needed)

    def found(self) -> frozenset[str]:
        ids = {name.removesuffix(_STAGED) for name in self._databases()} - {self._service.database}
        return frozenset(name for name in ids if _SPACE.fullmatch(name))

    def close(self) -> None:
        self._http.__exit__()

    def _database(self, space: Space) -> str:
        return space.id or self._service.database

    def _contents(self, *databases: str) -> dict[str, dict[str, int]]:
        """What those of these databases hold that have tables: see `_CONTENTS`."""
        rows = self._http.rows(_CONTENTS.format(", ".join(map(literal, databases))))
        return {row.pop("name"): {name: int(count) for name, count in row.items()} for row in rows}

    def _verify(self, found: Mapping[str, Mapping[str, int]], space: Space, record: str) -> None:
        there, expected = found.get(space.id, {}), json.loads(record)["held"]
        if not there and space.id not in self._databases():
            raise ContentLost(f"the database {space.id} was dropped")
        for name, count in expected.items():
            if there.get(name, 0) < count:
                what = {"filled": "tables with rows"}.get(name, name)
                raise ContentLost(f"the database {space.id} has {there.get(name, 0)} {what} instead of {count}")

    def _databases(self) -> list[str]:
        return [row["name"] for row in self._http.rows("SELECT name FROM system.databases")]

    def _copying(self, source: Space) -> Copying:
        """What is to be known of a source. That of a frozen one is kept, as long as it is the same database."""
        database = self._database(source)
        query = f"SELECT toString(uuid) AS uuid, comment FROM system.databases WHERE name = {literal(database)}"  # noqa: S608
        found = self._http.rows(query)
        if not found:
            raise ServerError(f"There is no database {database}.")
        uuid, comment = found[0]["uuid"], found[0]["comment"]
        known = self._frozen.get(database)
        if known is not None and known[0] == uuid:
            return known[1]
        copying = Copying(self._http, database, comment, Account(self._service.user, self._service.password))
        if database.startswith(_FROZEN):
            self._frozen[database] = (uuid, copying)
        return copying

    def _make(self, database: str, comment: str = "") -> None:
        """Make a database that is not there; what is there of that name goes."""
        statement = f"CREATE DATABASE {quoted(database)}" + (f" COMMENT {literal(comment)}" if comment else "")
        try:
            self._http.run(statement, UNSYNCED)
        except ServerError as error:
            # Not asked for before: that takes as long as making it.
            if "DATABASE_ALREADY_EXISTS" not in str(error):
                raise
            self._drop(database)
            self._http.run(statement, UNSYNCED)

    def _make_empty(self, database: str, comment: str = "") -> None:
        if database != _DEFAULT:
            self._drop(database)
            self._make(database, comment)
            return
        for row in self._http.rows(f"SELECT name, engine FROM system.tables WHERE database = {literal(_DEFAULT)}"):  # noqa: S608
            kind = "DICTIONARY" if row["engine"] == "Dictionary" else "TABLE"
            # An inner table goes with its view, which may come before it.
            self._http.run(f"DROP {kind} IF EXISTS {quoted(_DEFAULT, row['name'])} SYNC", UNCHECKED)

    def _drop(self, database: str) -> None:
        """Drop a database with its files.

        With SYNC, since tables are kept for eight minutes otherwise:
        https://clickhouse.com/docs/sql-reference/statements/drop. It waits for queries that read them, so these are
        ended first.
        """
        self._frozen.pop(database, None)
        self._http.run(f"KILL QUERY WHERE current_database = {literal(database)} ASYNC")
        self._http.run(f"DROP DATABASE IF EXISTS {quoted(database)} SYNC", UNCHECKED)
