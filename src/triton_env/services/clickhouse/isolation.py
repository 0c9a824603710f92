"""ClickHouse: a space is a database."""

import json
import re
from collections.abc import Collection, Mapping
from operator import gt
from typing import Any, Final

from triton_env.services import ClickHouse
from triton_env.services.base_isolation import NAMESPACE, PREFIX, SNAPSHOT, TEMPLATE, ContentLost, Isolation, Space
from triton_env.services.clickhouse import access
from triton_env.services.clickhouse.claims import ClickHouseBoard
from triton_env.services.clickhouse.copying import THREADS, UNSYNCED, DatabaseCopier
from triton_env.services.clickhouse.http import Http, ServerError, literal, quoted
from triton_env.services.clickhouse.renaming import Account
from triton_env.services.clickhouse.schema import SYSTEM, UNCHECKED
from triton_env.services.names import is_space, is_users

_STAGED: Final = "__new"
"""Ends the name of a database that is about to take the place of the one whose name it begins with."""
_SPACE: Final = re.compile(f"({NAMESPACE}|{TEMPLATE}|{SNAPSHOT})[a-z0-9_]+")
_PART: Final = "__"
"""Between the id of a snapshot and the name of another database that it holds, in hexadecimal digits."""
_FROZEN: Final = (TEMPLATE, SNAPSHOT)
"""Spaces that do not change once they are made."""
_DEFAULT: Final = "default"
"""The database of clients that name none; it must always exist."""


_CONTENTS: Final = r"""
SELECT database AS name, toUInt32(count()) AS tables, toString(sumIf(total_rows, is_exact)) AS rows,
       toUInt32(countIf(total_rows > 0 AND is_merged)) AS filled,
       toString(sum(cityHash64(table))) AS names,
       if(max(is_refreshed), '0', toString(sum(cityHash64(table, toString(uuid))))) AS identities,
       toUInt32(max(is_fed)) AS fed,
       groupArrayIf((table, total_rows, toUInt64(0)), is_plain)
       || groupArrayIf((table, blocks, changes), blocks > 0) AS versions
FROM (
    SELECT database, table, uuid, assumeNotNull(total_rows) AS total_rows, position(engine_full, ' TTL ') = 0 AS stays,
           engine IN ('Memory', 'Log', 'TinyLog', 'StripeLog') AS is_plain, blocks, changes,
           stays AND NOT is_masked AND (is_plain OR engine = 'MergeTree') AS is_exact,
           stays AND NOT is_masked AND match(engine, '^(Replacing|Summing|Aggregating)MergeTree$') AS is_merged,
           engine = 'MaterializedView' AND position(create_table_query, ' REFRESH ') > 0 AS is_refreshed,
           is_refreshed OR match(engine, 'Queue$|^(Kafka|RabbitMQ|NATS|FileLog|Materialized(Postgre|My)SQL)$') AS is_fed
    FROM system.tables
    LEFT JOIN (
        SELECT database, table, toUInt64(max(max_block_number)) AS blocks, max(has_lightweight_delete) AS is_masked,
               max(toUInt64OrZero(splitByChar('_', name)[5])) AS changes
        FROM system.parts WHERE active AND database IN ({0}) GROUP BY database, table
    ) AS parts USING (database, table)
    WHERE database IN ({0}) AND NOT is_temporary AND NOT match(name, '^\\.(inner|tmp)')
) GROUP BY database
"""
"""What databases with tables hold: which ones, and their rows, as far as a server leaves these alone.

It merges rows of some engines, removes those whose time is over or that DELETE has masked, and fills inner tables of
views anew, or makes other tables of them where a view is refreshed. By merging, the numbers of inserted blocks and of
mutations, which are in the names of parts, do not become greater; by what clients change, they do.
"""
_IDENTITIES: Final = "identities"
_VERSIONS: Final = "versions"
_OF_SOURCE: Final = (_IDENTITIES, _VERSIONS)
"""In what a copy is not as its source."""


