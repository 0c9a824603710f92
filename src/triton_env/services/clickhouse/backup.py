"""Saving ClickHouse."""

from functools import partial
from itertools import chain
from typing import Any

from triton_env.archive.archive import ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.steps import Meter
from triton_env.services import ClickHouse
from triton_env.services.base_backup import KnownSpaces, Programs, left_by_restores, unrecorded
from triton_env.services.clickhouse import access, schema
from triton_env.services.clickhouse.http import Http, ServerError, quoted
from triton_env.services.names import is_of_restore, is_users, named_as_spaces

INDEX = "clickhouse/index.json"

_HIDDEN = "'[HIDDEN]'"
_READING = {
    "max_execution_time": "0",
    "max_result_rows": "0",
    "max_result_bytes": "0",
    # A table with the engine File that never got a row has no file.
    "engine_file_empty_if_not_exists": "1",
}
_GONE = frozenset({10, 16, 47, 60, 81, 218})
"""Errors for columns, tables and databases that do not exist, or no longer."""
_TRIES = 4
"""How often the list is read again, since something in it was gone when its turn came."""


def save(
    service: ClickHouse, programs: Programs, archive: ArchiveWriter, meter: Meter, spaces: KnownSpaces
) -> SavedService:
    """Save the user's databases; see `Saver`.

    Each table is a snapshot by itself. One that is renamed or changed before its turn is saved as it is then; one that
    is dropped is left out and counted.

    Raises:
        ServerError: the server refused a query, or broke an answer off.
    """
    with Http(service) as http:
        saver = _Saver(http, archive, meter, service.name)
        saver.save_all()
        # In the end: databases may have come or gone since.
        there = {entry["database"] for entry in saver.objects}
        databases = schema.databases(http)
        there -= {database["name"] for database in databases}
        databases += [{"name": name, "engine": schema.RENAMEABLE, "comment": ""} for name in sorted(there)]
        index = users_part({"databases": databases, "functions": schema.functions(http), "objects": saver.objects})
        remains = left_by_restores(each["name"] for each in databases if is_of_restore(each["name"]))
        others = unrecorded(spaces, partial(_unrecorded, http))
        notes = [
            *saver.notes,
            *schema.left_out(http, is_users),
            *schema.of_other_engines(index),
            *access.unsaved(http, service.user),
            *remains,
            *others,
        ]
    archive.add_json(INDEX, service.name, "index", index, title=service.title)
    return SavedService(
        service.server_version(), tuple(database["name"] for database in index["databases"]), tuple(notes)
    )


def _unrecorded(http: Http, known: frozenset[str]) -> list[str]:
    names = [database["name"] for database in schema.databases(http)]
    return [f"the database {name}" for name in named_as_spaces(names, known)]


def users_part(index: dict[str, Any]) -> dict[str, Any]:
    """What of these databases and objects is the user's: neither isolation nor a restore made it."""
    return index | {
        "databases": [database for database in index["databases"] if is_users(database["name"])],
        "objects": [entry for entry in index["objects"] if is_users(entry["database"])],
    }


class _Saver:
    """Saves what is listed, and what comes under another name while it does."""

    def __init__(self, http: Http, archive: ArchiveWriter, meter: Meter, service: str) -> None:
        self._http = http
        self._archive = archive
        self._meter = meter
        self._service = service
        self._number = 0
        self.objects: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def save_all(self) -> None:
        """Save everything. What is gone when its turn comes may have another name or columns by now, or be gone."""
        saved: set[tuple[str, str]] = set()
        gone: set[tuple[str, str]] = set()
        for _ in range(_TRIES):
            gone.clear()
            for entry in schema.objects(self._http):
                name = (entry["database"], entry["name"])
                if name in saved or not is_users(entry["database"]):
                    continue
                if self._save(entry):
                    saved.add(name)
                else:
                    gone.add(name)
            if not gone:
                return
        self.notes.append(
            f"{len(gone)} tables of ClickHouse disappeared or changed while being read, so they are not saved: "
            f"{', '.join(f'{database}.{name}' for database, name in sorted(gone))}."
        )

    def _save(self, entry: dict[str, Any]) -> bool:
        """Save an object with its rows; returns False where it is gone."""
        name = f"{entry['database']}.{entry['name']}"
        notes = []
        if _HIDDEN in entry["definition"]:
            notes.append(f"{name} has a password, which the server does not show: make it again after a restore.")
        if entry["source"] is not None:
            if not entry["columns"]:
                return False  # gone between the list of columns and that of tables
            self._meter.begin(f"table {name}")
            pieces = self._http.stream(_select(entry), _READING)
            try:
                # Before there is a member for it.
                first = next(pieces, b"")
            except ServerError as error:
                if error.code in _GONE:
                    return False
                raise
            entry["member"] = f"clickhouse/table-{self._number}.native"
            self._number += 1
            with self._archive.member(entry["member"], self._service, "table", self._meter.count) as stream:
                for piece in chain((first,), pieces):
                    stream.write(piece)
        elif entry["kind"] == "TABLE":
            notes.append(f"{name} has the engine {entry['engine']}: its statement is saved, no rows.")
        self.objects.append(entry)
        self.notes += notes
        return True


def _select(entry: dict[str, Any]) -> str:
    columns = ", ".join(map(quoted, entry["columns"]))
    return f"SELECT {columns} FROM {quoted(*entry['source'])} FORMAT Native"  # noqa: S608 - quoted names
