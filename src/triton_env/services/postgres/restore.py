"""Restoring PostgreSQL."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import psycopg
from psycopg import errors, sql

from triton_env.archive.archive import Archive
from triton_env.archive.sealing import CHUNK
from triton_env.archive.steps import Meter
from triton_env.core.printable import listed, one_line
from triton_env.errors import RestoreFailed
from triton_env.services import Postgres
from triton_env.services.base_backup import TRUST, KnownSpaces, Note, ProgramFailed, Programs
from triton_env.services.names import is_users
from triton_env.services.postgres import catalog, loading
from triton_env.services.postgres.backup import INDEX, users_databases
from triton_env.services.postgres.index import Index
from triton_env.services.postgres.server import plain_connection
from triton_env.services.postgres.settings import PostgresSettings
from triton_env.services.postgres.statements import NotAllowed
from triton_env.services.postgres.takeover import Plan, PostgresTakeover, admin, disconnect
from triton_env.services.postgres.toc import NotAnArchive
from triton_env.services.postgres.tools import pg_restore

_SWAP_TRIES = 20
"""How often to take databases away from clients that connect again at once."""

_KNOWN_PASSWORD = PostgresSettings.model_fields["postgres_password"].default.get_secret_value()
_ALWAYS_THERE = "postgres"

_OTHERS = "select datname from pg_database where not datistemplate and datallowconn order by 1"
_LOCALE = """
select coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'), datcollate, datctype,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') from pg_database d where datname = %s
"""
_UNKNOWN_LOCALE = (
    *(errors.InvalidParameterValue, errors.WrongObjectType, errors.ObjectNotInPrerequisiteState),
    # A build without ICU, and what ICU itself says.
    *(errors.FeatureNotSupported, errors.InternalError_),
)
_FILLED = """
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname !~ '^(pg_|information_schema$)'
                 and not exists (select from pg_depend where objid = c.oid and deptype = 'e'))
    or exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
               where n.nspname !~ '^(pg_|information_schema$)'
                 and not exists (select from pg_depend where objid = p.oid and deptype = 'e'))
    or exists (select from pg_type t join pg_namespace n on n.oid = t.typnamespace
               where n.nspname !~ '^(pg_|information_schema$)'
                 and not exists (select from pg_depend where objid = t.oid and deptype in ('e', 'i')))
    or exists (select from pg_namespace where nspname !~ '^(pg_|information_schema$|public$)')
    or exists (select from pg_largeobject_metadata)
