"""What there is in a ClickHouse server, as data: databases, and in each its tables, dictionaries and views."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from triton_env.core.printable import listed
from triton_env.services.clickhouse.http import Http, ServerError, quoted
from triton_env.services.clickhouse.renaming import without_columns

SYSTEM = ("system", "INFORMATION_SCHEMA", "information_schema", "_temporary_and_external_tables")
RENAMEABLE = "Atomic"
"""The engine of databases that can be renamed; it is the default one."""
UNCHECKED = {"check_table_dependencies": "0", "check_referential_table_dependencies": "0"}
"""Settings for statements that move or drop what others may name."""
AS_THEY_ARE = {
    "optimize_on_insert": "0",
    "insert_deduplicate": "0",
    "async_insert": "0",
    "insert_allow_materialized_columns": "1",
    "max_partitions_per_insert_block": "0",
}
"""Settings to insert rows as they are: not merged, not left out as repeated, with the values of their columns."""

_DATABASES = """
SELECT name, engine, comment FROM system.databases WHERE name NOT IN (%s) ORDER BY name
"""
_FUNCTIONS = (
    "SELECT name, create_query AS statement FROM system.functions WHERE origin = 'SQLUserDefined' ORDER BY name"
)
_TABLES = """
SELECT database, name, toString(uuid) AS uuid, engine, create_table_query AS statement, total_rows AS rows,
       arrayZip(dependencies_database, dependencies_table) AS readers,
       arrayZip(loading_dependencies_database, loading_dependencies_table) AS needs
FROM system.tables WHERE database NOT IN (%s) AND NOT is_temporary ORDER BY database, name
"""
_COLUMNS = """
SELECT database, table, arrayMap(pair -> pair.2, arraySort(groupArray((position, name)))) AS names
FROM system.columns WHERE database NOT IN (%s) AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') GROUP BY database, table
"""
_SYSTEM_NAMES = ", ".join(f"'{name}'" for name in SYSTEM)
_LOGS = ("Log", "TinyLog", "StripeLog", "Memory", "Join", "EmbeddedRocksDB")
_OWN_FILE = re.compile(r"\) ENGINE = File\('?\w+'?\)")
_LEFT_OUT = (
    (
        "SELECT database, table AS name FROM system.detached_tables WHERE database NOT IN (%s) ORDER BY ALL",
        "Detached tables are not saved",
    ),
    (
        "SELECT DISTINCT database, table AS name FROM system.detached_parts WHERE database NOT IN (%s) ORDER BY ALL",
        "Detached parts are not saved; these tables have some",
    ),
    (
        "SELECT DISTINCT database, table AS name FROM system.mutations"
        " WHERE NOT is_done AND database NOT IN (%s) ORDER BY ALL",
        "Rows are saved as they were before mutations that were not done; these tables have some",
    ),
)
_KINDS = {"Dictionary": "DICTIONARY", "View": "VIEW", "MaterializedView": "MATERIALIZED VIEW"}
INNER = re.compile(r"\.inner(_id)?\.")
"""Begins the names of tables that the server made for a view, and of those whose user named them so."""
_EXPERIMENTAL = """
SELECT name FROM system.settings WHERE type = 'Bool' AND match(name,
    '^(allow_experimental_.*(types?|tables?|engine|index|view|codecs|dictionary)|allow_suspicious_.*|enable_.*_type)$')
"""


def databases(http: Http) -> list[dict[str, Any]]:
    """The name, engine and comment of each database that is not the server's own."""
    return http.rows(_DATABASES % _SYSTEM_NAMES)


def functions(http: Http) -> list[dict[str, Any]]:
    """The name and statement of each function that was defined in SQL."""
    return http.rows(_FUNCTIONS)


def experimental(http: Http) -> dict[str, str]:
    """The settings by which a server makes what it made before, such as a table of a type that is experimental."""
    return {row["name"]: "1" for row in http.rows(_EXPERIMENTAL)}


def holds_rows(engine: str, statement: str = "") -> bool:
    """Whether a table of this engine holds rows of its own that can be read back."""
    # With a format alone, the file of a File is in the server's own folder of the table.
    own_file = engine == "File" and _OWN_FILE.search(statement) is not None
    return engine.endswith("MergeTree") or engine in _LOGS or own_file


