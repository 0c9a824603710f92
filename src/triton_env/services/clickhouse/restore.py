"""Restoring ClickHouse."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from triton_env.archive.archive import Archive
from triton_env.archive.sealing import CHUNK
from triton_env.archive.steps import Meter
from triton_env.core.printable import listed, one_line
from triton_env.errors import RestoreFailed
from triton_env.services import ClickHouse
from triton_env.services.base_backup import TRUST, KnownSpaces, Note, Programs
from triton_env.services.clickhouse import schema, statements
from triton_env.services.clickhouse.backup import INDEX, users_part
from triton_env.services.clickhouse.http import Http, ServerError, literal, quoted
from triton_env.services.clickhouse.renaming import with_empty
from triton_env.services.clickhouse.takeover import ClickHouseTakeover, Plan, drop, rename, replacing
from triton_env.services.clickhouse.trying import in_working_order

_LOADING = {**schema.AS_THEY_ARE, "max_execution_time": "0"}
_LONGEST = 60
"""Characters of a database's name that fit into another one: names are those of files."""
_FUNCTIONS = """
SELECT name FROM system.table_functions
UNION ALL
SELECT name FROM system.functions
WHERE origin = 'ExecutableUserDefined' OR (origin = 'System' AND startsWith(lower(name), 'ai'))
"""
"""Table functions, and others that run programs or ask a language model elsewhere (aiGenerate)."""


