"""What isolation made, told from the user's data by its names.

Backup and restore leave all of it as it is: namespaces, templates, snapshots and the pool come and go beside them. A
name alone is no proof: what no record says to be a space's is left alone too, and named.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from triton_env.services.base_isolation import NAMESPACE, PREFIX, SNAPSHOT, TEMPLATE
from triton_env.services.s3.bucket_names import BucketNames

OWN_NUMBERS: Final = range(16)
"""The logical databases of the user, where a Redis has more: those that it has by default."""
NAMESPACE_USER: Final = "triton-namespace"
"""The user of Redis as whom clients of spaces log in."""
EMPTY: Final = f"{PREFIX}empty"
"""The database of PostgreSQL from which empty spaces are copied. No client can be in it, unlike `template1`."""
_DATABASE: Final = re.compile(f"(?:{NAMESPACE}|{TEMPLATE}|{SNAPSHOT})[a-z0-9_]+|{PREFIX}own_+new|{EMPTY}")
RESTORE: Final = "triton_restore_"
"""Begins the names of what a restore makes beside the data that is there. Followed by eight hexadecimal digits."""
RESTORE_KEY: Final = "triton_restore"
"""In a logical database of Redis that a restore uses: whose it is, and what is in it."""
_STAGED: Final = re.compile(f"{RESTORE}[0-9a-f]{{8}}_(?:(?:new|old)_.*|loader)", re.DOTALL)
_STAGED_BUCKET: Final = re.compile(f"{RESTORE.replace('_', '-')}[0-9a-f]{{8}}(?:-[0-9]+)?")
_KINDS: Final = "|".join(kind.removeprefix(PREFIX).rstrip("_") for kind in (NAMESPACE, TEMPLATE, SNAPSHOT))
_SUFFIX: Final = re.compile(f"-({_KINDS})-([a-z0-9]+(?:(?:--)+[a-z0-9]+)*)")


def is_space(database: str) -> bool:
    """Whether isolation made a database of PostgreSQL or ClickHouse, also one that is half-way to its name."""
    return bool(_DATABASE.fullmatch(database))


def is_of_restore(name: str) -> bool:
    """Whether a restore made a database or role, or set it aside."""
    return bool(_STAGED.fullmatch(name))


def is_bucket_of_restore(name: str) -> bool:
    """Whether a restore made a bucket beside the user's."""
    return bool(_STAGED_BUCKET.fullmatch(name))


def unrecorded(databases: Iterable[str], known: frozenset[str]) -> list[str]:
    """The databases with a name as isolation gives, of no space that is known: perhaps the user's.

    Args:
        databases: their names.
        known: the ids of the spaces that are in use, kept or finished.
    """
    return [name for name in databases if is_space(name) and known.isdisjoint(_possible_ids(name))]


def _possible_ids(database: str) -> set[str]:
    """The spaces that a database may be of, or that may take its place."""
    return {database, database.removesuffix("__new"), database.removesuffix("_new"), database.partition("__")[0]}


def space_ids(bucket: str, there: Collection[str]) -> list[str]:
    """The ids of the spaces that have buckets, by those that the application expects in each of them.

    Args:
        bucket: the name of the environment's bucket.
        there: the names of all buckets.
    """
    found = (_SUFFIX.fullmatch(name.removeprefix(bucket)) for name in there if name.startswith(bucket))
    return [f"{PREFIX}{each[1]}_{each[2].replace('--', '_')}" for each in found if each]


def bucket_names(identifier: str) -> BucketNames:
    """How the buckets of a space are called that has some; see `space_ids`."""
    kind, _, name = identifier.removeprefix(PREFIX).partition("_")
    return BucketNames(f"-{kind}-{name.replace('_', '--')}")


def users_buckets(bucket: str, there: Collection[str]) -> list[str]:
    """The buckets that are the user's own: neither isolation nor a restore made them."""
    spaces = [bucket_names(identifier) for identifier in space_ids(bucket, there)]
    return [name for name in there if not is_bucket_of_restore(name) and not any(each.has(name) for each in spaces)]


def own_numbers(databases: int, taken: Collection[int]) -> list[int]:
    """The logical databases of Redis that are the user's.

    Args:
        databases: how many the server has.
        taken: those that spaces have.
    """
    numbers = OWN_NUMBERS if databases > len(OWN_NUMBERS) else range(databases)
    return [number for number in numbers if number not in taken]
