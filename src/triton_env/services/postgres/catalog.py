"""What pg_dump leaves out: roles, and the properties of databases. Read as data, written as statements."""

import re
from collections.abc import Collection, Iterator
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

Connection = psycopg.Connection[Any]

_ROLES = """
select rolname as name, rolsuper as superuser, rolinherit as inherit, rolcreaterole as createrole,
       rolcreatedb as createdb, rolcanlogin as login, rolreplication as replication, rolbypassrls as bypassrls,
       rolconnlimit as connection_limit, rolpassword as verifier, rolvaliduntil::text as valid_until,
       shobj_description(oid, 'pg_authid') as comment,
       (select coalesce(array_agg(distinct d.datname::text), '{}') from pg_shdepend s
        join pg_database d on d.oid = s.dbid or (s.classid = 'pg_database'::regclass and d.oid = s.objid)
        where s.refclassid = 'pg_authid'::regclass and s.refobjid = a.oid) as used_by
from pg_authid a where rolname !~ '^pg_' order by rolname
"""
_MEMBERSHIPS = """
select parent.rolname as role, child.rolname as member, m.admin_option as admin,
       (to_jsonb(m) ->> 'inherit_option')::boolean as inherit, (to_jsonb(m) ->> 'set_option')::boolean as set
from pg_auth_members m join pg_authid parent on parent.oid = m.roleid join pg_authid child on child.oid = m.member
order by 1, 2
"""
_SETTINGS = """
select coalesce(r.rolname, '') as role, coalesce(d.datname, '') as database, s.setconfig as settings
from pg_db_role_setting s left join pg_authid r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase
order by 1, 2
"""
_DATABASES = """
select d.datname as name, r.rolname as owner, pg_encoding_to_char(d.encoding) as encoding, d.datcollate as collate,
       d.datctype as ctype, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') as provider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') as locale,
       to_jsonb(d) ->> 'daticurules' as rules,
       d.datconnlimit as connection_limit, shobj_description(d.oid, 'pg_database') as comment,
       (select jsonb_agg(jsonb_build_object('role', coalesce(g.rolname, ''), 'privilege', a.privilege_type,
               'grantable', a.is_grantable) order by g.rolname, a.privilege_type)
        from aclexplode(d.datacl) a left join pg_authid g on g.oid = a.grantee) as acl
from pg_database d join pg_authid r on r.oid = d.datdba
where not d.datistemplate and d.datallowconn order by d.datname
"""
_FLAGS = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")
_LISTS = frozenset(
    {
        *("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries"),
        *("temp_tablespaces", "unix_socket_directories"),
    }
)
"""Settings that are lists of names (GUC_LIST_QUOTE in the sources of PostgreSQL), quoted one by one."""
_ELEMENT = re.compile(r'\s*("(?:[^"]|"")*"|[^,"]*)\s*(?:,|$)')