class ClickHouseRestorer:
    """Restores ClickHouse; see `Restorer`.

    Databases that are not in the backup are dropped. Tables are loaded in databases of other names. Then the databases
    that are there get other names too, and dictionaries, views and what else names other tables are made in their final
    place, since ClickHouse does not change names within statements. Materialized views come last, so that no row goes
    through one again.
    """

    def __init__(
        self, service: ClickHouse, programs: Programs, archive: Archive, meter: Meter, spaces: KnownSpaces, mark: str
    ) -> None:
        self._service = service
        self._archive = archive
        self._meter = meter
        self._form = archive.read_index(INDEX, statements.Index)
        self._index = users_part(self._form.model_dump())
        with Http(self._service) as http:
            present = users_part({"databases": schema.databases(http), "objects": schema.objects(http)})
            functions = {row["name"]: str(row["statement"]) for row in schema.functions(http)}
        self._there = {database["name"]: database for database in present["databases"]}
        self._objects_there: list[dict[str, Any]] = present["objects"]
        # The one that clients of this environment expect is there in any case.
        wanted = {service.database: {"name": service.database, "comment": ""}}
        wanted |= {database["name"]: database for database in self._index["databases"]}
        # Those of another engine cannot be renamed: what they get is made in place.
        self._in_place = {name for name, database in self._there.items() if database["engine"] != schema.RENAMEABLE}
        # As empty as they shall be: left alone.
        filled = {entry["database"] for entry in (*self._objects_there, *self._index["objects"])}
        left_alone = {
            name for name, each in wanted.items() if self._there.get(name, {}).get("comment") == each["comment"]
        } - filled
        staged = [each for name, each in wanted.items() if name not in self._in_place | left_alone]
        self._comments = {database["name"]: database["comment"] for database in staged}
        defined = {row["name"]: str(row["statement"]) for row in self._index["functions"]}
        self._plan = Plan(
            {database["name"]: f"{mark}_new_{number}" for number, database in enumerate(staged)},
            {
                name: _old(mark, name, number)
                for number, name in enumerate(sorted({*self._there} - self._in_place - left_alone))
            },
            [(entry["database"], entry["name"]) for entry in self._objects_there if _feeds_others(entry)],
            [(e["kind"], e["database"], e["name"]) for e in self._index["objects"] if e["database"] in self._in_place],
            [name for name in defined if name not in functions],
            {name: functions[name] for name, new in defined.items() if functions.get(name, new) != new},
        )

    def check(self) -> None:
        self._check_statements()
        for entry in self._objects_there:
            if entry["database"] in self._in_place:
                engine = self._there[entry["database"]]["engine"]
                raise RestoreFailed(
                    f"The ClickHouse database {entry['database']} is not empty and cannot be replaced: "
                    f"its engine {engine} does not support RENAME.",
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
        with Http(self._service) as http:
            rows = http.rows(_FUNCTIONS)
        functions = statements.reaching_out(row["name"] for row in rows)
        try:
            for function in self._form.functions:
                statements.check_function(function)
                if words := statements.called_outside(function, functions):
                    found.append(f"{function.name} ({words})")
            for entry in self._form.objects:
                statements.check_entry(entry)
                if entry.database not in names:
                    raise statements.NotAllowed(f"{entry.database}.{entry.name} is in none of its databases")
                if words := statements.outside(entry, functions):
                    found.append(f"{entry.database}.{entry.name} ({words})")
            if taken := sorted(names & set(schema.SYSTEM)):
                raise statements.NotAllowed(f"the database {taken[0]} is the server's own")
        except statements.NotAllowed as error:
            raise self._archive.refused(str(error)) from error
        if found and not self._archive.trusted:
            raise RestoreFailed(
                "The backup holds ClickHouse objects that read files, run programs, or connect to other servers: "
                f"{listed([one_line(each) for each in found])}.",
                where=str(self._archive.path),
                hint=TRUST,
            )

    def present(self) -> list[str]:
        filled = {entry["database"] for entry in self._objects_there}
        usual = {self._service.database, "default", *self._in_place}
        return [f"the database {name}" for name in self._there if name in filled or name not in usual]

    def plan(self) -> dict[str, Any]:
        return asdict(self._plan)

    def stage(self) -> None:
        with Http(self._service) as http:
            self._types = schema.experimental(http)
            for database, staged in self._plan.staged.items():
                comment = f" COMMENT {literal(self._comments[database])}" if self._comments[database] else ""
                http.run(f"CREATE DATABASE {quoted(staged)} ENGINE = {schema.RENAMEABLE}{comment}")
            for function in self._index["functions"]:
                # Tables and views may use them. Those that are there stay as they are for now.
                if function["name"] in self._plan.new_functions:
                    http.run(function["statement"])
            for entry in self._early():
                self._make(http, entry, self._plan.staged[entry["database"]])

    def swap(self) -> None:
        self._meter.begin("taking over")
        with Http(self._service) as http:
            self._take_over(http)
            self._make_late(http)

    def finish(self, note: Note) -> None:
        ClickHouseTakeover(self._service, self._plan).finish()

    def _early(self) -> list[dict[str, Any]]:
        """Tables that name no others: they can be loaded under any name."""
        return [entry for entry in self._index["objects"] if self._is_early(entry)]

    def _is_early(self, entry: dict[str, Any]) -> bool:
        return (
            entry["kind"] == "TABLE"
            and entry["source"] is not None
            and not entry["after"]
            and entry["database"] in self._plan.staged
        )

    def _make(self, http: Http, entry: dict[str, Any], database: str) -> None:
        """Make an object, with its rows."""
        name = f"{entry['database']}.{entry['name']}"
        statement = schema.create(entry, database)
        empty = with_empty(statement) if entry["kind"] == "MATERIALIZED VIEW" else statement
        refreshed = empty != statement
        try:
            http.run(empty, self._types)
            if refreshed:
                # It would add rows to those of the backup while they are loaded.
                http.run(f"SYSTEM STOP VIEW {quoted(database, entry['name'])}")
            if entry["member"]:
                self._meter.begin(f"table {name}")
                columns = ", ".join(map(quoted, entry["columns"]))
                statement = f"INSERT INTO {quoted(database, entry['name'])} ({columns}) FORMAT Native"
                http.insert(statement, self._pieces(entry["member"]), _LOADING | self._types)
            if refreshed:
                http.run(f"SYSTEM START VIEW {quoted(database, entry['name'])}")
        except ServerError as error:
            raise _NotMade(f"{entry['kind'].lower()} {name}: {error}") from error

    def _pieces(self, member: str) -> Iterator[bytes]:
        with self._archive.member(member) as stream:
            while data := stream.read(CHUNK):
                self._meter.count(len(data))
                yield data

    def _take_over(self, http: Http) -> None:
        """Give every database its final name, and those that were there others."""
        for function in self._index["functions"]:
            if function["name"] in self._plan.functions:
                http.run(replacing(function["statement"]))
        # They find the other table by name: a view would get the rows of the new one of that name, and a buffer would
        # write its own into it when it is dropped. Detached, it writes them now.
        for database, name in self._plan.views:
            http.run(f"DETACH TABLE {quoted(database, name)} SYNC", schema.UNCHECKED)
        for before, after in self._plan.old.items():
            rename(http, before, after)
        for name, staged in self._plan.staged.items():
            rename(http, staged, name)

    def _make_late(self, http: Http) -> None:
        """Make what names other tables: each when all that it names is there, and views that take rows last of all."""
        late = [entry for entry in self._index["objects"] if not self._is_early(entry)]
        late.sort(key=lambda entry: entry["kind"] == "MATERIALIZED VIEW")
        missing = {(entry["database"], entry["name"]) for entry in late}

        def is_ready(entry: dict[str, Any]) -> bool:
            return missing.isdisjoint(tuple(name) for name in entry["after"])

        def make(entry: dict[str, Any]) -> None:
            try:
                self._make(http, entry, entry["database"])
            except _NotMade:
                drop(http, entry["kind"], entry["database"], entry["name"])
                raise
            missing.discard((entry["database"], entry["name"]))

        # One may name something that the server does not list as a dependency.
        in_working_order(late, make, is_ready)


def _feeds_others(entry: dict[str, Any]) -> bool:
    """Whether an object writes rows to other tables by itself."""
    return entry["kind"] == "MATERIALIZED VIEW" or entry["engine"] in ("Buffer", "Distributed")


def _old(mark: str, name: str, number: int) -> str:
    """What a database is called that is replaced: with its own name in it, unless that is very long."""
    return f"{mark}_old_{name if len(name) <= _LONGEST else number}"


class _NotMade(ServerError):
    """A table or view could not be made or filled."""
