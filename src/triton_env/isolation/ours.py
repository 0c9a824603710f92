"""What isolation made, told from the user's data by its names alone.

Backup and restore leave all of it as it is: namespaces, templates, snapshots and the pool come and go beside them.
"""

import re
from collections.abc import Collection
from typing import Final

from triton_env.isolation.base import NAMESPACE, PREFIX, SNAPSHOT, TEMPLATE
from triton_env.services.s3_names import BucketNames

OWN_NUMBERS: Final = range(16)
"""The logical databases of the user, where a Redis has more: those that it has by default."""
_DATABASE: Final = re.compile(f"(?:{NAMESPACE}|{TEMPLATE}|{SNAPSHOT})[a-z0-9_]+|{PREFIX}own_+new|{PREFIX}empty")
_KINDS: Final = "|".join(kind.removeprefix(PREFIX).rstrip("_") for kind in (NAMESPACE, TEMPLATE, SNAPSHOT))
_SUFFIX: Final = re.compile(f"-({_KINDS})-([a-z0-9]+(?:(?:--)+[a-z0-9]+)*)")


def is_space(database: str) -> bool:
    """Whether isolation made a database of PostgreSQL or ClickHouse, also one that is half-way to its name."""
    return bool(_DATABASE.fullmatch(database))


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


def without_spaces(bucket: str, there: Collection[str]) -> list[str]:
    """The buckets that are of no space: the user's own."""
    spaces = [bucket_names(identifier) for identifier in space_ids(bucket, there)]
    return [name for name in there if not any(names.has(name) for names in spaces)]


def own_numbers(databases: int, taken: Collection[int]) -> list[int]:
    """The logical databases of Redis that are the user's.

    Args:
        databases: how many the server has.
        taken: those that spaces have.
    """
    numbers = OWN_NUMBERS if databases > len(OWN_NUMBERS) else range(databases)
    return [number for number in numbers if number not in taken]
