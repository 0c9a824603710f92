"""What SQL made in a ClickHouse server beside databases: users, roles, functions and the like."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Final

from triton_env.core.printable import listed
from triton_env.services.clickhouse.http import Http, ServerError, quoted
from triton_env.services.clickhouse.trying import in_working_order

_ACCESS: Final = """
SELECT kind, name, database, table FROM (
    SELECT 'USER' AS kind, name, '' AS database, '' AS table, storage FROM system.users
    UNION ALL SELECT 'ROLE', name, '', '', storage FROM system.roles
    UNION ALL SELECT 'QUOTA', name, '', '', storage FROM system.quotas
    UNION ALL SELECT 'SETTINGS PROFILE', name, '', '', storage FROM system.settings_profiles
    UNION ALL SELECT 'ROW POLICY', short_name, database, table, storage FROM system.row_policies
) WHERE storage NOT IN ('users_xml', 'users.xml')
"""
"""Those of the configuration stay: https://clickhouse.com/docs/operations/access-rights."""
_OTHERS: Final = {
    "FUNCTION": "SELECT name FROM system.functions WHERE origin = 'SQLUserDefined'",
    "NAMED COLLECTION": "SELECT name FROM system.named_collections",
    "WORKLOAD": "SELECT name FROM system.workloads",
    "RESOURCE": "SELECT name FROM system.resources",
}
_UNSAVED: Final = {
    "USER": "Users are not saved",
    "ROLE": "Roles are not saved",
    "QUOTA": "Quotas are not saved",
    "SETTINGS PROFILE": "Settings profiles are not saved",
    "ROW POLICY": "Row policies are not saved, without which users see all rows",
    "NAMED COLLECTION": "Named collections are not saved",
    "WORKLOAD": "Workloads are not saved",
    "RESOURCE": "Resources are not saved",
}
_NOT_THERE: Final = ("ACCESS_DENIED", "UNKNOWN_TABLE", "UNKNOWN_IDENTIFIER")
"""How servers answer that do not have the like, or not for this user."""
_FIXED: Final = "NAMED_COLLECTION_IS_IMMUTABLE"
"""A named collection of the configuration."""


_STATES: Final = (
    *(f"SYSTEM START {what}" for what in ("MERGES", "TTL MERGES", "MOVES", "FETCHES", "DISTRIBUTED SENDS", "VIEWS")),
    "SYSTEM DROP QUERY CACHE",
)
"""What takes back the like of SYSTEM STOP MERGES, which holds for all of a server."""


def unsaved(http: Http, user: str) -> list[str]:
    """What SQL made beside databases and functions, which no backup has: one sentence for each kind of it.

    Args:
        user: the environment's, who is there in every server.
    """
    found: dict[str, list[str]] = {}
    for row in _found(http, _ACCESS):
        if (row["kind"], row["name"]) != ("USER", user):
            where = f" ON {row['database']}.{row['table'] or '*'}" if row["kind"] == "ROW POLICY" else ""
            found.setdefault(row["kind"], []).append(row["name"] + where)
    for kind in _OTHERS.keys() - {"FUNCTION"}:
        found[kind] = [row["name"] for row in _found(http, _OTHERS[kind])]
    return [f"{words}: {listed(found[kind])}." for kind, words in _UNSAVED.items() if found.get(kind)]


def removals(http: Http) -> list[str]:
    """The statements that remove whatever SQL made in this server beside databases."""
    return list(_statements(http))


def remove_all(http: Http, kept: Collection[str] = ()) -> None:
    """Remove whatever SQL made in this server beside databases, and this user may remove.

    Args:
        kept: of `removals`, those that are not to be executed.

    Raises:
        ServerError: something cannot be removed.
    """
    for statement in _STATES:
        with suppress(ServerError):  # not every server has each of them
            http.run(statement)

    def remove(statement: str) -> None:
        try:
            http.run(statement)
        except ServerError as error:
            if _FIXED not in str(error):
                raise

    # Workloads go in the order of their tree.
    in_working_order([statement for statement in _statements(http) if statement not in kept], remove)


def _statements(http: Http) -> Iterator[str]:
    for row in _found(http, _ACCESS):
        where = f" ON {quoted(row['database'])}.{quoted(row['table']) if row['table'] else '*'}"
        yield f"DROP {row['kind']} IF EXISTS {quoted(row['name'])}{where if row['kind'] == 'ROW POLICY' else ''}"
    for kind, query in _OTHERS.items():
        for row in _found(http, query):
            yield f"DROP {kind} IF EXISTS {quoted(row['name'])}"


def _found(http: Http, query: str) -> list[dict[str, Any]]:
    try:
        return http.rows(query)
    except ServerError as error:
        if any(word in str(error) for word in _NOT_THERE):
            return []
        raise
