"""PostgreSQL: a space is a database. The server copies databases by their files, which takes milliseconds."""

import queue
import select
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from triton_env.errors import SnapshotFailed
from triton_env.isolation.base import PREFIX, SNAPSHOT, TEMPLATE, Isolation, Space
from triton_env.isolation.roles import ASIDE, MARK
from triton_env.services import Postgres

if TYPE_CHECKING:
    import psycopg

    Admin = psycopg.Connection[Any]

_ADMINS = 2
"""Connections to the maintenance database: one for whoever waits, one for the background."""
_CONNECT_TIMEOUT = 10
_QUIET_TIMEOUT = 3
"""Seconds that clients of a database get to end their transactions before it cannot be copied."""
_QUIET_INTERVAL = 0.05
_TRIES = 3
_BESIDE = "_new"
"""Ends the name of a database that is built beside the one that it replaces."""

_PROPERTIES = """
with d as (select *, pg_get_userbyid(datdba) as owner, shobj_description(oid, 'pg_database') as words
           from pg_database where datname = %(source)s), t as (select %(target)s::text as name)
select 1 as step, format('alter database %%I owner to %%I', name, owner) as statement from d, t
 where owner <> current_user
union all select 2, format('alter database %%I connection limit %%s', name, datconnlimit) from d, t
 where datconnlimit >= 0
union all select 3, format('comment on database %%I is %%L', name, words) from d, t where words is not null
union all select 4, format('revoke all on database %%I from public', name) from d, t where datacl is not null
union all select 5, format('grant %%s on database %%I to %%s%%s', a.privilege_type, name,
                           case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                           case when a.is_grantable and a.grantee <> d.datdba then ' with grant option' else '' end)
  from d, t, aclexplode(d.datacl) a
union all select 6, format('insert into pg_db_role_setting select (select oid from pg_database where datname = %%L),'
                           ' setrole, setconfig from pg_db_role_setting where setdatabase = %%s', name, oid)
  from d, t where exists (select from pg_db_role_setting s where s.setdatabase = d.oid)
order by step
"""
"""The statements that give a database what CREATE DATABASE does not copy from its template."""


