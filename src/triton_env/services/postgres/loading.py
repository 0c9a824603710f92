"""Loading an archive of pg_dump without the rights of a superuser.

What is in an archive is SQL of its author, and parts of it run while it is loaded: expressions of indexes,
constraints, materialized views. So a role that was made for it loads it: it owns the new database, and may do nothing
else on the server. A superuser then gives everything the owners and privileges that it had, by statements of our own.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from typing import IO, Any

import psycopg
from psycopg import sql

from triton_env.services import Postgres
from triton_env.services.base_backup import Programs
from triton_env.services.postgres import toc
from triton_env.services.postgres.server import plain_connection
from triton_env.services.postgres.statements import names, statements
from triton_env.services.postgres.takeover import LOADER
from triton_env.services.postgres.toc import Contents, Entry
from triton_env.services.postgres.tools import pg_restore

Connection = psycopg.Connection[Any]

_CATALOGS = {
    **dict.fromkeys(("TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE"), "pg_class"),
    **dict.fromkeys(("TYPE", "DOMAIN"), "pg_type"),
    **dict.fromkeys(("FUNCTION", "PROCEDURE", "AGGREGATE"), "pg_proc"),
    "SCHEMA": "pg_namespace",
    "OPERATOR": "pg_operator",
    "COLLATION": "pg_collation",
    "CONVERSION": "pg_conversion",
    "TEXT SEARCH CONFIGURATION": "pg_ts_config",
    "TEXT SEARCH DICTIONARY": "pg_ts_dict",
    "STATISTICS": "pg_statistic_ext",
    "SERVER": "pg_foreign_server",
    "PUBLICATION": "pg_publication",
    "SUBSCRIPTION": "pg_subscription",
}
"""In which catalog the objects of an entry stand; entries of other kinds have no owner of their own."""
_LARGE_OBJECTS = ("BLOB", "BLOB METADATA")
_SUPERUSERS = frozenset(
    {
        *("ACCESS METHOD", "EVENT TRIGGER", "FOREIGN DATA WRAPPER", "OPERATOR CLASS", "OPERATOR FAMILY"),
        *("PROCEDURAL LANGUAGE", "SECURITY LABEL", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM"),
    }
)
"""Kinds of entries that a superuser alone can make, and that run code or may."""
_UNTRUSTED = re.compile(r'\bLANGUAGE\s+"?(c|internal|plpython\w*|plperlu|pltclu)"?(?!\w)|\bLEAKPROOF\b', re.IGNORECASE)
"""Marks functions that only a superuser can make. It spares the attempt: the server has the last word."""
_CONNECTING = re.compile(r"dblink|\w+_fdw|https?|pg_net|plproxy", re.IGNORECASE)
_OWNED = """
select (select relname from pg_class where oid = d.classid) as catalog,
       coalesce(pn.nspname, tn.nspname, case when array_length(a.object_names, 1) > 1 then a.object_names[1] end, '')
           as namespace,
       case when p.oid is not null then p.proname || '(' || case
                when p.prokind = 'a' and p.pronargs = 0 then '*'
                else array_to_string(array(select format_type(type, null) from unnest(p.proargtypes) type), ', ')
            end || ')'
            else coalesce(t.typname, a.object_names[array_length(a.object_names, 1)]) end as tag,
       i.type, i.identity
from pg_shdepend d
cross join lateral pg_identify_object(d.classid, d.objid, 0) i
cross join lateral pg_identify_object_as_address(d.classid, d.objid, 0) a
left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
left join pg_namespace pn on pn.oid = p.pronamespace
left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
left join pg_namespace tn on tn.oid = t.typnamespace
where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o'
  and d.refobjid = (select oid from pg_authid where rolname = %s)
  and d.dbid = (select oid from pg_database where datname = current_database())
  and not exists (select from pg_depend s
                  where d.classid = 'pg_class'::regclass and s.classid = d.classid and s.objid = d.objid
                    and s.refclassid = d.classid and s.refobjsubid > 0 and s.deptype in ('a', 'i'))
