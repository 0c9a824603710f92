"""Restoring ClickHouse."""

from collections.abc import Iterator
from secrets import token_hex
from typing import Any

from triton_env import interrupts
from triton_env.backup.archive import CHUNK, Archive
from triton_env.backup.base import PREFIX, TRUST, HalfApplied, RunsPrograms
from triton_env.backup.clickhouse import schema, statements
from triton_env.backup.clickhouse.dump import INDEX
from triton_env.backup.clickhouse.http import Http, ServerError, literal, quoted
from triton_env.backup.steps import Meter
from triton_env.errors import RestoreFailed
from triton_env.printable import one_line
from triton_env.services import ClickHouse, Service

_LOADING = {
    # The rows as they were: not merged, not left out as repeated, with the values that columns had.
    "optimize_on_insert": "0",
    "insert_deduplicate": "0",
    "async_insert": "0",
    "insert_allow_materialized_columns": "1",
    "max_partitions_per_insert_block": "0",
    "max_execution_time": "0",
}
_SHOWN = 6
"""How many things are named in a message."""
_RENAMING = {"check_table_dependencies": "0", "check_referential_table_dependencies": "0"}
_KINDS_OF_TYPES = """
SELECT name FROM system.settings
WHERE type = 'Bool' AND (match(name, '^allow_experimental_.*type') OR name LIKE 'allow_suspicious_%'
                         OR match(name, '^enable_.*_type$'))
"""
"""What a server may want to be told before it makes a table that it had already."""