def read(connection: Connection) -> dict[str, Any]:
    """Roles, memberships, settings and databases, as data that JSON can hold."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return {
            "roles": cursor.execute(_ROLES).fetchall(),
            "memberships": cursor.execute(_MEMBERSHIPS).fetchall(),
            "settings": cursor.execute(_SETTINGS).fetchall(),
            "databases": cursor.execute(_DATABASES).fetchall(),
        }


def create_role(name: str) -> sql.Composed:
    """Make a role that can do nothing yet."""
    return sql.SQL("create role {} nologin").format(sql.Identifier(name))


def new_role_statements(catalog: dict[str, Any], names: Collection[str]) -> Iterator[sql.Composed]:
    """Let roles that were just made do what they could: a materialized view is filled with the rights of its owner."""
    for role in catalog["roles"]:
        if role["name"] in names:
            yield from _role(role, frozenset())
    for membership in catalog["memberships"]:
        if membership["member"] in names:
            yield _membership(membership)


def role_statements(
    catalog: dict[str, Any], protected: str, renamed: dict[str, str], expiring: frozenset[str]
) -> Iterator[sql.Composed]:
    """Make all roles what they were, except the one named `protected`: it is the user of the server that is there.

    Args:
        catalog: what `read` gave.
        protected: a role to leave alone.
        renamed: databases that go by another name for now.
        expiring: roles that are there with a date until which their password is valid.
    """
    names = {role["name"] for role in catalog["roles"]} - {protected}
    databases = {database["name"] for database in catalog["databases"]}
    for role in catalog["roles"]:
        if role["name"] in names:
            yield from _role(role, expiring)
    for membership in catalog["memberships"]:
        if membership["member"] != protected:
            yield _membership(membership)
    yield sql.Composed([sql.SQL("alter role all reset all")])
    for settings in catalog["settings"]:
        database = renamed.get(settings["database"], settings["database"])
        if settings["database"] and settings["database"] not in databases:
            continue  # a template
        if settings["role"] in names or not settings["role"]:
            yield from _settings(settings["role"], database, settings["settings"])


def _role(role: dict[str, Any], expiring: frozenset[str]) -> Iterator[sql.Composed]:
    name = sql.Identifier(role["name"])
    flags = sql.SQL(" ").join(sql.SQL(flag if role[flag] else f"no{flag}") for flag in _FLAGS)
    yield sql.SQL("alter role {} with {} connection limit {} password {}").format(
        name,
        flags,
        sql.Literal(role["connection_limit"]),
        # Already a verifier, which the server keeps as it is.
        sql.Literal(role["verifier"]),
    )
    if role["valid_until"] is not None or role["name"] in expiring:
        until = sql.Literal(role["valid_until"] or "infinity")
        yield sql.SQL("alter role {} valid until {}").format(name, until)
    yield sql.SQL("alter role {} reset all").format(name)
    yield sql.SQL("comment on role {} is {}").format(name, sql.Literal(role["comment"]))


def _membership(membership: dict[str, Any]) -> sql.Composed:
    options = [sql.SQL("admin option")] if membership["admin"] and membership["inherit"] is None else []
    if membership["inherit"] is not None:
        # From 16 on each option has a value.
        options = [sql.SQL(f"{name} {str(membership[name]).lower()}") for name in ("admin", "inherit", "set")]
    statement = sql.SQL("grant {} to {}").format(
        sql.Identifier(membership["role"]), sql.Identifier(membership["member"])
    )
    return statement + (sql.SQL(" with ") + sql.SQL(", ").join(options) if options else sql.SQL(""))


def _settings(role: str, database: str, settings: list[str]) -> Iterator[sql.Composed]:
    if role:
        target = sql.SQL("role {}").format(sql.Identifier(role))
        if database:
            target = sql.SQL("{} in database {}").format(target, sql.Identifier(database))
    elif database:
        target = sql.SQL("database {}").format(sql.Identifier(database))
    else:
        target = sql.Composed([sql.SQL("role all")])
    for setting in settings:
        name, _, value = setting.partition("=")
        values = list_elements(value) if name.lower() in _LISTS else [value]
        yield sql.SQL("alter {} set {} to {}").format(
            target,
            # An extension's setting has a dot in its name.
            sql.Identifier(*name.split(".")),
            sql.SQL(", ").join(map(sql.Literal, values)),
        )


def list_elements(value: str) -> list[str]:
    """The names in a list as PostgreSQL keeps it: with commas between, quoted where they have to be."""
    found: list[str] = []
    position = 0
    while position < len(value):
        match = _ELEMENT.match(value, position)
        if match is None:
            return [value]
        position = match.end()
        element = match[1].strip()
        found.append(element[1:-1].replace('""', '"') if element.startswith('"') else element)
    return found or [""]


_NAMES_OF_LOCALES = {"i": "icu", "b": "builtin"}


def locales(database: dict[str, Any], version: int) -> Iterator[sql.Composable]:
    """Ways to end CREATE DATABASE: with its locale, with the server's own, and with one that suits any encoding.

    Args:
        version: of the server.
    """
    provided = version >= 150000
    both = sql.SQL(" lc_collate {} lc_ctype {}").format(
        sql.Literal(database["collate"]), sql.Literal(database["ctype"])
    )
    libc = sql.SQL(" locale_provider libc" if provided else "")
    if database["provider"] == "c":
        yield both + libc
    elif (provider := _NAMES_OF_LOCALES.get(database["provider"])) and database["locale"] is not None:
        rules = sql.SQL(" icu_rules {}").format(sql.Literal(database["rules"])) if database["rules"] else sql.SQL("")
        yield (
            both
            + sql.SQL(f" locale_provider {provider} {provider}_locale {{}}").format(sql.Literal(database["locale"]))
            + rules
        )
    yield sql.SQL("")
    yield sql.SQL(" lc_collate 'C' lc_ctype 'C'") + libc


def database_statements(database: dict[str, Any], name: str) -> Iterator[sql.Composed]:
    """Give the database that is called `name` now the owner, privileges and comment that it had."""
    target = sql.Identifier(name)
    yield sql.SQL("alter database {} owner to {}").format(target, sql.Identifier(database["owner"]))
    yield sql.SQL("alter database {} connection limit {}").format(target, sql.Literal(database["connection_limit"]))
    yield sql.SQL("comment on database {} is {}").format(target, sql.Literal(database["comment"]))
    if database["acl"] is None:
        return
    for everybody in (sql.SQL("public"), sql.Identifier(database["owner"])):
        yield sql.SQL("revoke all on database {} from {}").format(target, everybody)
    for entry in database["acl"]:
        yield sql.SQL("grant {} on database {} to {}{}").format(
            sql.SQL(entry["privilege"]),
            target,
            sql.Identifier(entry["role"]) if entry["role"] else sql.SQL("public"),
            sql.SQL(" with grant option" if entry["grantable"] else ""),
        )
