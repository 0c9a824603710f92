"""What of S3 is the user's, by the names of buckets: neither isolation nor a restore made it."""

import hashlib
import re
from collections.abc import Collection
from typing import Final

from triton_env.services.base_isolation import NAMESPACE, PREFIX, SNAPSHOT, TEMPLATE
from triton_env.services.names import RESTORE
from triton_env.services.s3.bucket_names import BucketNames

_STAGED: Final = re.compile(f"{RESTORE.replace('_', '-')}[0-9a-f]{{8}}(?:-[0-9]+)?")
_CLAIMS: Final = "triton-claims-"
_CLAIMS_BUCKET: Final = re.compile(f"{_CLAIMS}[0-9a-f]{{12}}")
"""Also those beside the buckets of other projects on the same server."""
_KINDS: Final = "|".join(kind.removeprefix(PREFIX).rstrip("_") for kind in (NAMESPACE, TEMPLATE, SNAPSHOT))
_SUFFIX: Final = re.compile(f"-({_KINDS})-([a-z0-9]+(?:(?:--)+[a-z0-9]+)*)")


def is_bucket_of_restore(name: str) -> bool:
    """Whether a restore made a bucket beside the user's."""
    return bool(_STAGED.fullmatch(name))


def claims_bucket(bucket: str) -> str:
    """The bucket in which those who make spaces beside a bucket note that they live."""
    return _CLAIMS + hashlib.sha256(bucket.encode()).hexdigest()[:12]


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
    return [
        name
        for name in there
        if not is_bucket_of_restore(name)
        and not _CLAIMS_BUCKET.fullmatch(name)
        and not any(each.has(name) for each in spaces)
    ]