def belongs(inner: str, row: dict[str, Any]) -> bool:
    """Whether a table was made by the server for another: with that one's UUID in its name, or its name."""
    return inner.endswith(f".{row['uuid']}") or inner == f".inner.{row['name']}"


def left_out(http: Http, concerns: Callable[[str], bool]) -> list[str]:
    """What the databases that this concerns hold beside their tables, one sentence for each kind of it."""
    found = []
    for query, words in _LEFT_OUT:
        with suppress(ServerError):  # an older server, which lacks the list
            rows = [row for row in http.rows(query % _SYSTEM_NAMES) if concerns(row["database"])]
            names = [f"{row['database']}.{row['name']}" for row in rows]
            if names:
                found.append(f"{words}: {listed(names)}.")
    return found


def of_other_engines(index: Mapping[str, Any]) -> list[str]:
    """What a backup says of databases that a restore makes with another engine."""
    filled = {entry["database"] for entry in index["objects"]}
    names = [
        f"{each['name']} ({each['engine']})"
        for each in index["databases"]
        # Every server has a default one, of whatever engine.
        if each["engine"] != RENAMEABLE and (each["name"] != "default" or "default" in filled)
    ]
    return [f"Databases of other engines are restored as {RENAMEABLE}: {listed(names)}."] * bool(names)


def objects(http: Http) -> list[dict[str, Any]]:
    """Everything in these databases.

    Each has `database`, `name`, `kind` ("TABLE", "DICTIONARY", "VIEW", "MATERIALIZED VIEW"), `engine`, `definition`
    (its statement from behind its name on), `columns` (those whose values are kept), `rows` (as far as known), `after`
    (what has to be there before it), and `source`: the table that holds its rows, None where it holds none.
    """
    columns = {(row["database"], row["table"]): row["names"] for row in http.rows(_COLUMNS % _SYSTEM_NAMES)}
    tables = http.rows(_TABLES % _SYSTEM_NAMES)
    by_name = {(table["database"], table["name"]): table for table in tables}
    after: dict[tuple[str, str], list[list[str]]] = {
        key: [list(need) for need in t["needs"]] for key, t in by_name.items()
    }
    for key, table in by_name.items():
        for reader in table["readers"]:
            after.setdefault(tuple(reader), []).append(list(key))
    found = []
    for key, table in by_name.items():
        if INNER.match(table["name"]) and any(
            belongs(table["name"], each) for each in tables if each["database"] == table["database"]
        ):
            continue  # made with the view that it belongs to
        kind = _KINDS.get(table["engine"], "TABLE")
        source = key if kind == "TABLE" and holds_rows(table["engine"], table["statement"]) else None
        if kind == "MATERIALIZED VIEW":
            names = (f".inner_id.{table['uuid']}", f".inner.{table['name']}")
            source = next(((table["database"], name) for name in names if (table["database"], name) in by_name), None)
        found.append(
            {
                "database": table["database"],
                "name": table["name"],
                "kind": kind,
                "engine": table["engine"],
                "definition": _definition(table, kind),
                "columns": columns.get(source, []) if source else [],
                "rows": by_name[source]["rows"] if source else None,
                "after": after[key],
                "source": list(source) if source else None,
            }
        )
    return found


def create(entry: dict[str, Any], database: str) -> str:
    """The statement that makes an object in `database`."""
    definition = entry["definition"]
    if entry["engine"] == "Alias":
        definition = " " + without_columns(definition).lstrip()
    return f"CREATE {entry['kind']} {quoted(database, entry['name'])}{definition}"


def _definition(table: dict[str, Any], kind: str) -> str:
    """What follows the name, so that the same can be made under another name."""
    statement = str(table["statement"])
    for database in (table["database"], quoted(table["database"])):
        for name in (table["name"], quoted(table["name"])):
            head = f"CREATE {kind} {database}.{name}"
            if statement.startswith(head) and statement[len(head) : len(head) + 1] in " \n(":
                return statement[len(head) :]
    raise ValueError(f"cannot read the statement of {table['database']}.{table['name']}: {statement[:200]}")
