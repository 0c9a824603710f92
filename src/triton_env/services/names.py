"""What isolation and restores made, recognised by its names.

Backup and restore leave all of it as it is: namespaces, templates, snapshots and the pool come and go beside them. A
name alone is not proof: what no record says to be a space's is left alone too, and named.
"""

import re
from collections.abc import Iterable
from typing import Final

from triton_env.services.base_isolation import NAMESPACE, PREFIX, SNAPSHOT, TEMPLATE, owner_of

EMPTY: Final = f"{PREFIX}empty"
"""The database from which empty spaces are copied, where a service needs one. No client can be in it."""
CLAIMS: Final = f"{PREFIX}claims"
"""The database in which those who make spaces note that they live; see `triton_env.services.base_claims`."""
_DATABASE: Final = re.compile(f"(?:{NAMESPACE}|{TEMPLATE}|{SNAPSHOT})[a-z0-9_]+|{PREFIX}own_+new|{EMPTY}|{CLAIMS}")
_KINDS: Final = {NAMESPACE: "namespace", TEMPLATE: "template", SNAPSHOT: "snapshot"}
RESTORE: Final = "triton_restore_"
"""Begins the names of what a restore makes beside the data that is there. Followed by eight hexadecimal digits."""
_STAGED: Final = re.compile(f"{RESTORE}[0-9a-f]{{8}}_(?:(?:new|old)_.*|loader)", re.DOTALL)


def is_space(database: str) -> bool:
    """Whether isolation made a database, also one that is half-way to its name."""
    return bool(_DATABASE.fullmatch(database))


def kind_of_space(database: str) -> str:
    """What isolation made a database for: "namespace", "template", "snapshot" or "space"; empty for the user's own."""
    if not is_space(database):
        return ""
    return next((kind for prefix, kind in _KINDS.items() if database.startswith(prefix)), "space")


def is_of_restore(name: str) -> bool:
    """Whether a restore made a database or role, or set it aside."""
    return bool(_STAGED.fullmatch(name))


def is_users(database: str) -> bool:
    """Whether a database is the user's: neither isolation nor a restore made it."""
    return not is_of_restore(database) and not is_space(database)


def named_as_spaces(databases: Iterable[str], known: frozenset[str]) -> list[str]:
    """The databases with a name as isolation gives, of no space that is known: perhaps the user's.

    Args:
        known: the ids of the spaces that are in use, kept or finished.
    """
    return [name for name in databases if is_unknown(name) and known.isdisjoint(_possible_ids(name))]


def is_unknown(database: str) -> bool:
    """Whether a database has a name as isolation gives, and none that says which machine made it."""
    return is_space(database) and database != CLAIMS and not any(map(owner_of, _possible_ids(database)))


def _possible_ids(database: str) -> set[str]:
    """The spaces that a database may be of, or that may take its place."""
    return {database, database.removesuffix("__new"), database.removesuffix("_new"), database.partition("__")[0]}
