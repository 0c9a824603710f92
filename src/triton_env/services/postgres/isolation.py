"""PostgreSQL: a space is a database. The server copies databases by their files, which takes milliseconds."""

import json
import queue
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from triton_env.errors import ServiceDied
from triton_env.services import Postgres
from triton_env.services.base_isolation import OWN, PREFIX, SNAPSHOT, TEMPLATE, ContentLost, Isolation, Space
from triton_env.services.names import EMPTY
from triton_env.services.postgres import parts
from triton_env.services.postgres.claims import PostgresBoard
from triton_env.services.postgres.empty import EmptyDatabase
from triton_env.services.postgres.roles import Roles
from triton_env.services.postgres.server import (
    INSIGHT,
    PLAIN_SESSION,
    break_off,
    drop_belongings,
    drop_database,
    drop_roles,
    execute,
    identities,
    is_over,
    reset_configuration,
    verify_identities,
)
from triton_env.services.postgres.uncopied import has_prepared, in_transaction

if TYPE_CHECKING:
    import psycopg

    Admin = psycopg.Connection[Any]

_Answer = TypeVar("_Answer")

_ADMINS = 2
"""Connections to the maintenance database: one for callers that wait, one for the background."""
_CONNECT_TIMEOUT = 10
_WHERE_CUT_OFF = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""So that a server that cannot be reached any longer is waited for by the minute, not for hours."""
_QUIET_TIMEOUT = 3
"""Seconds that clients of a database get to end their transactions before it cannot be copied."""
_QUIET_INTERVAL = 0.05
_TRIES = 3
_CONNECTIONS = 10
"""How many connections in a row the server may end while something is done."""
_BUILT_IN = ("template0", "template1", "postgres")
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

    shared_kinds = ("role", "tablespace")
    how_to_replace = "make it only where pg_roles or pg_tablespace lacks it"

    def __init__(self, service: Postgres) -> None:
        super().__init__(service)
        # A client cannot drop the database that it is connected to.
        self._maintenance = "postgres" if service.database != "postgres" else "template1"
        self._admins: queue.LifoQueue[Admin | None] = queue.LifoQueue()
        for _ in range(_ADMINS):
            self._admins.put(None)
        self._made: weakref.WeakSet[Admin] = weakref.WeakSet()
        self._strategy: str | None = None
        self._empty = EmptyDatabase(self._connect, self._drop, self._copy_closed)
        self._plain: set[str] = set()
        self._board = PostgresBoard(self._connect, self._make_missing, self._is_there)

    def board(self) -> PostgresBoard:
        return self._board

    @property
    def user(self) -> str:
        """The role that the environment's clients have."""
        return self._service.user

    def administration(self) -> AbstractContextManager["Admin"]:
        """A connection to the maintenance database, for the length of a block."""
        return self._admin()

    def administered(self, act: Callable[["Admin"], _Answer]) -> _Answer:
        """Do something that may be begun again, and begin again where the server ends the connection.

        A restore that takes over ends all connections to the databases that it renames, of which the maintenance
        database is one.
        """
        from psycopg import OperationalError

        for tries_left in reversed(range(_CONNECTIONS)):
            with self._admin() as admin:
                try:
                    return act(admin)
                except OperationalError:
                    if not (admin.closed and tries_left):
                        raise
        raise AssertionError

    def template_facts(self) -> tuple[str, ...]:
        return self.user, self._service.database

    def beside(self, *, alone: bool) -> Roles:
        return Roles(self, lasting=self.is_lasting, alone=alone)

    def bound(self, space: Space) -> Postgres:
        if space.is_own:
            return self._service
        return self._service.with_settings(postgres_db=space.id)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        may_be_there = not is_new

        def create(admin: "Admin") -> None:
            nonlocal may_be_there
            if may_be_there:
                self._drop_all(admin, space)
            may_be_there = True
            self._copy(admin, space.id, source)
            if source and self._is_whole(source, space):
                for number, name in enumerate(parts.others(admin, self._service.database)):
                    part = parts.name_of(space, number)
                    self._copy_database(admin, part, name, is_quiet=False)
                    parts.describe(admin, part, name)

        self.administered(create)

    def drop(self, space: Space) -> None:
        def drop(admin: "Admin") -> None:
            self._drop(admin, space.id + _BESIDE)
            self._drop_all(admin, space)

        self.administered(drop)

    def replace(self, space: Space, source: Space | None) -> None:
        name = self._database(space)
        beside = (space.id or f"{PREFIX}own") + _BESIDE

        def replace(admin: "Admin") -> None:
            is_whole = source is not None and self._is_whole(space, source)
            held = parts.parts_of(admin, source) if source and is_whole else []
            # Each with a name that `is_space` knows.
            staged = {f"{PREFIX}own_{'_' * (number + 1)}new": part for number, part in enumerate(held)}
            try:
                self._drop(admin, beside)
                self._copy(admin, beside, source)
                for copy, part in staged.items():
                    self._drop(admin, copy)
                    self._copy_database(admin, copy, part.name, is_quiet=True)
                    parts.comment(admin, copy, part.words)
                for copy, database in {beside: name, **{copy: part.database for copy, part in staged.items()}}.items():
                    self._drop(admin, database)
                    execute(admin, "alter database {} rename to {}", copy, database)
                for later in parts.others(admin, name) if is_whole else ():
                    if later not in {part.database for part in held}:
                        self._drop(admin, later)
            except BaseException:
                if not admin.closed:
                    for copy in (beside, *staged):
                        self._drop(admin, copy)
                raise

        self.administered(replace)

    def freeze(self, space: Space) -> None:
        def freeze(admin: "Admin") -> None:
            for name in parts.databases_of(admin, space):
                self._quieten(admin, name)
                execute(admin, "alter database {} with allow_connections false is_template true", name)
                # Existing connections survive this.
                admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])

        self.administered(freeze)

    def record(self, space: Space) -> str:
        found = self.administered(lambda admin: identities(admin, *parts.databases_of(admin, space)))
        return found[space.id] if len(found) == 1 else json.dumps(found)

    def verify(self, source: Space, record: str) -> None:
        held = _held(source, record)
        verify_identities(self.administered(lambda admin: identities(admin, *held)), held)

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        held = _held(source, record) if source else {}
        found = self.administered(lambda admin: identities(admin, copy.id, *held))
        if is_new:
            verify_identities(found, held)
        if copy.id not in found:
            raise ContentLost(f"the database {copy.id} was dropped")

    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        spared = {space.id + end for space in kept for end in ("", _BESIDE)} | {EMPTY, *_BUILT_IN}
        own = self._service.database
        self._set_password()
        with self._admin() as admin:
            spared |= {name for space in kept for name in parts.databases_of(admin, space)}
            reset_configuration(admin, self._service.user)
            self._service._set_password(admin)
            for (name,) in admin.execute("select datname from pg_database").fetchall():
                if name not in spared and name != own:
                    self._drop(admin, name)
            self._empty.see(admin, is_lasting=self.is_lasting, is_reset=True)
        self.replace(OWN, None)
        self.close()
        if own != "postgres":
            self._renew("postgres", "template0")
        if own != "template1":
            self._renew("template1", EMPTY)
        with self._admin() as admin:
            drop_roles(admin, self._service.user)
            drop_belongings(admin)

    def found(self) -> frozenset[str]:
        with self._admin() as admin:
            rows = admin.execute("select datname from pg_database where starts_with(datname, %s)", [PREFIX]).fetchall()
        names = [name.removesuffix(_BESIDE) for (name,) in rows if name != f"{PREFIX}own{_BESIDE}"]
        return frozenset(name.partition("__")[0] if name.startswith(SNAPSHOT) else name for name in names)

    def break_off(self) -> None:
        for admin in tuple(self._made):
            break_off(admin)

    def close(self) -> None:
        self._board.close()
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
        if source is None:
            return self._copy_empty(admin, name)
        is_quiet = source.id.startswith((TEMPLATE, SNAPSHOT))
        return self._copy_database(admin, name, self._database(source), is_quiet=is_quiet)

    def _copy_database(self, admin: "Admin", name: str, origin: str, *, is_quiet: bool) -> None:
        statement = f"create database {{}} template {{}} {self._how(admin)}"
        if is_quiet:
            execute(admin, statement, name, origin)
        else:
            self._copy_in_use(admin, statement, name, origin)
        if origin not in self._plain:
            statements = admin.execute(_PROPERTIES, {"source": origin, "target": name}).fetchall()
            for _, statement in statements:
                admin.execute(statement)
            if is_quiet and not statements:
                # It no longer changes.
                self._plain.add(origin)

    def _copy_empty(self, admin: "Admin", name: str) -> None:
        from psycopg import errors

        statement = f"create database {{}} template {{}} {self._how(admin)}"
        for tries_left in reversed(range(_TRIES)):
            self._empty.see(admin, is_lasting=self.is_lasting)
            try:
                return execute(admin, statement, name, EMPTY)
            except errors.InvalidCatalogName:  # a test has dropped it
                if not tries_left:
                    raise
        return None

    def _copy_closed(self, admin: "Admin", name: str, origin: str) -> None:
        """Make a database to be copied, in which no client can be."""
        statement = f"create database {{}} template {{}} is_template true allow_connections false {self._how(admin)}"
        self._copy_in_use(admin, statement, name, origin)

    def _is_whole(self, one: Space, other: Space) -> bool:
        """Whether these are the environment and a snapshot of it, which has all of its databases."""
        return one.is_own and other.id.startswith(SNAPSHOT) and not self.is_lasting

    def _drop_all(self, admin: "Admin", space: Space) -> None:
        for name in parts.databases_of(admin, space):
            self._drop(admin, name)

    def _copy_in_use(self, admin: "Admin", statement: str, name: str, origin: str) -> None:
        """Copy a database to which clients come back, such as an application whose idle connection was ended."""
        from psycopg import errors

        for tries_left in reversed(range(_TRIES)):
            self._quieten(admin, origin)
            try:
                return execute(admin, statement, name, origin)
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

    def _make_missing(self, name: str) -> None:
        """Make an empty database that any client may connect to."""
        from psycopg import errors

        with self._admin() as admin, suppress(errors.DuplicateDatabase, errors.UniqueViolation):
            execute(admin, "create database {} template template0", name)

    def _is_there(self, name: str) -> bool:
        with self._admin() as admin:
            return admin.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is not None

    def _drop(self, admin: "Admin", name: str) -> None:
        self._plain.discard(name)
        drop_database(admin, self._connect, name)

    def _quieten(self, admin: "Admin", name: str) -> None:
        """End the connections that do nothing or look at it: the server copies no database that has connections.

        Raises:
            SnapshotFailed: another client is in a transaction, and stays in it.
        """
        prepared = "select gid from pg_prepared_xacts where database = %s"
        if gids := admin.execute(prepared, [name]).fetchall():
            raise has_prepared(name, gids[0][0])
        deadline = time.monotonic() + _QUIET_TIMEOUT
        while True:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = %s and pid <> pg_backend_pid()"
                " and (state = 'idle' or backend_type <> 'client backend' or application_name = %s)",
                [name, INSIGHT],
            )
            busy = admin.execute(
                "select pid, state, left(query, 300), application_name from pg_stat_activity"
                " where datname = %s and pid <> pg_backend_pid() order by xact_start",
                [name],
            ).fetchall()
            if not busy:
                return
            if time.monotonic() > deadline and busy[0][1] not in (None, "idle"):
                raise in_transaction(name, busy[0], len(busy))
            if time.monotonic() > deadline + _QUIET_TIMEOUT:
                raise in_transaction(name, busy[0], len(busy))
            time.sleep(_QUIET_INTERVAL)

    def _set_password(self) -> None:
        """Give the user the password of the settings, which may be another by now, where a socket leads in without."""
        from psycopg import OperationalError

        for name in (self._service.database, "template1", "postgres"):
            # One that is not there, or a user who may not log in: a connection from before may still be open.
            with suppress(OperationalError):
                return self._service.prepare(name)
        return None

    def _renew(self, name: str, origin: str) -> None:
        """Make a database anew that every server has. Tables that were made in it go."""
        with self._connect(self._service.database) as admin:
            self._drop(admin, name)
            is_template = "is_template true" if name == "template1" else ""
            statement = f"create database {{}} template {{}} {is_template} {self._how(admin)}"
            self._copy_in_use(admin, statement, name, origin)
            if name == "template1":
                execute(admin, "revoke connect, temporary on database {} from public", name)
                execute(admin, "grant connect on database {} to public", name)

    @contextmanager
    def _admin(self) -> Iterator["Admin"]:
        admin = self._admins.get()
        try:
            if admin is not None and is_over(admin):
                admin.close()
            if admin is None or admin.closed:
                admin = self._connect_somewhere()
            yield admin
        except BaseException:
            # It may be broken, or amid an answer.
            if admin is not None:
                admin.close()
            admin = None
            raise
        finally:
            self._admins.put(admin)

    def _connect_somewhere(self) -> "Admin":
        from psycopg import OperationalError, errors

        try:
            return self._connect(self._maintenance)
        except OperationalError as error:
            if isinstance(error, ServiceDied | errors.ConnectionTimeout):
                raise
            # Nothing keeps a test from dropping the database `postgres`.
            for name in set(_BUILT_IN) - {self._maintenance, self._service.database, "template0"}:
                with suppress(OperationalError):
                    return self._connect(name)
            raise error

    def _connect(self, database: str) -> "Admin":
        admin = self._service.connect(
            dbname=database,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT,
            **_WHERE_CUT_OFF,
            application_name="triton-env",
            # Never prepared: a plan would hold on to a database's properties, and these run once each.
            prepare_threshold=None,
            # Before the first statement, if the server is ours: what is between us and another may not take options.
            **({} if self.is_lasting else {"options": "-c statement_timeout=0"}),
        )
        self._made.add(admin)
        admin.execute(PLAIN_SESSION)
        return admin


def _held(source: Space, record: str) -> dict[str, str]:
    """What distinguishes the databases of a frozen space from others, by their names."""
    return json.loads(record) if record.startswith("{") else {source.id: record}
