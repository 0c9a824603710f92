"""What a backup of PostgreSQL leaves out, in words: neither pg_dump nor `catalog` reads it."""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from triton_env.core.printable import listed
from triton_env.services import Postgres
from triton_env.services.names import is_users
from triton_env.services.postgres.server import contents, plain_connection

_TEMPLATE = "template1"
_OF_SERVER = (
    (
        "select spcname from pg_tablespace where spcname !~ '^pg_' order by 1",
        "Tablespaces are not saved, and what is in them goes to the default one",
    ),
    (
        "select spcname from pg_tablespace where spcname ~ '^pg_'"
        " and (spcacl is not null or shobj_description(oid, 'pg_tablespace') is not null) order by 1",
        "Privileges and comments of tablespaces are not saved",
    ),
    (
        "select datname from pg_database where (datistemplate or not datallowconn)"
        " and datname !~ '^template[01]$' order by 1",
        "Databases that are templates, or that allow no connections, are not saved",
    ),
    ("select gid from pg_prepared_xacts order by 1", "Prepared transactions are not saved"),
    (
        "select slot_name from pg_replication_slots where not temporary order by 1",
        "Replication slots are not saved",
    ),
    (
        "select distinct subname from pg_subscription order by 1",
        "Subscriptions are saved without their slots, and do nothing until they are enabled after a restore",
    ),
    (
        # Those of subscriptions are made with these.
        "select roname from pg_replication_origin where roname !~ '^pg_[0-9]+$' order by 1",
        "Replication origins are not saved",
    ),
    (
        "select distinct name from pg_file_settings where sourcefile ~ 'postgresql[.]auto[.]conf$' order by 1",
        "Settings of the server (ALTER SYSTEM) are not saved",
    ),
    ("select parname from pg_parameter_acl order by 1", "Privileges on parameters of the server are not saved"),
    (
        "select distinct split_part(setting, '=', 1) from pg_db_role_setting, unnest(setconfig) setting"
        " where setrole = current_user::regrole order by 1",
        "Settings of the user of the environment (ALTER ROLE) are not restored to an environment whose user it is",
    ),
    ("select distinct provider from pg_shseclabel order by 1", "Security labels of roles and databases are not saved"),
)
_OF_DATABASES = (
    (
        # Those of partitioned tables are made without those of their partitions.
        "select i.indexrelid::regclass::text from pg_index i join pg_class t on t.oid = i.indrelid"
        " where not (i.indisvalid and i.indisready) and t.relkind <> 'p' and i.indexrelid >= 16384 order by 1",
        "Invalid indexes are not saved",
    ),
    (
        "select pg_describe_object(catalog, oid, 0) from (select 'pg_proc'::regclass, oid, pronamespace from pg_proc"
        " union all select 'pg_class', oid, relnamespace from pg_class where relkind not in ('i', 'I', 't')"
        " union all select 'pg_type', oid, typnamespace from pg_type where typrelid = 0"
        " union all select 'pg_operator', oid, oprnamespace from pg_operator) o (catalog, oid, space)"
        " where oid >= 16384 and space in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
        " and not exists (select from pg_depend d where d.classid = o.catalog and d.objid = o.oid"
        " and d.deptype in ('e', 'i')) order by 1",
        "What was made in the schemas of the server, pg_catalog and information_schema, is not saved",
    ),
    (
        "select ftrelid::regclass::text from pg_foreign_table order by 1",
        "Rows of foreign tables are not saved: they stay in their servers",
    ),
)


def of_server(connection: psycopg.Connection[Any]) -> list[str]:
    """What the server holds beside what is saved, one sentence for each kind of it."""
    # What isolation made has its own names.
    found = {words: [name for name in names if is_users(name)] for words, names in _found(connection, _OF_SERVER)}
    return _sentences(found)


def of_template(service: Postgres) -> list[str]:
    """Whether something was made in the database from which others are copied, which is not saved."""
    try:
        with plain_connection(service, dbname=_TEMPLATE) as connection:
            is_changed = any(contents(connection))
    except psycopg.OperationalError:
        return []  # dropped, or not for this user
    return [f"What was made in the template database {_TEMPLATE} is not saved."] * is_changed


class OfDatabases:
    """What databases hold beside what pg_dump reads."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[str]]] = {}

    def look(self, database: str, connection: psycopg.Connection[Any]) -> None:
        """Look into a database, which may be looked into again."""
        for words, names in _found(connection, _OF_DATABASES):
            self._found.setdefault(words, {})[database] = [f"{database}: {name}" for name in names]

    def words(self) -> list[str]:
        """One sentence for each kind of it."""
        return _sentences(
            {words: [name for names in found.values() for name in names] for words, found in self._found.items()}
        )


def _found(
    connection: psycopg.Connection[Any], queries: tuple[tuple[str, str], ...]
) -> Iterator[tuple[str, list[str]]]:
    for query, words in queries:
        try:
            rows = connection.execute(query.encode()).fetchall()
        except psycopg.errors.UndefinedTable:
            continue  # an older server, which knows nothing of the kind
        yield words, [name for (name,) in rows]


def _sentences(found: Mapping[str, list[str]]) -> list[str]:
    return [f"{words}: {listed(names)}." for words, names in found.items() if names]
