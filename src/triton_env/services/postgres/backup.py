"""Saving PostgreSQL."""

from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any

import psycopg

from triton_env.archive.archive import ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.steps import Meter
from triton_env.errors import BackupFailed
from triton_env.services import Postgres
from triton_env.services.base_backup import KnownSpaces, ProgramFailed, Programs, left_by_restores, unrecorded
from triton_env.services.names import EMPTY, is_of_restore, is_users, named_as_spaces
from triton_env.services.postgres import catalog, left_out
from triton_env.services.postgres.roles import is_of_template
from triton_env.services.postgres.server import PLAIN_SESSION, plain_connection
from triton_env.services.postgres.tools import pg_dump

INDEX = "postgres/index.json"

_EXTENSIONS = "select extname from pg_extension order by 1"
_PUBLIC_MAY_CREATE = """
select exists (select from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
               where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE')
"""

_TRIES = 5


def save(
    service: Postgres, programs: Programs, archive: ArchiveWriter, meter: Meter, spaces: KnownSpaces
) -> SavedService:
    """Save the user's databases that are not templates, and all roles; see `Saver`.

    Each database is one snapshot of pg_dump; the list of databases is read before, roles before and after.

    Raises:
        BackupFailed: pg_dump failed.
        psycopg.Error: the server does not answer.
    """
    with plain_connection(service) as connection:
        connection.execute(PLAIN_SESSION)
        index = users_part(catalog.read(connection))
        index["version"] = connection.info.server_version
        index["user"] = service.user
    saver = _Saver(service, programs, archive, meter)
    index["databases"] = [database for database in index["databases"] if saver.save(database)]
    with plain_connection(service) as connection:
        connection.execute(PLAIN_SESSION)
        # Once more: what was made since may own something in a database.
        known = {role["name"] for role in index["roles"]}
        there = catalog.read(connection)
        later = users_part(there)
        index["roles"] += [role for role in later["roles"] if role["name"] not in known]
        remains = left_by_restores(each["name"] for each in there["databases"] if is_of_restore(each["name"]))
        others = unrecorded(spaces, partial(_unrecorded, connection))
        notes = [*saver.notes, *left_out.of_server(connection), *saver.left_out.words(), *remains, *others]
    notes += left_out.of_template(service)
    archive.add_json(INDEX, service.name, "index", index, title=service.title)
    return SavedService(
        service.server_version(), tuple(database["name"] for database in index["databases"]), tuple(notes)
    )


def users_part(index: dict[str, Any]) -> dict[str, Any]:
    """What of these databases, roles and their settings is the user's: neither isolation nor a restore made it.

    A role of a template is the user's as well where a database of the user's gives it something, or belongs to it.
    """
    roles = [
        {key: value for key, value in role.items() if key != "used_by"}
        for role in index["roles"]
        if any(map(is_users, role["used_by"])) or not _is_isolations(role)
    ]
    others = {role["name"] for role in index["roles"]} - {role["name"] for role in roles}
    return users_databases(index) | {
        "roles": roles,
        "memberships": [each for each in index["memberships"] if others.isdisjoint((each["role"], each["member"]))],
        "settings": [each for each in index["settings"] if is_users(each["database"]) and each["role"] not in others],
    }


def users_databases(index: dict[str, Any]) -> dict[str, Any]:
    """As `users_part`, for a backup, in which older versions have saved what isolation made."""
    return index | {"databases": [database for database in index["databases"] if is_users(database["name"])]}


def _is_isolations(role: dict[str, Any]) -> bool:
    return is_of_restore(role["name"]) or is_of_template(role["name"], role["comment"])


class _Saver:
    """Saves databases, one after another."""

    def __init__(self, service: Postgres, programs: Programs, archive: ArchiveWriter, meter: Meter) -> None:
        self._service = service
        self._programs = programs
        self._archive = archive
        self._meter = meter
        self._number = 0
        self.notes: list[str] = []
        self.left_out = left_out.OfDatabases()

    def save(self, database: dict[str, Any]) -> bool:
        """Save a database; returns False where it is gone."""
        name = database["name"]
        self._meter.begin(f"database {name}")
        for tries_left in reversed(range(_TRIES)):
            try:
                self._look_into(database)
                pieces = pg_dump(self._service, self._programs, name, "triton-env backup")
                # pg_dump lists all tables and locks them before it writes anything. One that is dropped in between
                # makes it fail, and it is not there when it looks again.
                first = next(pieces, b"")
                break
            except (ProgramFailed, psycopg.OperationalError) as error:
                if not self._is_there(name):
                    self.notes.append(f"The database {name} was dropped while the others were read, and is not saved.")
                    return False
                if not tries_left or not isinstance(error, ProgramFailed):
                    raise self._failed(name, error) from error
        database["member"] = f"postgres/database-{self._number}.dump"
        self._number += 1
        kind = (self._service.name, "database")
        with closing(pieces), self._archive.member(database["member"], *kind, self._meter.count) as stream:
            try:
                for piece in chain((first,), pieces):
                    stream.write(piece)
            except ProgramFailed as error:
                raise self._failed(name, error) from error
        return True

    def _look_into(self, database: dict[str, Any]) -> None:
        with plain_connection(self._service, dbname=database["name"]) as connection:
            database["extensions"] = [name for (name,) in connection.execute(_EXTENSIONS).fetchall()]
            (database["public_may_create"],) = _row(connection, _PUBLIC_MAY_CREATE)
            self.left_out.look(database["name"], connection)

    def _is_there(self, name: str) -> bool:
        with plain_connection(self._service) as connection:
            query = "select from pg_database where datname = %s"
            return connection.execute(query, (name,)).fetchone() is not None

    def _failed(self, name: str, error: Exception) -> BackupFailed:
        return BackupFailed(
            f"The PostgreSQL database {name} could not be saved.",
            where=f"pg_dump at {self._service.host}:{self._service.port}",
            cause=str(error),
        )


def _unrecorded(connection: psycopg.Connection[Any], known: frozenset[str]) -> list[str]:
    # No client can be connected to the one from which empty ones are copied.
    query = "select datname from pg_database where not (datname = %s and datistemplate and not datallowconn) order by 1"
    names = [name for (name,) in connection.execute(query, [EMPTY]).fetchall()]
    return [f"the database {name}" for name in named_as_spaces(names, known)]


def _row(connection: psycopg.Connection[Any], query: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row
