"""A PostgreSQL server as a whole: dropping databases whatever is left in them, and what belongs to no database."""

import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from triton_env.services.base_isolation import ContentLost
from triton_env.services.postgres.parameters import PLAIN
from triton_env.services.postgres.roles import ASIDE, MARK

if TYPE_CHECKING:
    import psycopg

    from triton_env.services.postgres.service import Postgres

    Admin = psycopg.Connection[Any]

INSIGHT = "triton-env insight"
"""What connections call themselves that look at the server: none of them is shown, and all may be ended."""
_TRIES = 3
_TIMEOUT = 10
"""Seconds for the server to end a connection, or to read its configuration."""
_INTERVAL = 0.02

UNLIMITED = """
set role none; set statement_timeout = 0; set lock_timeout = 0; set default_transaction_read_only = off;
set default_transaction_isolation = 'read committed'; set datestyle = 'ISO'; set intervalstyle = 'postgres';
select pg_catalog.set_config(name, '0', false)
  from unnest(array['idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout']) as name
 where pg_catalog.current_setting(name, true) operator(pg_catalog.<>) '0';
"""
"""For connections of ours: ALTER SYSTEM, ALTER ROLE and ALTER DATABASE change these for every client. Some limits exist
in newer versions alone."""
PLAIN_SESSION = UNLIMITED + "set search_path = pg_catalog;"
"""The same, with the server's own catalog alone."""

_OBJECTS = """
with member as (select classid, objid from pg_depend where deptype = 'e')
select exists (select from pg_class where oid >= 16384 and relkind in ('r', 'v', 'm', 'f', 'p')
               and ('pg_class'::regclass, oid) not in (select * from member))
    or exists (select from pg_proc where oid >= 16384 and ('pg_proc'::regclass, oid) not in (select * from member))
    or exists (select from pg_type where oid >= 16384 and typtype in ('d', 'e', 'r')
               and ('pg_type'::regclass, oid) not in (select * from member))
    or exists (select from pg_namespace where oid >= 16384
               and ('pg_namespace'::regclass, oid) not in (select * from member))
    or exists (select from pg_default_acl) or exists (select from pg_largeobject_metadata),
    exists (select from pg_extension where oid >= 16384)
"""
"""Whether a database has objects of its own beside those of extensions, and whether it has extensions."""

_SERVER_SETTINGS = """
select format('alter role %%s reset all', case setrole when 0 then 'all' else quote_ident(pg_get_userbyid(setrole)) end)
  from pg_db_role_setting where setdatabase = 0 and (setrole < 16384 or pg_get_userbyid(setrole) = %(user)s)
union all select format('alter role %%s in database %%I reset all',
                        case setrole when 0 then 'all' else quote_ident(pg_get_userbyid(setrole)) end, datname)
  from pg_db_role_setting join pg_database d on d.oid = setdatabase where setrole <> 0 and datname = 'template0'
"""


def plain_connection(service: "Postgres", **options: Any) -> "Admin":
    """A connection of ours, each statement of which is a transaction, without the limits that clients have by default.

    Its search_path is what it is for every client.

    Args:
        options: as of `Postgres.connect`.
    """
    connection = service.connect(autocommit=True, options=PLAIN, **options)
    try:
        connection.execute(UNLIMITED)
    except BaseException:
        connection.close()
        raise
    return connection


def execute(admin: "Admin", statement: str, *names: str) -> None:
    """Execute a statement with names in it."""
    from psycopg import sql

    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def break_off(admin: "Admin") -> None:
    """Have fail what another thread waits for on a connection, which it then closes."""
    with suppress(Exception), socket.socket(fileno=os.dup(admin.fileno())) as stream:
        stream.shutdown(socket.SHUT_RDWR)


def identities(admin: "Admin", *names: str) -> dict[str, str]:
    """What distinguishes each of these databases from every other of its name.

    It is another one once its properties were changed, so also where a frozen one was opened for clients.
    """
    rows = admin.execute(
        "select datname, concat_ws(' ', oid, xmin) from pg_database where datname = any(%s)",
        [list(names)],
    )
    return dict(rows.fetchall())


def is_over(admin: "Admin") -> bool:
    """Whether the server has ended the connection, as after a restart. Nothing else comes without being asked for."""
    return admin.closed or bool(select.select([admin.fileno()], [], [], 0)[0])


def verify_identities(found: Mapping[str, str], held: Mapping[str, str]) -> None:
    """See that all databases that are held are among those that were found.

    Raises:
        ContentLost: one is not.
    """
    for name, identity in held.items():
        if found.get(name) != identity:
            what = "was dropped" if name not in found else "is another one, or was opened for clients"
            raise ContentLost(f"the database {name} {what}")