class ClickHouseIsolation(Isolation[ClickHouse]):
    """What ClickHouse does with spaces; see `Isolation`.

    Users, roles, quotas, functions and named collections belong to the server, not to a database: all spaces share
    them. So do tables see other spaces that name their databases themselves, such as `Merge(REGEXP('.*'), 'claims')`.
    """

    shared_kinds = ("function", "user", "role", "policy", "quota", "profile", "collection")
    how_to_replace = "make it with CREATE OR REPLACE or IF NOT EXISTS"

    def __init__(self, service: ClickHouse) -> None:
        super().__init__(service)
        self._http = Http(service, connections=2 * THREADS)
        self._frozen: dict[str, tuple[str, DatabaseCopier]] = {}
        self._board = ClickHouseBoard(service)

    def board(self) -> ClickHouseBoard:
        return self._board

    def template_facts(self) -> tuple[str, ...]:
        return self._service.user, self._service.database

    def bound(self, space: Space) -> ClickHouse:
        if space.is_own:
            return self._service
        return self._service.with_settings(clickhouse_db=space.id)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        """Make a space; see `Isolation.create`.

        Tables, views and dictionaries of a source name the copy where they named the source. Rows that wait in a
        Buffer or Distributed table of the source are written first, and mutations are waited for.

        Raises:
            IsolationFailed: the source has something that cannot be copied: tables whose data a keeper knows
                (ReplicatedMergeTree, KeeperMap), a Set with rows, a mutation that fails, a dictionary with a password
                of another user or server.
        """
        if source is None:
            self._make(self._database(space))
            return
        pairs, names = self._pairs(space, source)
        try:
            for origin, database in pairs.items():
                copying = self._copying(origin)
                self._make(database, copying.comment)
                copying.make(copying.items(database, _without(names, origin)), database)
        except BaseException:
            for database in pairs.values():
                self._drop(database)
            raise

    def drop(self, space: Space) -> None:
        database = self._database(space)
        for name in [database, database + _STAGED, *self._parts(space)]:
            self._drop(name)

    def replace(self, space: Space, source: Space | None) -> None:
        """Make what is in `space` a copy; see `Isolation.replace`.

        A snapshot holds all databases of the environment. Those that were made after it are dropped at last.
        """
        if source is None:
            self._make_empty(self._database(space))
            return
        pairs, names = self._pairs(space, source)
        for origin, database in pairs.items():
            self._replace(origin, database, _without(names, origin))
        if space.is_own and not self.is_lasting:
            for name in self._others():
                if name not in pairs.values():
                    self._drop(name)

    def _pairs(self, space: Space, source: Space) -> tuple[dict[str, str], dict[str, str]]:
        """By their names the databases to copy, and by all names of the source those that are named instead."""
        pairs = {self._database(source): self._database(space)}
        if source.is_own and space.id.startswith(SNAPSHOT) and not self.is_lasting:
            pairs |= {name: _part(space, name) for name in self._others()}
        further = {part: bytes.fromhex(part.removeprefix(_part(source, ""))).decode() for part in self._parts(source)}
        # A namespace has one database. What names others in a snapshot, names the environment's.
        return (pairs | further if space.is_own else pairs), pairs | further

    def _others(self) -> list[str]:
        """The databases of the environment beside its own, but for `default` where that is empty."""
        beside = {*SYSTEM, self._service.database, self._service.database + _STAGED}
        beside |= {name for name in self._databases() if not is_users(name)}
        names = [name for name in self._databases() if name not in beside]
        return [name for name in names if name != _DEFAULT or self._contents(_DEFAULT)]

    def _parts(self, space: Space) -> list[str]:
        """The databases of a snapshot beside its first."""
        if not space.id.startswith(SNAPSHOT):
            return []
        return [name for name in self._databases() if name.startswith(_part(space, ""))]

    def _replace(self, origin: str, database: str, others: Mapping[str, str]) -> None:
        copying = self._copying(origin)
        if database == _DEFAULT:
            # Its engine may be another, and tables cannot be moved between databases of different engines.
            self._make_empty(database)
            copying.make(copying.items(database, others), database)
            return
        staged = (
            database + _STAGED if is_space(database) or database == self._service.database else f"{PREFIX}own{_STAGED}"
        )
        self._make(staged)
        try:
            items = copying.items(staged, others)
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
            copying.make([item for item in copying.items(database, others) if not item.stands_alone], database)
        finally:
            self._drop(staged)

    def record(self, space: Space) -> str:
        names = [space.id, *self._parts(space)]
        # First, since rows that wait are written then.
        comments = [self._copying(name).comment for name in names]
        found = self._contents(*names)
        server = access.removals(self._http)
        # A restored snapshot removes databases that were made later, also where it is empty.
        if not (found or server or comments[0] or space.id.startswith(SNAPSHOT)):
            return ""
        held = found.get(space.id, {})
        return json.dumps({"held": held, "parts": {name: found.get(name, {}) for name in names[1:]}, "server": server})

    def verify(self, source: Space, record: str) -> None:
        known = json.loads(record)
        self._verify({source.id: known["held"], **known.get("parts", {})})

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        held = json.loads(record)["held"] if record else {}
        before = {source.id: held} if source and is_new else {}
        self._verify(before | {copy.id: {name: count for name, count in held.items() if name not in _OF_SOURCE}})

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
        access.remove_all(self._http, needed)

    def found(self) -> frozenset[str]:
        ids = {name.removesuffix(_STAGED) for name in self._databases()} - {self._service.database}
        return frozenset(name for name in ids if _SPACE.fullmatch(name))

    def break_off(self) -> None:
        self._http.break_off()
        self._board.break_off()

    def close(self) -> None:
        self._board.close()
        self._http.close()

    def _database(self, space: Space) -> str:
        return space.id or self._service.database

    def _contents(self, *databases: str) -> dict[str, dict[str, Any]]:
        """What those of these databases hold that have tables: see `_CONTENTS`."""
        found: dict[str, dict[str, Any]] = {}
        for row in self._http.rows(_CONTENTS.format(", ".join(map(literal, databases)))):
            database, versions = row.pop("name"), row.pop(_VERSIONS)
            found[database] = {name: int(count) for name, count in row.items()}
            found[database][_VERSIONS] = {table: version for table, *version in versions}
        return found

    def _verify(self, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that databases are there, with what each is expected to hold."""
        # The server takes long to say what they hold.
        filled = [database for database, held in expected.items() if held]
        found = self._contents(*filled) if filled else {}
        for database, held in expected.items():
            self._compare(database, held, found.get(database, {}))

    def _compare(self, database: str, expected: Mapping[str, Any], there: Mapping[str, Any]) -> None:
        if not there and database not in self._databases():
            raise ContentLost(f"the database {database} was dropped")
        for name, count in expected.items():
            now = there.get(name, 0)
            if name == _VERSIONS and now:
                # One that is gone, the server has merged away.
                for table, version in {} if expected["fed"] else now.items():
                    if any(map(gt, version, count.get(table, (0, 0)))):
                        raise ContentLost(f"rows of {database}.{table} were changed")
            elif name in ("names", _IDENTITIES):
                if now != count:
                    raise ContentLost(f"the database {database} has other tables than it had")
            elif name in ("tables", "rows", "filled") and now < count:
                what = {"filled": "tables with rows"}.get(name, name)
                raise ContentLost(f"the database {database} has {now} {what} instead of {count}")

    def _databases(self) -> list[str]:
        return [row["name"] for row in self._http.rows("SELECT name FROM system.databases")]

    def _copying(self, database: str) -> DatabaseCopier:
        """What is to be known of a database. That of a frozen one is kept, as long as it is the same database."""
        query = f"SELECT toString(uuid) AS uuid, comment FROM system.databases WHERE name = {literal(database)}"  # noqa: S608
        found = self._http.rows(query)
        if not found:
            raise ServerError(f"The database {database} does not exist.")
        uuid, comment = found[0]["uuid"], found[0]["comment"]
        known = self._frozen.get(database)
        if known is not None and known[0] == uuid:
            return known[1]
        copier = DatabaseCopier(self._http, database, comment, Account(self._service.user, self._service.password))
        if database.startswith(_FROZEN):
            self._frozen[database] = (uuid, copier)
        return copier

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


def _part(space: Space, name: str) -> str:
    """The name of a database within a snapshot."""
    return f"{space.id}{_PART}{name.encode().hex()}"


def _without(names: Mapping[str, str], name: str) -> dict[str, str]:
    return {before: after for before, after in names.items() if before != name}