"""
_KEYWORDS = {
    **dict.fromkeys(("function", "procedure", "aggregate"), "routine"),
    "foreign-data wrapper": "foreign data wrapper",
    "statistics object": "statistics",
}
_FOR_ALL = """
select 'usage on foreign data wrapper', quote_ident(fdwname) from pg_foreign_data_wrapper
union all
select 'insert, select on table', unnest(extconfig)::regclass::text from pg_extension
"""
"""What a new role may not use, and an archive may need: those of extensions."""
_ALL_TABLES = re.compile(r'\s*CREATE PUBLICATION\s+("(?:[^"]|"")+"|\w+)\s+FOR ALL TABLES\b')
_COMMENT_OF_A_SUPERUSER = re.compile(r"\s*COMMENT ON (EXTENSION|PUBLICATION|SUBSCRIPTION)\b")


def contents(stream: IO[bytes], encoding: str) -> Contents:
    """The table of contents of an archive, for `reserved` and `load`.

    Raises:
        NotAnArchive: it has none that is known.
    """
    return toc.read(stream, encoding)


def connecting(found: Contents) -> list[str]:
    """The extensions in an archive by which any role connects to other servers, and to this one; in words.

    Raises:
        NotAllowed: one is made by another statement than pg_dump writes.
    """
    extensions = [names(entry)[0] for entry in found.entries if entry.description == "EXTENSION"]
    return [f"extension {name}" for name in extensions if _CONNECTING.fullmatch(name)]


def reserved(found: Contents) -> list[str]:
    """What is in an archive that only a superuser may make, and that may run any code; in words."""
    return [
        f"{entry.description.lower()} {entry.tag}"
        for entry in found.entries
        if entry.description in _SUPERUSERS
        or (entry.description in ("FUNCTION", "PROCEDURE", "AGGREGATE") and _UNTRUSTED.search(entry.definition))
    ]


class Loader:
    """Loads archives into one new database each, by a role that exists for that long.

    Args:
        admin: a superuser's connection.
        mark: begins the name of the role, and names the connections.
        supers: the superusers of the server that was saved, who saw all rows.
    """

    def __init__(
        self, service: Postgres, programs: Programs, admin: Connection, mark: str, supers: Collection[str]
    ) -> None:
        self._service = service
        self._programs = programs
        self._admin = admin
        self._mark = mark
        self._supers = supers
        self.role = f"{mark}{LOADER}"
        self._password = token_hex(16)

    def begin(self) -> None:
        """Make the role."""
        verifier = self._admin.pgconn.encrypt_password(self._password.encode(), self.role.encode(), b"scram-sha-256")
        self._admin.execute(
            # It sees all rows, as a superuser does: a materialized view is filled from them.
            sql.SQL("create role {} login bypassrls password {}").format(
                sql.Identifier(self.role), sql.Literal(verifier.decode())
            )
        )

    def end(self) -> None:
        """Remove the role; nothing belongs to it any longer."""
        self._admin.execute(sql.SQL("drop role {}").format(sql.Identifier(self.role)))

    def load(self, stream: IO[bytes], database: str, encoding: str, on_bytes: Callable[[int], None]) -> None:
        """Load the archive `stream` into `database`, which is empty.

        Raises:
            ProgramFailed: the server refused something in it.
            NotAllowed, NotAnArchive: it is not what pg_dump writes.
        """
        found = toc.read(stream, encoding)
        me = sql.Identifier(self.role)
        self._admin.execute(sql.SQL("alter database {} owner to {}").format(sql.Identifier(database), me))
        later = [
            entry
            for entry in _expanded(found.entries)
            # What concerns the database itself is in the index.
            if _is_for_a_superuser(entry) and not entry.tag.startswith("DATABASE ")
        ]
        afterwards = [each for entry in later if entry.description != "EXTENSION" for each in statements(entry)]
        with plain_connection(self._service, dbname=database, application_name=self._mark) as inside:
            # Names as pg_dump writes them, and nothing of the archive in the place of what is the server's.
            inside.execute("set search_path = ''; set quote_all_identifiers = on; set statement_timeout = 0")
            _make_extensions(inside, found, later, me)
            (public,) = _row(inside, "select nspowner::regrole::text from pg_namespace where nspname = 'public'")
            inside.execute(sql.SQL("alter schema public owner to {}").format(me))
            kept = [entry for entry in found.entries if not _is_for_a_superuser(entry) and not _is_made(inside, entry)]
            source = toc.restream(found.only(kept), stream)
            role = (self.role, self._password)
            pg_restore(self._service, self._programs, database, self._mark, source, on_bytes, role)
            inside.execute(sql.SQL("alter schema public owner to {}").format(sql.SQL(_literally(public))))
            self._give_away(inside, found)
            for statement in afterwards:
                inside.execute(statement)
            _own_what_superusers_own(inside, later)
            _fill_again(inside, found, self._supers)
            for words in ("reassign owned by {} to current_user", "drop owned by {}"):
                inside.execute(sql.SQL(words).format(me))
        # As its owner, the role may have given the database settings; those that it had are in the index.
        self._admin.execute(sql.SQL("alter database {} reset all").format(sql.Identifier(database)))

    def _give_away(self, inside: Connection, found: Contents) -> None:
        """Give everything the owner that it had; what is not in the list stays, and goes to the superuser."""
        owners: dict[tuple[str, str, str], str] = {}
        for entry in found.entries:
            if entry.owner and entry.description in _LARGE_OBJECTS:
                # Since version 17 many stand in one entry, which lists them.
                for number in re.findall(r"[0-9]+", entry.definition if entry.description != "BLOB" else entry.tag):
                    owners["pg_largeobject", "", number] = entry.owner
            elif entry.owner and entry.description in _CATALOGS:
                owners[_CATALOGS[entry.description], entry.namespace, entry.tag] = entry.owner
        for catalog, namespace, tag, kind, identity in inside.execute(_OWNED, (self.role,)).fetchall():
            if owner := owners.get((catalog, namespace, tag)):
                # The server's own words for the object, quoted by it.
                inside.execute(
                    sql.SQL("alter {} {} owner to {}").format(
                        sql.SQL(_KEYWORDS.get(kind, kind)), sql.SQL(_literally(identity)), sql.Identifier(owner)
                    )
                )
        if owner := owners.get(("pg_namespace", "", "public")):
            inside.execute(sql.SQL("alter schema public owner to {}").format(sql.Identifier(owner)))


def _make_extensions(inside: Connection, found: Contents, later: list[Entry], me: sql.Identifier) -> None:
    """Make them first, while nothing of the archive can be in their way, and let the role use what needs a grant."""
    schemas = {entry.tag for entry in found.entries if entry.description == "SCHEMA"}
    for entry in later:
        if entry.description == "EXTENSION":
            (statement,) = statements(entry)
            _, schema = names(entry)
            if schema in schemas:
                inside.execute(
                    sql.SQL("create schema if not exists {} authorization {}").format(sql.Identifier(schema), me)
                )
            inside.execute(statement)
    for what, identity in inside.execute(_FOR_ALL).fetchall():
        inside.execute(sql.SQL("grant {} {} to {}").format(sql.SQL(what), sql.SQL(_literally(identity)), me))


def _own_what_superusers_own(inside: Connection, later: Iterable[Entry]) -> None:
    """Publications for all tables, and subscriptions: an owner that is not a superuser is refused by the server."""
    supers = {name for (name,) in inside.execute("select rolname from pg_roles where rolsuper").fetchall()}
    for entry in later:
        if entry.description in ("PUBLICATION", "SUBSCRIPTION") and entry.owner in supers:
            inside.execute(
                sql.SQL("alter {} {} owner to {}").format(
                    sql.SQL(entry.description), sql.Identifier(entry.tag), sql.Identifier(entry.owner)
                )
            )


def _fill_again(inside: Connection, found: Contents, supers: Collection[str]) -> None:
    """Fill materialized views with the rows that their owners see, where that depends on who looks."""
    if not _row(inside, "select exists (select from pg_policy)")[0]:
        return
    for entry in found.entries:
        if entry.description == "MATERIALIZED VIEW DATA" and entry.owner not in supers:
            name = sql.Identifier(entry.namespace, entry.tag)
            # The server does this with the rights of the owner alone, who may not leave them. One who may not fill it
            # any more keeps the rows that are there.
            with suppress(psycopg.errors.InsufficientPrivilege):
                inside.execute(sql.SQL("refresh materialized view {}").format(name))


def _is_for_a_superuser(entry: Entry) -> bool:
    match entry.description:
        case "ACL" | "DEFAULT ACL" | "EXTENSION" | "SUBSCRIPTION" | "PUBLICATION TABLES IN SCHEMA":
            return True
        case "PUBLICATION":
            return bool(_ALL_TABLES.match(entry.definition))
        case "COMMENT":
            return bool(_COMMENT_OF_A_SUPERUSER.match(entry.definition))
    return False


def _is_made(inside: Connection, entry: Entry) -> bool:
    """Whether it is a schema that was made for an extension."""
    if entry.description != "SCHEMA" or entry.tag == "public":
        return False
    query = "select from pg_namespace where nspname = %s"
    return inside.execute(query, (entry.tag,)).fetchone() is not None


def _expanded(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries, with privileges for a group of large objects as one entry for each of them."""
    groups = {entry.tag: entry.definition for entry in entries if entry.description == "BLOB METADATA"}
    for entry in entries:
        group = groups.get(entry.tag.removeprefix("LARGE OBJECTS ")) if entry.description == "ACL" else None
        if group is None:
            yield entry
        else:
            for number in re.findall(r"[0-9]+", group):
                one = re.sub(r"\bLARGE OBJECT [0-9]+", f"LARGE OBJECT {number}", entry.definition)
                yield replace(entry, definition=one)


def _literally(text: str) -> str:
    """For `sql.SQL`, where braces mean something."""
    return text.replace("{", "{{").replace("}", "}}")


def _row(connection: Connection, query: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row