class ClickHouseRestorer:
    """Restores ClickHouse; see `Restorer`.

    Databases that are not in the backup are dropped. Tables are loaded in databases of other names. Then the databases
    that are there get other names too, and dictionaries, views and what else names other tables are made in their final
    place, since ClickHouse does not change names within statements. Materialized views come last, so that no row goes
    through one again.
    """

    def __init__(self, service: Service, program: RunsPrograms, archive: Archive, meter: Meter) -> None:
        assert isinstance(service, ClickHouse)
        self._service = service
        self._archive = archive
        self._meter = meter
        self._form = archive.read_index(INDEX, statements.Index)
        self._index: dict[str, Any] = self._form.model_dump()
        self._mark = PREFIX + token_hex(4)
        self._made: list[str] = []
        self._new_functions: list[str] = []
        with self._translated() as http:
            self._there = {database["name"]: database for database in schema.databases(http)}
            self._objects_there = schema.objects(http)
            self._functions_there = {row["name"]: str(row["statement"]) for row in schema.functions(http)}
        # Those of another engine cannot be renamed: what they get is made in place.
        self._in_place = {name for name, database in self._there.items() if database["engine"] != schema.RENAMEABLE}
        # As empty as they shall be: left alone.
        filled = {entry["database"] for entry in (*self._objects_there, *self._index["objects"])}
        self._left_alone = {
            database["name"]
            for database in self._index["databases"]
            if self._there.get(database["name"], {}).get("comment") == database["comment"]
        } - filled
        self._staged = {
            database["name"]: f"{self._mark}_new_{number}"
            for number, database in enumerate(self._index["databases"])
            if database["name"] not in self._in_place | self._left_alone
        }

    def check(self) -> None:
        self._check_statements()
        for entry in self._objects_there:
            if entry["database"] in self._in_place:
                engine = self._there[entry["database"]]["engine"]
                raise RestoreFailed(
                    f"The ClickHouse database {entry['database']} is not empty and cannot be replaced: "
                    f"its engine {engine} knows no RENAME.",
                    where=f"{self._service.host}:{self._service.http_port}",
                    cause=f"it holds {entry['name']}",
                    hint=f"move it, or: DROP TABLE {quoted(entry['database'], entry['name'])}",
                )

    def _check_statements(self) -> None:
        """See that all statements are what they claim, and that what they make stays within the server.

        Raises:
            RestoreFailed: one does not; it is named.
        """
        names = {database.name for database in self._form.databases}
        found = []
        try:
            for function in self._form.functions:
                statements.check_function(function)
            for entry in self._form.objects:
                statements.check_entry(entry)
                if entry.database not in names:
                    raise statements.NotAllowed(f"{entry.database}.{entry.name} is in none of its databases")
                if words := statements.outside(entry):
                    found.append(f"{entry.database}.{entry.name} ({words})")
            if taken := sorted(names & set(schema.SYSTEM)):
                raise statements.NotAllowed(f"the database {taken[0]} is the server's own")
        except statements.NotAllowed as error:
            raise self._archive.refused(str(error)) from error
        if found and not self._archive.trusted:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise RestoreFailed(
                "The backup holds ClickHouse objects that read files, run programs, or connect to other servers: "
                f"{', '.join(map(one_line, found[:_SHOWN]))}{more}.",
                where=str(self._archive.path),
                hint=TRUST,
            )

    def present(self) -> list[str]:
        filled = {entry["database"] for entry in self._objects_there}
        usual = {self._service.database, "default", *self._in_place}
        return [f"the database {name}" for name in self._there if name in filled or name not in usual]

    def stage(self) -> None:
        with self._translated() as http:
            self._types = {row["name"]: "1" for row in http.rows(_KINDS_OF_TYPES)}
            for database in self._index["databases"]:
                if database["name"] in self._staged:
                    name = self._staged[database["name"]]
                    self._made.append(name)
                    comment = f" COMMENT {literal(database['comment'])}" if database["comment"] else ""
                    http.run(f"CREATE DATABASE {quoted(name)} ENGINE = {schema.RENAMEABLE}{comment}")
            for function in self._index["functions"]:
                # Tables and views may use them. Those that are there stay as they are for now.
                if function["name"] not in self._functions_there:
                    self._new_functions.append(function["name"])
                    http.run(function["statement"])
            for entry in self._early():
                self._make(http, entry, self._staged[entry["database"]])

    def swap(self) -> None:
        self._meter.begin("taking over")
        undo: list[str] = []
        with Http(self._service) as http:
            try:
                trash = self._take_over(http, undo)
                self._make_late(http, undo)
            except BaseException as error:
                self._put_back(http, undo, error)
                raise
            self._made.clear()
            self._new_functions.clear()
            try:
                for name in trash:
                    http.run(f"DROP DATABASE {quoted(name)} SYNC", _RENAMING)
                http.run(f"CREATE DATABASE IF NOT EXISTS {quoted(self._service.database)}")
            except ServerError as error:
                raise HalfApplied(f"it was restored, but not all of {', '.join(trash)} are dropped: {error}") from error

    def discard(self) -> None:
        if not self._made and not self._new_functions:
            return
        with Http(self._service) as http:
            while self._made:
                http.run(f"DROP DATABASE IF EXISTS {quoted(self._made[-1])} SYNC", _RENAMING)
                self._made.pop()
            while self._new_functions:
                http.run(f"DROP FUNCTION IF EXISTS {quoted(self._new_functions[-1])}")
                self._new_functions.pop()

    def _early(self) -> list[dict[str, Any]]:
        """Tables that name no others: they can be loaded under any name."""
        return [entry for entry in self._index["objects"] if self._is_early(entry)]

    def _is_early(self, entry: dict[str, Any]) -> bool:
        return (
            entry["kind"] == "TABLE"
            and entry["source"] is not None
            and not entry["after"]
            and entry["database"] in self._staged
        )

    def _make(self, http: Http, entry: dict[str, Any], database: str) -> None:
        """Make an object, with its rows."""
        name = f"{entry['database']}.{entry['name']}"
        try:
            http.run(schema.create(entry, database), self._types)
            if entry["member"]:
                self._meter.begin(f"table {name}")
                columns = ", ".join(map(quoted, entry["columns"]))
                statement = f"INSERT INTO {quoted(database, entry['name'])} ({columns}) FORMAT Native"
                http.insert(statement, self._pieces(entry["member"]), _LOADING | self._types)
        except ServerError as error:
            raise _NotMade(f"{entry['kind'].lower()} {name}: {error}") from error

    def _pieces(self, member: str) -> Iterator[bytes]:
        with self._archive.member(member) as stream:
            while data := stream.read(CHUNK):
                self._meter.count(len(data))
                yield data

    def _take_over(self, http: Http, undo: list[str]) -> list[str]:
        """Give every database its final name, and those that were there others, which are returned.

        `undo` gets the statements that put it all back, the first to do last.
        """
        trash = []
        for function in self._index["functions"]:
            before = self._functions_there.get(function["name"], "")
            if before not in ("", function["statement"]):
                undo.append(_replacing(before))
                http.run(_replacing(function["statement"]))
        # A view that feeds on rows finds its source by name: it would get the rows of the new table of that name.
        for entry in self._objects_there:
            if entry["kind"] == "MATERIALIZED VIEW":
                name = quoted(entry["database"], entry["name"])
                undo.append(f"ATTACH TABLE IF NOT EXISTS {name}")
                http.run(f"DETACH TABLE {name} SYNC", _RENAMING)
        for number, name in enumerate(sorted(set(self._there) - self._in_place - self._left_alone)):
            other = f"{self._mark}_old_{number}"
            self._rename(http, name, other, undo)
            trash.append(other)
        for name, staged in self._staged.items():
            self._rename(http, staged, name, undo)
        return trash

    @staticmethod
    def _rename(http: Http, before: str, after: str, undo: list[str]) -> None:
        # Noted first: whoever is broken off in between does not know whether the server did it.
        undo.append(f"RENAME DATABASE IF EXISTS {quoted(after)} TO {quoted(before)}")
        http.run(f"RENAME DATABASE {quoted(before)} TO {quoted(after)}", _RENAMING)

    def _make_late(self, http: Http, undo: list[str]) -> None:
        """Make what names other tables: each when all that it names is there, and views that take rows last of all."""
        made = {(entry["database"], entry["name"]) for entry in self._early()}
        waiting = [entry for entry in self._index["objects"] if not self._is_early(entry)]
        known = {(entry["database"], entry["name"]) for entry in self._index["objects"]}
        waiting.sort(key=lambda entry: entry["kind"] == "MATERIALIZED VIEW")
        problem: _NotMade | None = None
        while waiting:
            postponed = []
            for entry in waiting:
                if {tuple(name) for name in entry["after"]} & known - made:
                    postponed.append(entry)
                    continue
                try:
                    self._make_in_place(http, entry, undo)
                except _NotMade as error:
                    # It may name something that the server does not list as a dependency.
                    problem = error
                    postponed.append(entry)
                else:
                    made.add((entry["database"], entry["name"]))
            if len(postponed) == len(waiting):
                raise problem or _NotMade(", ".join(f"{entry['database']}.{entry['name']}" for entry in waiting))
            waiting = postponed

    def _make_in_place(self, http: Http, entry: dict[str, Any], undo: list[str]) -> None:
        name = quoted(entry["database"], entry["name"])
        drop = f"DROP {'DICTIONARY' if entry['kind'] == 'DICTIONARY' else 'TABLE'} IF EXISTS {name} SYNC"
        try:
            self._make(http, entry, entry["database"])
        except _NotMade:
            http.run(drop, _RENAMING)
            raise
        if entry["database"] in self._in_place:
            # All others go with their database.
            undo.append(drop)

    def _put_back(self, http: Http, undo: list[str], error: BaseException) -> None:
        try:
            with interrupts.shielded():
                while undo:
                    http.run(undo[-1], _RENAMING)
                    undo.pop()
        except ServerError as failed:
            words = "; ".join(reversed(undo))
            raise HalfApplied(
                f"{error}; and putting back what was there failed: {failed}; still to do: {words}"
            ) from error

    def _translated(self) -> "_Translated":
        return _Translated(self._service)


def _replacing(statement: str) -> str:
    return statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)


class _NotMade(ServerError):
    """A table or view could not be made or filled."""


class _Translated:
    """Queries that change nothing that was there, with errors in our words."""

    def __init__(self, service: ClickHouse) -> None:
        self._service = service
        self._http = Http(service)

    def __enter__(self) -> Http:
        return self._http

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._http.__exit__()
        if isinstance(error, (ServerError, ValueError)):
            raise RestoreFailed(
                "ClickHouse could not be restored.",
                where=f"{self._service.host}:{self._service.http_port}",
                cause=str(error),
            ) from error
