"""Removing buckets with all that is in them, also what is locked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from triton_env.core.threads import for_each
from triton_env.services.s3.answers import code_of, is_missing
from triton_env.services.s3.clients import THREADS
from triton_env.services.s3.locks import lock_of, why_held
from triton_env.services.s3.versions import Version, listed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BATCH: Final = 1000
"""Objects that one request may delete."""
_ROUNDS: Final = 20
"""How often a bucket is emptied before it counts as one that is written to all the time."""


class BucketHeld(Exception):
    """A bucket cannot be removed. The message says why.

    Attributes:
        bucket: its name.
        cause: what the server says of the first object that stays; empty where others go on writing.
    """

    def __init__(self, what: str, bucket: str, cause: str = "") -> None:
        super().__init__(f"{what} ({cause})" if cause else what)
        self.what = what
        self.bucket = bucket
        self.cause = cause


def remove_bucket(client: "S3Client", name: str, *, releases_holds: bool = False) -> None:
    """Remove a bucket with all that is in it, also what is locked in the governance mode.

    Does nothing if it does not exist.

    Args:
        client: of its server, for several threads.
        releases_holds: end legal holds, where all of the bucket is ours.

    Raises:
        BucketHeld: an object is held by a lock, or others go on writing.
        botocore.exceptions.ClientError: the server refused.
    """
    from botocore.exceptions import ClientError

    for _ in range(_ROUNDS):
        try:
            client.delete_bucket(Bucket=name)
        except ClientError as error:
            if is_missing(error):
                return
            if code_of(error) != "BucketNotEmpty" and not _is_freed(client, name):
                raise
        else:
            return
        try:
            _empty(client, name, releases_holds=releases_holds)
        except (BucketHeld, ClientError) as error:
            if not (isinstance(error, ClientError) and is_missing(error)) and not _is_freed(client, name):
                raise
    raise BucketHeld(f"The bucket {name} cannot be removed: objects keep appearing.", name)


def _is_freed(client: "S3Client", name: str) -> bool:
    """Take a bucket's policy away, which may deny what is to be done; False where it has none."""
    from botocore.exceptions import ClientError

    try:
        client.get_bucket_policy(Bucket=name)
    except ClientError:
        return False
    client.delete_bucket_policy(Bucket=name)
    return True


def _empty(client: "S3Client", name: str, *, releases_holds: bool) -> None:
    """Remove all versions and open uploads of a bucket."""
    # Not everything that is in buckets without versions can be named by the id "null"; a request takes it all the same.
    versions, markers = listed(client, name)
    found = [*versions, *markers]
    batches = [found[start : start + _BATCH] for start in range(0, len(found), _BATCH)]
    for_each(batches, lambda batch: _delete(client, name, batch, releases=releases_holds), THREADS)
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", ()):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])


def _delete(client: "S3Client", name: str, batch: Sequence[Version], *, releases: bool) -> None:
    left, cause = _refused(client, name, batch)
    if left:
        # Locks in the governance mode are there to be overruled by those who may.
        left, cause = _refused(client, name, left, BypassGovernanceRetention=True)
    if left and releases:
        for version in left:
            if "LegalHold" in _lock(client, name, version):
                client.put_object_legal_hold(**version.where(name), LegalHold={"Status": "OFF"})
        left, cause = _refused(client, name, left, BypassGovernanceRetention=True)
    if left:
        held = ((version, why_held(_lock(client, name, version))) for version in left)
        version, why = next((each for each in held if each[1]), (left[0], ""))
        raise BucketHeld(f"The S3 object {name}/{version.key} cannot be removed.", name, why or cause)


def _lock(client: "S3Client", name: str, version: Version) -> dict[str, str]:
    from botocore.exceptions import ClientError

    try:
        return {} if version.is_marker else lock_of(client.head_object(**version.where(name)))
    except ClientError:
        # Deleted by now.
        return {}


def _refused(
    client: "S3Client", name: str, versions: Sequence[Version], **options: Any
) -> tuple[Sequence[Version], str]:
    """Delete versions. Returns those that the server does not, and what it says of the first."""
    deleted: Any = {"Objects": [{"Key": each.key, "VersionId": each.id} for each in versions], "Quiet": True}
    errors = client.delete_objects(Bucket=name, Delete=deleted, **options).get("Errors")
    if not errors:
        return (), ""
    named = {(error.get("Key"), error.get("VersionId")) for error in errors}
    # moto gives no version ids with errors.
    left = [each for each in versions if (each.key, each.id) in named or (each.key, None) in named]
    return left or versions, str(errors[0].get("Message"))