class PostgresIsolation(Isolation[Postgres]):
    """Spaces in a PostgreSQL server, 13 or later: WITH (FORCE) is new there."""

    name = "postgres"

    def __init__(self, service: Postgres) -> None:
        super().__init__(service)
        # A database cannot be copied or dropped by who is connected to it.
        self._maintenance = "postgres" if service.database != "postgres" else "template1"
        self._pristine = "template1" if service.database != "postgres" else "template0"
        self._admins: queue.LifoQueue[Admin | None] = queue.LifoQueue()
        for _ in range(_ADMINS):
            self._admins.put(None)
        self._strategy: str | None = None
        self._plain: set[str] = set()

    @property
    def user(self) -> str:
        """The role that the environment's clients have."""
        return self._service.user

    def administration(self) -> AbstractContextManager["Admin"]:
        """A connection to the maintenance database, for the length of a block."""
        return self._admin()

    def bound(self, space: Space) -> Postgres:
        if space.is_own:
            return self._service
        return Postgres(self._service._settings.updated(postgres_db=space.id), self._service.placement)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        with self._admin() as admin:
            if not is_new:
                self._drop(admin, space.id)
            self._copy(admin, space.id, source)

    def drop(self, space: Space) -> None:
        with self._admin() as admin:
            self._drop(admin, space.id + _BESIDE)
            self._drop(admin, space.id)

    def replace(self, space: Space, source: Space | None) -> None:
        name = self._database(space)
        beside = (space.id or f"{PREFIX}own") + _BESIDE
        with self._admin() as admin:
            self._drop(admin, beside)
            try:
                self._copy(admin, beside, source)
                self._drop(admin, name)
                _execute(admin, "alter database {} rename to {}", beside, name)
            except BaseException:
                self._drop(admin, beside)
                raise

    def freeze(self, space: Space) -> None:
        with self._admin() as admin:
            self._quieten(admin, space.id)
            _execute(admin, "alter database {} with allow_connections false is_template true", space.id)
            # Who was connected still is.
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [space.id])

    def clear(self, kept: Collection[Space]) -> None:
        spared = {space.id + end for space in kept for end in ("", _BESIDE)} | {"template0", "template1", "postgres"}
        own = self._service.database
        with self._admin() as admin:
            for (name,) in admin.execute("select datname from pg_database").fetchall():
                if name not in spared and name != own:
                    self._drop(admin, name)
        self.replace(Space("", 0), None)
        if self._maintenance == "postgres":
            self._renew_maintenance()
        with self._admin() as admin:
            self._drop_roles(admin)

    def found(self) -> frozenset[str]:
        with self._admin() as admin:
            rows = admin.execute("select datname from pg_database where starts_with(datname, %s)", [PREFIX]).fetchall()
        return frozenset(name.removesuffix(_BESIDE) for (name,) in rows if name != f"{PREFIX}own{_BESIDE}")

    def close(self) -> None:
        places: list[Admin | None] = []
        with suppress(queue.Empty):  # one that is in use is closed by the end of its process
            while len(places) < _ADMINS:
                places.append(self._admins.get_nowait())
        for admin in places:
            if admin is not None:
                admin.close()
            self._admins.put(None)

    def _database(self, space: Space) -> str:
        return space.id or self._service.database

    def _copy(self, admin: "Admin", name: str, source: Space | None) -> None:
        origin = self._database(source) if source else self._pristine
        is_quiet = source is not None and source.id.startswith((TEMPLATE, SNAPSHOT))
        statement = f"create database {{}} template {{}} {self._how(admin)}"
        if source and not is_quiet:
            self._copy_in_use(admin, statement, name, origin)
        else:
            _execute(admin, statement, name, origin)
        if source and origin not in self._plain:
            statements = admin.execute(_PROPERTIES, {"source": origin, "target": name}).fetchall()
            for _, statement in statements:
                admin.execute(statement)
            if is_quiet and not statements:
                # Nobody changes it any more.
                self._plain.add(origin)

    def _copy_in_use(self, admin: "Admin", statement: str, name: str, origin: str) -> None:
        """Copy a database to which clients come back, such as an application whose idle connection was ended."""
        from psycopg import errors

        for tries_left in reversed(range(_TRIES)):
            self._quieten(admin, origin)
            try:
                return _execute(admin, statement, name, origin)
            except errors.ObjectInUse:
                if not tries_left:
                    raise
        return None

    def _how(self, admin: "Admin") -> str:
        """The quicker way to copy: with files, which needs a checkpoint, or block by block through the log.

        Without fsync the first takes a third of the time of the second; with it, its checkpoints wait for the disk.
        https://www.postgresql.org/docs/current/sql-createdatabase.html#CREATE-DATABASE-STRATEGY
        """
        if self._strategy is None:
            is_fast = admin.execute("show fsync").fetchone() == ("off",)
            self._strategy = "strategy file_copy" if is_fast and admin.info.server_version >= 150_000 else ""
        return self._strategy

    def _drop(self, admin: "Admin", name: str) -> None:
        row = admin.execute("select datistemplate from pg_database where datname = %s", [name]).fetchone()
        if row is None:
            return
        self._plain.discard(name)
        if row[0]:
            _execute(admin, "alter database {} is_template false", name)
        _execute(admin, "drop database if exists {} with (force)", name)

    def _quieten(self, admin: "Admin", name: str) -> None:
        """End the connections that do nothing: the server copies no database that somebody is connected to.

        Raises:
            SnapshotFailed: somebody else is in a transaction, and stays in it.
        """
        deadline = time.monotonic() + _QUIET_TIMEOUT
        while True:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = %s and pid <> pg_backend_pid()"
                " and (state = 'idle' or backend_type <> 'client backend')",
                [name],
            )
            busy = admin.execute(
                "select pid, state, left(query, 300), application_name from pg_stat_activity"
                " where datname = %s and pid <> pg_backend_pid() order by xact_start",
                [name],
            ).fetchall()
            if not busy:
                return
            if time.monotonic() > deadline and busy[0][1] not in (None, "idle"):
                raise _busy(name, busy[0], len(busy))
            if time.monotonic() > deadline + _QUIET_TIMEOUT:
                raise _busy(name, busy[0], len(busy))
            time.sleep(_QUIET_INTERVAL)

    def _renew_maintenance(self) -> None:
        """Tables that somebody made in the maintenance database go as well."""
        self.close()
        with self._connect("template1") as admin:
            self._drop(admin, "postgres")
            _execute(admin, "create database {} template {} " + self._how(admin), "postgres", "template0")

    def _drop_roles(self, admin: "Admin") -> None:
        """Drop the roles that were not there after the start.

        Those stay that templates have made, or that own something in a space that is kept.
        """
        from psycopg import errors

        roles = admin.execute(
            "select rolname from pg_roles where oid >= 16384 and rolname not in (current_user, %s)"
            " and (shobj_description(oid, 'pg_authid') is distinct from %s or starts_with(rolname, %s))",
            [self._service.user, MARK, ASIDE],
        ).fetchall()
        for (role,) in roles:
            try:
                _execute(admin, "drop owned by {}", role)
                _execute(admin, "drop role {}", role)
            except (errors.DependentObjectsStillExist, errors.UndefinedObject):
                continue

    @contextmanager
    def _admin(self) -> Iterator["Admin"]:
        admin = self._admins.get()
        try:
            if admin is not None and _is_over(admin):
                admin.close()
            if admin is None or admin.closed:
                admin = self._connect(self._maintenance)
            yield admin
        except BaseException:
            # It may be broken, or amid an answer.
            if admin is not None:
                admin.close()
            admin = None
            raise
        finally:
            self._admins.put(admin)

    def _connect(self, database: str) -> "Admin":
        return self._service.connect(
            dbname=database,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT,
            application_name="triton-env",
            # Never prepared: a plan would hold on to a database's properties, and these run once each.
            prepare_threshold=None,
        )


def _execute(admin: "Admin", statement: str, *names: str) -> None:
    from psycopg import sql

    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _busy(database: str, client: tuple[int, str | None, str, str], count: int) -> SnapshotFailed:
    pid, state, query, application = client
    others = f", and {count - 1} more" if count > 1 else ""
    return SnapshotFailed(
        f"The database {database} cannot be copied while a client is in a transaction.",
        where=f"server process {pid}{f' of {application}' if application else ''} is {state or 'starting'}{others}",
        cause=f"its last query: {query}",
        hint=f"commit, roll back or close that connection, or end it: select pg_terminate_backend({pid})",
    )


def _is_over(admin: "Admin") -> bool:
    """Whether the server has ended the connection, as after a restart. Nothing else comes without being asked for."""
    return admin.closed or bool(select.select([admin.fileno()], [], [], 0)[0])
