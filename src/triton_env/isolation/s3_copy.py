"""Copying buckets within a server: their configuration, and every version of every object, without its content passing
through this process.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

from triton_env.backup.s3 import configuration
from triton_env.backup.s3.dump import THREADS, headers, threaded_client
from triton_env.backup.s3.upload import grants
from triton_env.backup.s3.versions import NULL, Version, versions_by_key
from triton_env.errors import IsolationFailed
from triton_env.isolation.s3_quick import QuickRequests
from triton_env.services import S3
from triton_env.threads import for_each

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")

_LARGEST: Final = 5 * 2**30
"""Bytes that one request may copy."""
_OLDEST_REGION: Final = "us-east-1"
"""The region of buckets that name none."""
_BATCH: Final = 1000
"""Objects that one request may delete."""
_ROUNDS: Final = 20
"""How often a bucket is emptied before somebody is said to go on writing to it."""
_MISSING: Final = ("NoSuchBucket", "404")


@dataclass(frozen=True, slots=True)
class Admin:
    """The clients of an isolation, for several threads. They take long to build.

    Attributes:
        service: the server.
        client: for all but what follows.
        once: tries once, for questions that moto answers with an error that looks as if it went by.
        quick: for what every namespace costs.
    """

    service: S3
    client: "S3Client"
    once: "S3Client"
    quick: QuickRequests

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self.once.close()
        self.quick.close()


def admin_of(service: S3) -> Admin:
    """New clients of that server."""
    from botocore.config import Config

    client = threaded_client(service)
    once = Config(retries={"total_max_attempts": 1})
    once_client = service.client(config=client.meta.config.merge(once))
    return Admin(service, client, once_client, QuickRequests(service, THREADS))


@dataclass(frozen=True, slots=True)
class CopiedObject:
    """One version of an object, or a delete marker, and how it is made again.

    Attributes:
        key: its key.
        version: its version id; empty where the bucket has no versions.
        arguments: of the copying request, besides where from and where to. None for a delete marker.
    """

    key: str
    version: str
    arguments: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class CopiedBucket:
    """A bucket as it was read.

    Attributes:
        name: its name in the server.
        configuration: as `configuration.read` gives it.
        objects: by the state that versioning has to have for them, in this order, what comes in which order; what has
            different keys may come at once.
    """

    name: str
    configuration: Mapping[str, Any]
    objects: Mapping[str, tuple[CopiedObject, ...]]


def read_bucket(admin: Admin, name: str) -> CopiedBucket:
    """Read all of a bucket but the content of its objects.

    Raises:
        IsolationFailed: an object is too large to be copied by one request.
    """
    client = admin.client
    found = configuration.read(client, name)
    owner = found["acl"]["Owner"]
    states: list[tuple[str, Version]] = []
    for versions in versions_by_key(client, name):
        for number, version in enumerate(versions):
            if version.size > _LARGEST:
                raise IsolationFailed(
                    f"The S3 object {name}/{version.key} is too large to be copied.",
                    where=f"the bucket {name}",
                    cause=f"it has {version.size} bytes; a server copies at most {_LARGEST} at once",
                    hint=f"take it away, or make it after the copy: aws s3 rm 's3://{name}/{version.key}'",
                )
            states.append((_state(version, number, len(versions)), version))

    def described(entry: tuple[str, Version]) -> tuple[str, CopiedObject]:
        state, version = entry
        id_ = "" if version.id == NULL else version.id
        arguments = None if version.is_marker else _arguments(admin, name, version, owner)
        return state, CopiedObject(version.key, id_, arguments)

    objects = for_each(states, described, THREADS)
    by_state = {state: tuple(each for own, each in objects if own == state) for state in ("", "Enabled", "Suspended")}
    return CopiedBucket(name, found, by_state)


def copy_bucket(client: "S3Client", source: CopiedBucket, name: str, defaults: Mapping[str, Any]) -> None:
    """Make the bucket `name`, which is new, a copy.

    Args:
        client: for several threads.
        source: what to copy, which is still as it was read.
        name: of the copy.
        defaults: the configuration of a new bucket.
    """
    versioning = ""
    for state, objects in source.objects.items():
        if objects and state != versioning:
            _set_versioning(client, name, state)
            versioning = state
        # Those of one key one after another.
        ordered = sorted(objects, key=lambda each: each.key)
        groups = [tuple(group) for _, group in groupby(ordered, key=lambda each: each.key)]
        for_each(groups, lambda group: _copy(client, source.name, group, name), THREADS)
    wanted = source.configuration["versioning"]
    if wanted and wanted != versioning:
        _set_versioning(client, name, wanted)
    configuration.apply(client, name, source.configuration, defaults)


def make_bucket(admin: Admin, name: str, region: str) -> None:
    """Make an empty bucket in that region."""
    if region != _OLDEST_REGION:
        place: Any = {"LocationConstraint": region}
        admin.client.create_bucket(Bucket=name, CreateBucketConfiguration=place)
    elif admin.service.region != region:
        # A bucket without a place is refused to a client that is elsewhere.
        with closing(threaded_client(admin.service, region_name=region)) as client:
            client.create_bucket(Bucket=name)
    elif not admin.quick.make(name):
        admin.client.create_bucket(Bucket=name)


def remove_bucket(admin: Admin, name: str) -> None:
    """Remove a bucket with all that is in it. Nothing where there is none.

    Raises:
        IsolationFailed: an object is held by a lock, or somebody goes on writing.
    """
    from botocore.exceptions import ClientError

    if admin.quick.remove(name):
        return
    client = admin.client
    for _ in range(_ROUNDS):
        try:
            client.delete_bucket(Bucket=name)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING:
                return
            if code != "BucketNotEmpty":
                raise
        else:
            return
        empty_bucket(client, name)
    raise IsolationFailed(
        f"The bucket {name} cannot be removed: there is always something in it.",
        where=f"the bucket {name}",
        hint="stop what writes to it",
    )


def empty_bucket(client: "S3Client", name: str) -> None:
    """Remove all versions and open uploads of a bucket."""
    versions = [
        {"Key": version.key, "VersionId": version.id} for group in versions_by_key(client, name) for version in group
    ]
    for_each(list(_batches(versions)), lambda batch: _delete(client, name, batch), THREADS)
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", ()):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])


def _state(version: Version, number: int, count: int) -> str:
    """The state of versioning in which this version came, the `number`-th of `count` of its key."""
    if version.id != NULL:
        return "Enabled"
    if number == 0 and not version.is_marker:
        # From before versioning, or in a bucket without it.
        return ""
    return "Suspended" if number == count - 1 else "Enabled"


def _arguments(admin: Admin, bucket: str, version: Version, owner: Any) -> dict[str, Any]:
    """What a copy does not take over by itself: its class, its redirection and its ACL."""
    from botocore.exceptions import ClientError

    where: dict[str, Any] = {"Bucket": bucket, "Key": version.key}
    if version.id != NULL:
        where["VersionId"] = version.id
    answer: Mapping[str, Any] = admin.client.head_object(**where)
    given = headers(answer)
    arguments: dict[str, Any] = {
        name: given[name] for name in ("StorageClass", "WebsiteRedirectLocation") if name in given
    }
    if "Expires" in given:
        # LocalStack loses it unless it is told again, and then everything is to be told.
        arguments = {**given, "Metadata": answer.get("Metadata", {}), "MetadataDirective": "REPLACE"}
    try:
        acl: Mapping[str, Any] = admin.once.get_object_acl(**where)
    except ClientError as error:
        # moto has none for objects that came in parts, and for versions under a delete marker.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            raise
        return arguments
    return arguments if configuration.has_default_grants(acl) else arguments | grants(acl, owner)


def _copy(client: "S3Client", source: str, versions: Iterable[CopiedObject], bucket: str) -> None:
    """Copy versions of one object in their order."""
    for each in versions:
        if each.arguments is None:
            client.delete_object(Bucket=bucket, Key=each.key)
            continue
        place: Any = {"Bucket": source, "Key": each.key}
        if each.version:
            place["VersionId"] = each.version
        client.copy_object(Bucket=bucket, Key=each.key, CopySource=place, **each.arguments)


def _set_versioning(client: "S3Client", bucket: str, state: str) -> None:
    wanted: Any = {"Status": state}
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=wanted)


def _batches(versions: list[dict[str, str]]) -> Iterable[list[dict[str, str]]]:
    return (versions[start : start + _BATCH] for start in range(0, len(versions), _BATCH))


def _delete(client: "S3Client", bucket: str, batch: list[dict[str, str]]) -> None:
    deleted: Any = {"Objects": batch, "Quiet": True}
    answer = client.delete_objects(Bucket=bucket, Delete=deleted)
    if answer.get("Errors"):
        # Locks in the governance mode are there to be overruled by whoever may.
        failed = {(error.get("Key"), error.get("VersionId")) for error in answer["Errors"]}
        deleted["Objects"] = [each for each in batch if (each["Key"], each["VersionId"]) in failed] or batch
        answer = client.delete_objects(Bucket=bucket, Delete=deleted, BypassGovernanceRetention=True)
    if errors := answer.get("Errors"):
        raise IsolationFailed(
            f"The S3 object {bucket}/{errors[0].get('Key')} cannot be removed.",
            where=f"the bucket {bucket}",
            cause=str(errors[0].get("Message")),
            hint="give up its lock: aws s3api put-object-legal-hold --legal-hold Status=OFF ...",
        )