"""


class PostgresRestorer:
    """Restores PostgreSQL; see `Restorer`.

    Databases of the user that are not in the backup are dropped. Roles are created or changed, never dropped, and the
    user of the running server is left alone: its password is that of this environment.
    """

    def __init__(
        self, service: Postgres, programs: Programs, archive: Archive, meter: Meter, spaces: KnownSpaces, mark: str
    ) -> None:
        self._service = service
        self._programs = programs
        self._archive = archive
        self._meter = meter
        self._form = archive.read_index(INDEX, Index)
        self._index = users_databases(self._form.model_dump())
        self._mark = mark
        self._plan = Plan(mark)

    def check(self) -> None:
        with admin(self._service, self._mark) as connection:
            version = connection.info.server_version
            known = {name for (name,) in connection.execute("select name from pg_available_extensions").fetchall()}
            supers = connection.execute("select rolname, rolpassword from pg_authid where rolsuper").fetchall()
            replicating = connection.execute("select rolname from pg_roles where rolreplication").fetchall()
        if version // 10000 < self._index["version"] // 10000:
            raise RestoreFailed(
                f"The backup is of PostgreSQL {self._index['version'] // 10000}, and the server is older: "
                f"{version // 10000}.",
                where=f"{self._service.host}:{self._service.port}",
                hint=f"set POSTGRES_IMAGE=postgres:{self._index['version'] // 10000}-alpine or newer",
            )
        for database in self._index["databases"]:
            if missing := sorted(set(database["extensions"]) - known):
                raise RestoreFailed(
                    f"The server lacks extensions of the database {database['name']}: {', '.join(missing)}.",
                    where=f"{self._service.host}:{self._service.port}",
                    hint="restore to a server that has them, for example another POSTGRES_IMAGE",
                )
        if not self._archive.trusted:
            self._check_code(version, dict(supers))
            self._leave_out_replication({name for (name,) in replicating})

    def _check_code(self, version: int, supers: Mapping[str, str | None]) -> None:
        """See that nothing in the backup runs with the rights of a superuser, or grants them.

        Raises:
            RestoreFailed: something does; it is named.
        """
        found = self._form.reaching_the_machine(version, supers, self._service.user)
        for database in self._index["databases"]:
            with self._archive.member(database["member"]) as stream, self._explained(database):
                contents = loading.contents(stream, database["encoding"])
                words = loading.reserved(contents)
                if self._service.password == _KNOWN_PASSWORD:
                    # What is in the archive could connect to the server as its superuser.
                    words += loading.connecting(contents)
            found += [f"{each} in the database {database['name']}" for each in words]
        if found:
            raise RestoreFailed(
                "The backup holds what only a superuser of PostgreSQL may make, and what may run any program: "
                f"{listed([one_line(each) for each in found])}.",
                where=str(self._archive.path),
                hint=TRUST,
            )
        for role in self._index["roles"]:
            if role["name"] == self._form.user and role["name"] not in supers and role["superuser"]:
                role |= {"superuser": False, "createrole": False, "replication": False}
                self._meter.note(
                    f"{role['name']}, the user of the environment that was saved, is not a superuser in this one"
                )

    def _leave_out_replication(self, there: Collection[str]) -> None:
        """Roles that replicate read every file of the server, also databases that are not theirs. A note names them.

        Args:
            there: the roles that may do so already.
        """
        names = []
        for role in self._index["roles"]:
            if role["replication"] and role["name"] not in there:
                role["replication"] = False
                names.append(role["name"])
        if names:
            shown = ", ".join(map(one_line, names))
            self._meter.note(f"restored without REPLICATION, by which a role reads the whole server: {shown} ({TRUST})")

    @contextmanager
    def _explained(self, database: dict[str, Any]) -> Iterator[None]:
        """What is wrong with the archive of a database, in our words."""
        where = f"pg_restore at {self._service.host}:{self._service.port}"
        what = f"The PostgreSQL database {database['name']} could not be restored."
        try:
            yield
        except ProgramFailed as error:
            denied = not self._archive.trusted and "permission denied" in str(error)
            denied = denied or "must be superuser" in str(error)
            raise RestoreFailed(what, where=where, cause=str(error), hint=TRUST if denied else "") from error
        except NotAllowed as error:
            raise RestoreFailed(
                what, where=where, cause=f"pg_dump does not write such a statement: {error}", hint=TRUST
            ) from error
        except NotAnArchive as error:
            raise RestoreFailed(what, where=where, cause=f"not an archive of pg_dump: {error}") from error

    def present(self) -> list[str]:
        found = []
        with admin(self._service, self._mark) as connection:
            names = _users(connection)
        for name in names:
            if name not in (self._service.database, _ALWAYS_THERE) or self._is_filled(name):
                found.append(f"the database {name}")
        return found

    def plan(self) -> dict[str, Any]:
        with admin(self._service, self._mark) as connection:
            there = _users(connection)
            roles = {name for (name,) in connection.execute("select rolname from pg_roles").fetchall()}
        # The one that clients of this environment expect is there in any case.
        wanted = list(dict.fromkeys([*(each["name"] for each in self._index["databases"]), self._service.database]))
        kept = {_ALWAYS_THERE} - set(wanted)
        self._plan = Plan(
            self._mark,
            {name: f"{self._mark}_new_{number}" for number, name in enumerate(wanted)},
            {name: f"{self._mark}_old_{number}" for number, name in enumerate(there) if name not in kept},
            [role["name"] for role in self._index["roles"] if role["name"] not in roles],
        )
        return asdict(self._plan)

    def stage(self) -> None:
        with admin(self._service, self._mark) as connection:
            self._create_roles(connection)
            for database in self._index["databases"]:
                self._load(connection, database)
            empty = set(self._plan.staged) - {database["name"] for database in self._index["databases"]}
            for name in empty:
                staged = sql.Identifier(self._plan.staged[name])
                connection.execute(sql.SQL("create database {} template template0").format(staged))

    def swap(self) -> None:
        self._meter.begin("taking over")
        with admin(self._service, self._mark) as connection:
            self._rename(connection)

    def finish(self, note: Note) -> None:
        PostgresTakeover(self._service, self._plan).finish()

    def _create_roles(self, connection: "psycopg.Connection[Any]") -> None:
        """Those that own or may use something have to exist before it does."""
        for name in self._plan.new_roles:
            connection.execute(catalog.create_role(name))
        for statement in catalog.new_role_statements(self._index, self._plan.new_roles):
            connection.execute(statement)
        for name in self._plan.new_roles:
            # Whose they are, until they have taken over: with that, they get the comment that they had.
            whose = sql.SQL("comment on role {} is {}").format(sql.Identifier(name), sql.Literal(self._mark))
            connection.execute(whose)

    def _load(self, connection: "psycopg.Connection[Any]", database: dict[str, Any]) -> None:
        name = self._plan.staged[database["name"]]
        self._meter.begin(f"database {database['name']}")
        self._create(connection, database, name)
        with self._archive.member(database["member"]) as stream, self._explained(database):
            if self._archive.trusted:
                pieces = iter(partial(stream.read, CHUNK), b"")
                pg_restore(self._service, self._programs, name, self._mark, pieces, self._meter.count)
            else:
                supers = {role.name for role in self._form.roles if role.superuser}
                loader = loading.Loader(self._service, self._programs, connection, self._mark, supers)
                # Where it fails, what it owns is dropped with the database, and then the role.
                loader.begin()
                loader.load(stream, name, database["encoding"], self._meter.count)
                loader.end()
        if database["public_may_create"]:
            # Before 15 that is the default, and pg_dump says nothing about defaults.
            with plain_connection(self._service, dbname=name) as inside:
                inside.execute("grant create on schema public to public")

    def _create(self, connection: "psycopg.Connection[Any]", database: dict[str, Any], name: str) -> None:
        """With the locale that it had, where this server has it too; else with another one, which a note names."""
        statement = sql.SQL("create database {} template template0 encoding {}").format(
            sql.Identifier(name), sql.Literal(database["encoding"])
        )
        ways = list(catalog.locales(database, connection.info.server_version))
        for tries_left, locale in zip(reversed(range(len(ways))), ways, strict=True):
            try:
                connection.execute(statement + locale)
            except _UNKNOWN_LOCALE:
                if not tries_left:
                    raise
            else:
                break
        row = connection.execute(_LOCALE, (name,)).fetchone()
        had = tuple(database[key] for key in ("provider", "collate", "ctype", "locale"))
        if row != had:
            self._meter.note(
                f"the database {database['name']} has another locale, since this server does not know its own: "
                f"{one_line(database['locale'] or database['collate'])}"
            )

    def _rename(self, connection: "psycopg.Connection[Any]") -> None:
        """All in one transaction: either every name means the new database, or none does."""
        staged = dict(self._plan.staged)
        for tries_left in reversed(range(_SWAP_TRIES)):
            try:
                with connection.transaction():
                    rows = connection.execute("select rolname from pg_roles where rolvaliduntil is not null").fetchall()
                    expiring = frozenset(name for (name,) in rows)
                    for statement in catalog.role_statements(self._index, self._service.user, staged, expiring):
                        connection.execute(statement)
                    for database in self._index["databases"]:
                        name = database["name"]
                        for statement in catalog.database_statements(database, staged[name]):
                            connection.execute(statement)
                    for before, after in (*self._plan.old.items(), *((new, name) for name, new in staged.items())):
                        disconnect(connection, before)
                        connection.execute(
                            sql.SQL("alter database {} rename to {}").format(
                                sql.Identifier(before), sql.Identifier(after)
                            )
                        )
            except errors.ObjectInUse:
                if tries_left == 0:
                    raise
            else:
                return

    def _is_filled(self, name: str) -> bool:
        with plain_connection(self._service, dbname=name) as connection:
            row = connection.execute(_FILLED).fetchone()
            return bool(row and row[0])


def _users(connection: "psycopg.Connection[Any]") -> list[str]:
    """The names of the user's databases, in order."""
    return [name for (name,) in connection.execute(_OTHERS).fetchall() if is_users(name)]
