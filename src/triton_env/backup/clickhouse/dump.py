"""Saving ClickHouse."""

from typing import Any

from triton_env.backup.archive import ArchiveWriter
from triton_env.backup.base import RunsPrograms, is_users
from triton_env.backup.clickhouse import schema
from triton_env.backup.clickhouse.http import Http, ServerError, quoted
from triton_env.backup.journal import Place
from triton_env.backup.manifest import SavedService
from triton_env.backup.steps import Meter
from triton_env.errors import BackupFailed
from triton_env.services import ClickHouse, Service

INDEX = "clickhouse/index.json"

_HIDDEN = "'[HIDDEN]'"
_UNLIMITED = {"max_execution_time": "0", "max_result_rows": "0", "max_result_bytes": "0"}


def save(service: Service, program: RunsPrograms, archive: ArchiveWriter, meter: Meter, place: Place) -> SavedService:
    """Save the user's databases; see `Saver`.

    Each table is a snapshot by itself.

    Raises:
        BackupFailed: the server refused a query, or broke an answer off.
    """
    assert isinstance(service, ClickHouse)
    notes: list[str] = []
    with Http(service) as http:
        try:
            index = users_part(
                {
                    "databases": schema.databases(http),
                    "functions": schema.functions(http),
                    "objects": schema.objects(http),
                }
            )
            for number, entry in enumerate(index["objects"]):
                if _HIDDEN in entry["definition"]:
                    notes.append(
                        f"{entry['database']}.{entry['name']} has a password, which the server does not tell: "
                        "make it again after a restore."
                    )
                if entry["source"] is not None:
                    entry["member"] = f"clickhouse/table-{number}.native"
                    meter.begin(f"table {entry['database']}.{entry['name']}")
                    with archive.member(entry["member"], service.name, "table", meter.count) as stream:
                        for piece in http.stream(_select(entry), _UNLIMITED):
                            stream.write(piece)
                elif entry["kind"] == "TABLE":
                    name = f"{entry['database']}.{entry['name']}"
                    notes.append(f"{name} has the engine {entry['engine']}: its statement is saved, no rows.")
        except (ServerError, ValueError) as error:
            raise BackupFailed(
                "ClickHouse could not be saved.", where=f"{service.host}:{service.http_port}", cause=str(error)
            ) from error
    archive.add_json(INDEX, service.name, "index", index)
    return SavedService(
        service.server_version(), tuple(database["name"] for database in index["databases"]), tuple(notes)
    )


def users_part(index: dict[str, Any]) -> dict[str, Any]:
    """What of these databases and objects is the user's: neither isolation nor a restore made it."""
    return index | {
        "databases": [database for database in index["databases"] if is_users(database["name"])],
        "objects": [entry for entry in index["objects"] if is_users(entry["database"])],
    }


def _select(entry: dict[str, Any]) -> str:
    columns = ", ".join(map(quoted, entry["columns"]))
    return f"SELECT {columns} FROM {quoted(*entry['source'])} FORMAT Native"  # noqa: S608 - quoted names
