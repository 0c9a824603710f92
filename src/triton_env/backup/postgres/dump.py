"""Saving PostgreSQL."""

from typing import Any

import psycopg

from triton_env.backup.archive import ArchiveWriter
from triton_env.backup.base import RunsPrograms, is_users
from triton_env.backup.journal import Place
from triton_env.backup.manifest import SavedService
from triton_env.backup.postgres import catalog
from triton_env.backup.postgres.tools import pg_dump
from triton_env.backup.programs import ProgramFailed, copy_output
from triton_env.backup.steps import Meter
from triton_env.errors import BackupFailed
from triton_env.services import Postgres, Service

INDEX = "postgres/index.json"

_EXTENSIONS = "select extname from pg_extension order by 1"
_PUBLIC_MAY_CREATE = """
select exists (select from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
               where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE')
"""


def save(service: Service, program: RunsPrograms, archive: ArchiveWriter, meter: Meter, place: Place) -> SavedService:
    """Save the user's databases that are not templates, and all roles; see `Saver`.

    Each database is one snapshot of pg_dump; roles and the list of databases are read before.

    Raises:
        BackupFailed: pg_dump failed.
        psycopg.Error: the server does not answer.
    """
    assert isinstance(service, Postgres)
    with service.connect(autocommit=True) as connection:
        index = users_part(catalog.read(connection))
        index["version"] = connection.info.server_version
        index["user"] = service.user
    notes = []
    for number, database in enumerate(index["databases"]):
        _look_into(service, database)
        database["member"] = f"postgres/database-{number}.dump"
        meter.begin(f"database {database['name']}")
        with archive.member(database["member"], service.name, "database", meter.count) as stream:
            try:
                copy_output(pg_dump(service, program, database["name"], "triton-env backup"), stream)
            except ProgramFailed as error:
                raise BackupFailed(
                    f"The PostgreSQL database {database['name']} could not be saved.",
                    where=f"pg_dump at {service.host}:{service.port}",
                    cause=str(error),
                ) from error
    with service.connect(autocommit=True) as connection:
        (tablespaces,) = _row(connection, "select count(*) from pg_tablespace where spcname !~ '^pg_'")
        if tablespaces:
            notes.append(f"{tablespaces} tablespaces are not saved: what is in them goes to the default one.")
    archive.add_json(INDEX, service.name, "index", index)
    return SavedService(
        service.server_version(), tuple(database["name"] for database in index["databases"]), tuple(notes)
    )


def users_part(index: dict[str, Any]) -> dict[str, Any]:
    """What of these databases, their settings and roles is the user's: neither isolation nor a restore made it."""
    return index | {
        "roles": [role for role in index["roles"] if is_users(role["name"])],
        "databases": [database for database in index["databases"] if is_users(database["name"])],
        "settings": [settings for settings in index["settings"] if is_users(settings["database"])],
    }


def _look_into(service: Postgres, database: dict[str, Any]) -> None:
    with service.connect(dbname=database["name"], autocommit=True) as connection:
        database["extensions"] = [name for (name,) in connection.execute(_EXTENSIONS).fetchall()]
        (database["public_may_create"],) = _row(connection, _PUBLIC_MAY_CREATE)


def _row(connection: psycopg.Connection[Any], query: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row
