"""Object locks: the retention and the legal hold of a version.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_env.core.threads import for_each
from triton_env.services.s3.answers import is_missing
from triton_env.services.s3.clients import THREADS
from triton_env.services.s3.versions import Version, versions_by_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Locked(NamedTuple):
    """A version that has a lock."""

    key: str
    number: int
    """Which of the versions of this key it is, the oldest first, from 0."""
    lock: Mapping[str, str]


def lock_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """The lock of a version as data that JSON can hold, from the answer that has its headers; empty for none."""
    lock: dict[str, str] = {}
    if answer.get("ObjectLockMode") and answer.get("ObjectLockRetainUntilDate"):
        lock |= {"Mode": answer["ObjectLockMode"], "RetainUntilDate": answer["ObjectLockRetainUntilDate"].isoformat()}
    if answer.get("ObjectLockLegalHoldStatus") == "ON":
        lock["LegalHold"] = "ON"
    return lock


def has_expired(lock: Mapping[str, str]) -> bool:
    """Whether its retention has ended. Servers set none that ends in the past."""
    return "Mode" in lock and datetime.fromisoformat(lock["RetainUntilDate"]) <= datetime.now(UTC)


def set_lock(client: "S3Client", where: Mapping[str, Any], lock: Mapping[str, str]) -> None:
    """Lock a version, in a bucket that has object lock. By requests of its own, which all servers take.

    Args:
        where: the arguments of requests for the version.
        lock: what `lock_of` gave.
    """
    if "Mode" in lock and not has_expired(lock):
        retention: Any = {"Mode": lock["Mode"], "RetainUntilDate": datetime.fromisoformat(lock["RetainUntilDate"])}
        client.put_object_retention(**where, Retention=retention)
    if "LegalHold" in lock:
        client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})


def set_locks(client: "S3Client", bucket: str, locks: Sequence[Locked]) -> list[str]:
    """Lock versions in a bucket that has object lock. May be done again.

    Returns:
        The keys of those that the server does not lock.
    """
    from botocore.exceptions import ClientError

    if not locks:
        return []
    found = {versions[0].key: versions for versions in versions_by_key(client, bucket)}

    def lock(each: Locked) -> str:
        try:
            set_lock(client, found[each.key][each.number].where(bucket), each.lock)
        except (ClientError, LookupError):
            return each.key
        return ""

    return [key for key in for_each(locks, lock, THREADS) if key]


def held_versions(
    client: "S3Client", buckets: Iterable[str], *, overrules: bool = True, releases_holds: bool = False
) -> list[str]:
    """What may not be removed, in words: "bucket/key (legal hold)". Only buckets with object lock are looked into.

    Args:
        overrules: whether governance may be bypassed.
        releases_holds: whether legal holds may be ended.
    """
    from botocore.exceptions import ClientError

    found: list[str] = []
    for bucket in buckets:
        try:
            client.get_object_lock_configuration(Bucket=bucket)
            versions = [each for group in versions_by_key(client, bucket) for each in group if not each.is_marker]
        except ClientError:
            # It has none, is gone, or the server does not know of it.
            continue

        def held(version: Version, bucket: str = bucket) -> str:
            try:
                lock = lock_of(client.head_object(**version.where(bucket)))
            except ClientError as error:
                if is_missing(error):
                    return ""
                raise
            if releases_holds:
                lock.pop("LegalHold", None)
            words = why_held(lock, overrules=overrules)
            return f"{bucket}/{version.key} ({words})" if words else ""

        found += dict.fromkeys(name for name in for_each(versions, held, THREADS) if name)
    return found


def why_held(lock: Mapping[str, str], *, overrules: bool = True) -> str:
    """Why a version with this lock may not be removed; empty where it may.

    Args:
        lock: what `lock_of` gave.
        overrules: whether governance may be bypassed.
    """
    if "LegalHold" in lock:
        return "legal hold"
    if "Mode" in lock and not has_expired(lock) and not (overrules and lock["Mode"] == "GOVERNANCE"):
        return f"{lock['Mode'].lower()} retention until {lock['RetainUntilDate'][:10]}"
    return ""
