"""How a restore of ClickHouse is finished or taken back: databases are renamed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triton_env.errors import RestoreUnfinished
from triton_env.services import ClickHouse
from triton_env.services.base_backup import Note, plan_from
from triton_env.services.clickhouse import schema
from triton_env.services.clickhouse.http import Http, quoted
from triton_env.services.clickhouse.schema import UNCHECKED


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore does to a ClickHouse.

    Attributes:
        staged: by the name in the end, that of each database in which it is loaded.
        old: by the name before, that which each database gets that is replaced.
        views: materialized views and what else feeds other tables, detached during the takeover, as database and name.
        in_place: what is made in databases that cannot be renamed: kind, database and name.
        new_functions: those that were not there before.
        functions: the statements of those that are replaced, by name.
    """

    staged: Mapping[str, str] = field(default_factory=dict)
    old: Mapping[str, str] = field(default_factory=dict)
    views: Sequence[Sequence[str]] = ()
    in_place: Sequence[Sequence[str]] = ()
    new_functions: Sequence[str] = ()
    functions: Mapping[str, str] = field(default_factory=dict)


class ClickHouseTakeover:
    """See `Takeover`.

    Args:
        plan: what `ClickHouseRestorer.plan` gave.
    """

    def __init__(self, service: ClickHouse, plan: Plan) -> None:
        self._service = service
        self._plan = plan

    def put_back(self) -> None:
        plan = self._plan
        with Http(self._service) as http:
            there = {database["name"] for database in schema.databases(http)}
            for kind, database, name in plan.in_place:
                drop(http, kind, database, name)
            for name, staged in plan.staged.items():
                if name in there and staged not in there and (name not in plan.old or plan.old[name] in there):
                    rename(http, name, staged)
                    there = there - {name} | {staged}
            for name, old in plan.old.items():
                if old in there:
                    if name in there:
                        self._make_way(http, name, old)
                    rename(http, old, name)
            for database, name in plan.views:
                http.run(f"ATTACH TABLE IF NOT EXISTS {quoted(database, name)}")
            for statement in plan.functions.values():
                http.run(replacing(statement))

    def discard(self) -> None:
        with Http(self._service) as http:
            for staged in self._plan.staged.values():
                http.run(f"DROP DATABASE IF EXISTS {quoted(staged)} SYNC", UNCHECKED)
            for name in self._plan.new_functions:
                http.run(f"DROP FUNCTION IF EXISTS {quoted(name)}")

    def finish(self) -> None:
        with Http(self._service) as http:
            for old in self._plan.old.values():
                http.run(f"DROP DATABASE IF EXISTS {quoted(old)} SYNC", UNCHECKED)

    def _make_way(self, http: Http, name: str, old: str) -> None:
        """Remove an empty database that an application made in the place of one that is set aside.

        Raises:
            RestoreUnfinished: it is not empty.
        """
        if any(entry["database"] == name for entry in schema.objects(http)):
            raise RestoreUnfinished(
                f"The ClickHouse database {name} was set aside by a restore, and another one has been filled in its "
                "place.",
                where=f"{self._service.host}:{self._service.http_port}",
                cause=f"{old} holds what was there before",
                hint=f"move one of them away: RENAME DATABASE {quoted(name)} TO {quoted(f'{name}_newer')}",
            )
        http.run(f"DROP DATABASE {quoted(name)} SYNC", UNCHECKED)


def takeover(service: ClickHouse, plan: Mapping[str, Any], note: Note) -> ClickHouseTakeover:
    """The takeover of a restore by what `ClickHouseRestorer.plan` gave; see `TakeoverOf`."""
    return ClickHouseTakeover(service, plan_from(Plan, plan))


def rename(http: Http, before: str, after: str) -> None:
    """Give a database another name."""
    http.run(f"RENAME DATABASE {quoted(before)} TO {quoted(after)}", UNCHECKED)


def drop(http: Http, kind: str, database: str, name: str) -> None:
    """Drop a table, view or dictionary, where it is there."""
    word = "DICTIONARY" if kind == "DICTIONARY" else "TABLE"
    http.run(f"DROP {word} IF EXISTS {quoted(database, name)} SYNC", UNCHECKED)


def replacing(statement: str) -> str:
    """The statement that makes a function in the place of one of the same name."""
    return statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