def drop_database(admin: "Admin", connect: Callable[[str], "Admin"], name: str) -> None:
    """Drop a database, whatever is left in it: clients, prepared transactions, subscriptions, slots in use.

    Args:
        admin: connected to another database.
        name: of the database, which may not be there.
    """
    from psycopg import errors

    row = admin.execute("select datistemplate from pg_database where datname = %s", [name]).fetchone()
    if row is None:
        return
    if row[0]:
        execute(admin, "alter database {} is_template false", name)
    for tries_left in reversed(range(_TRIES)):
        try:
            execute(admin, "drop database if exists {} with (force)", name)
        except errors.ObjectInUse:
            if not tries_left:
                raise
            _release(admin, connect, name)
        else:
            return


def _release(admin: "Admin", connect: Callable[[str], "Admin"], name: str) -> None:
    """End what DROP DATABASE ... WITH (FORCE) leaves alone. No client connects to the database any longer.

    https://www.postgresql.org/docs/current/sql-dropdatabase.html
    """
    from psycopg import sql

    execute(admin, "alter database {} allow_connections true", name)
    with connect(name) as inside:
        query = "select gid from pg_prepared_xacts where database = current_database()"
        for (gid,) in inside.execute(query).fetchall():
            inside.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))
        query = "select subname from pg_subscription join pg_database d on d.oid = subdbid where datname = %s"
        for (subscription,) in inside.execute(query, [name]).fetchall():
            execute(inside, "alter subscription {} disable", subscription)
            # The publisher, which may be out of reach, keeps its slot.
            execute(inside, "alter subscription {} set (slot_name = none)", subscription)
            execute(inside, "drop subscription {}", subscription)
    execute(admin, "alter database {} allow_connections false", name)
    deadline = time.monotonic() + _TIMEOUT
    slots = "select slot_name, active_pid from pg_replication_slots where database = %s"
    while active := [pid for _, pid in admin.execute(slots, [name]).fetchall() if pid is not None]:
        admin.execute("select pg_terminate_backend(pid) from unnest(%s) pid", [active])
        if time.monotonic() > deadline:
            return  # the server says by itself what is in use
        time.sleep(_INTERVAL)


def contents(connection: "Admin") -> tuple[bool, bool]:
    """Whether the connection's database has objects beside those of extensions, and whether it has extensions.

    What `initdb` puts into every database does not count.
    """
    row = connection.execute(_OBJECTS).fetchone()
    assert row is not None
    return row[0], row[1]


def reset_configuration(admin: "Admin", user: str) -> None:
    """Take back what ALTER SYSTEM and ALTER ROLE ... SET changed, for this server's next clients.

    Args:
        admin: of a superuser.
        user: the environment's.
    """
    changed = "select 1 from pg_file_settings where sourcefile like '%postgresql.auto.conf' limit 1"
    if admin.execute(changed).fetchone():
        loaded = admin.execute("select pg_conf_load_time()").fetchone()
        admin.execute("alter system reset all")
        admin.execute("select pg_reload_conf()")
        # The server has read it before its processes do, of which this connection's is one.
        deadline = time.monotonic() + _TIMEOUT
        while admin.execute("select pg_conf_load_time()").fetchone() == loaded and time.monotonic() < deadline:
            time.sleep(_INTERVAL)
    for (statement,) in admin.execute(_SERVER_SETTINGS, {"user": user}).fetchall():
        admin.execute(statement)
    execute(
        admin,
        "alter role {} with superuser createdb createrole inherit login replication bypassrls"
        " connection limit -1 valid until 'infinity'",
        user,
    )


def drop_roles(admin: "Admin", user: str) -> None:
    """Drop the roles that were not there after the start.

    Those stay that templates have made, or that own something in a space that is kept.
    """
    from psycopg import errors

    roles = admin.execute(
        "select rolname from pg_roles where oid >= 16384 and rolname not in (current_user, %s)"
        " and (shobj_description(oid, 'pg_authid') is distinct from %s or starts_with(rolname, %s))",
        [user, MARK, ASIDE],
    ).fetchall()
    for (role,) in roles:
        try:
            execute(admin, "drop owned by {}", role)
            execute(admin, "drop role {}", role)
        except (errors.DependentObjectsStillExist, errors.UndefinedObject):
            continue


def drop_belongings(admin: "Admin") -> None:
    """Drop what belongs to the server alone: physical replication slots, origins, tablespaces that nothing uses.

    Slots of databases have gone with these; those of kept spaces stay.
    """
    from psycopg import errors

    slots = "select slot_name, active_pid from pg_replication_slots where database is null"
    for slot, pid in admin.execute(slots).fetchall():
        with suppress(errors.ObjectInUse, errors.UndefinedObject):
            if pid is not None:
                admin.execute("select pg_terminate_backend(%s, 5000)", [pid])
            admin.execute("select pg_drop_replication_slot(%s)", [slot])
    for (origin,) in admin.execute("select roname from pg_replication_origin where roname !~ '^pg_'").fetchall():
        with suppress(errors.ObjectInUse, errors.UndefinedObject):
            admin.execute("select pg_replication_origin_drop(%s)", [origin])
    for (space,) in admin.execute("select spcname from pg_tablespace where oid >= 16384").fetchall():
        with suppress(errors.ObjectNotInPrerequisiteState, errors.ObjectInUse, errors.DependentObjectsStillExist):
            execute(admin, "drop tablespace {}", space)
