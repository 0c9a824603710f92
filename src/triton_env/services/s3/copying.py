"""Copying buckets within a server: their configuration, and every version of every object, without its content passing
through this process.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

from triton_env.core.threads import for_each
from triton_env.errors import IsolationFailed
from triton_env.services import S3
from triton_env.services.s3 import configuration, removal
from triton_env.services.s3.answers import is_about_one, is_missing, status_of, words_of
from triton_env.services.s3.clients import OLDEST_REGION, THREADS, create_bucket, set_versioning, threaded_client
from triton_env.services.s3.locks import lock_of, set_lock
from triton_env.services.s3.notes import GONE, PROPERTIES, UNREADABLE, Notes
from triton_env.services.s3.quick import QuickRequests
from triton_env.services.s3.reading import encryption, headers
from triton_env.services.s3.upload import grants
from triton_env.services.s3.versions import Version, in_phases, versions_by_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_Answer = TypeVar("_Answer")

_LARGEST: Final = 5 * 2**30
"""Bytes that one request may copy."""
_ARCHIVED: Final = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes out of which nothing is read before it was restored."""


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
        source: what to copy.
        arguments: of the copying request, besides where from and where to.
        lock: its lock, as `lock_of` gives it.
    """

    source: Version
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lock: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CopiedBucket:
    """A bucket as it was read.

    Attributes:
        name: its name in the server.
        configuration: as `configuration.read` gives it.
        phases: the states that versioning goes through, and what comes in each; what has different keys may come at
            once.
    """

    name: str
    configuration: Mapping[str, Any]
    phases: tuple[tuple[str, tuple[CopiedObject, ...]], ...]


def read_bucket(admin: Admin, name: str, notes: Notes) -> CopiedBucket | None:
    """Read all of a bucket but the content of its objects.

    Args:
        notes: takes what a copy will not have.

    Returns:
        The bucket; None where it is gone.

    Raises:
        IsolationFailed: an object is too large to be copied by one request.
    """
    from botocore.exceptions import ClientError

    client = admin.client
    try:
        found = configuration.read(client, name, notes)
        is_versioned = bool(found["versioning"])
        order = in_phases(versions_by_key(client, name, is_versioned=is_versioned))
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    owner = found["acl"]["Owner"]
    for _, versions in order.phases:
        for version in versions:
            if version.size > _LARGEST:
                raise IsolationFailed(
                    f"The S3 object {name}/{version.key} is too large to be copied.",
                    where=f"the bucket {name}",
                    cause=f"it has {version.size} bytes; a server copies at most {_LARGEST} at once",
                    hint=f"take it away, or make it after the copy: aws s3 rm 's3://{name}/{version.key}'",
                )

    def described(version: Version) -> CopiedObject | None:
        if version.is_marker:
            return CopiedObject(version)
        return _left_out(name, version, notes, lambda: _described(admin, name, version, owner, notes))

    phases: list[tuple[str, tuple[CopiedObject, ...]]] = []
    for state, versions in order.phases:
        objects = for_each(versions, described, THREADS)
        phases.append((state, tuple(each for each in objects if each is not None)))
    return CopiedBucket(name, found | {"has_nulls": order.has_nulls}, tuple(phases))


def copy_bucket(client: "S3Client", source: CopiedBucket, name: str, defaults: Mapping[str, Any], notes: Notes) -> None:
    """Make the bucket `name`, which is new, a copy, but for what names other buckets: see `connect_bucket`.

    Args:
        source: what to copy, which is still as it was read.
        defaults: the configuration of a new bucket.
        notes: takes what could not be copied.
    """
    locks = configuration.has_lock_at_once(source.configuration)
    versioning = "Enabled" if locks else ""
    locked: list[tuple[Mapping[str, Any], Mapping[str, str]]] = []

    def copy(group: Iterable[CopiedObject]) -> None:
        for each in group:
            made = _left_out(source.name, each.source, notes, lambda each=each: _copy(client, source.name, each, name))  # type: ignore[misc]
            if made and each.lock:
                locked.append((made, each.lock))

    for state, objects in source.phases:
        if objects and state and state != versioning:
            set_versioning(client, name, state)
            versioning = state
        # Those of one key one after another.
        ordered = sorted(objects, key=lambda each: each.source.key)
        groups = [tuple(group) for _, group in groupby(ordered, key=lambda each: each.source.key)]
        for_each(groups, copy, THREADS)
    wanted = source.configuration["versioning"]
    if wanted and wanted != versioning:
        set_versioning(client, name, wanted)
    known = {**defaults, "object_lock": {"ObjectLockEnabled": "Enabled"}} if locks else defaults
    unknown = configuration.apply(client, name, source.configuration, known, names_buckets=False)
    for part in unknown:
        notes.add(PROPERTIES, f"{part} of {source.name}")
    if locks or ("object_lock" in source.configuration and "object_lock" not in unknown):
        for where, lock in locked:
            set_lock(client, where, lock)


def connect_bucket(
    client: "S3Client", source: CopiedBucket, name: str, defaults: Mapping[str, Any], names: Mapping[str, str]
) -> list[str]:
    """Set what names other buckets, once they are all there: logging, replication and reports.

    Args:
        source: what `name` is a copy of.
        names: by the name of each bucket that is copied as well, the name of its copy.

    Returns:
        The parts that the server does not take, in words.
    """
    wanted = configuration.renamed(source.configuration, names)
    unknown = configuration.apply(client, name, wanted, defaults, names_buckets=True)
    return [f"{part} of {source.name}" for part in unknown]


def make_bucket(admin: Admin, name: str, region: str, *, locks: bool = False) -> None:
    """Make an empty bucket; see `create_bucket`. Most are made by one quick request."""
    is_usual = region == admin.service.region == OLDEST_REGION and not locks
    if not (is_usual and admin.quick.make(name)):
        create_bucket(admin.service, admin.client, name, region, locks=locks)


def remove_bucket(admin: Admin, name: str, *, is_ours: bool) -> None:
    """Remove a bucket with all that is in it. Does nothing if it does not exist.

    Args:
        is_ours: whether all of it was made for a space, so that legal holds end with it.

    Raises:
        IsolationFailed: an object is held by a lock, or others go on writing.
    """
    if admin.quick.remove(name):
        return
    try:
        removal.remove_bucket(admin.client, name, releases_holds=is_ours)
    except removal.BucketHeld as error:
        raise IsolationFailed(
            error.what,
            where=f"the bucket {name}",
            cause=error.cause,
            hint="end a legal hold with: aws s3api put-object-legal-hold --legal-hold Status=OFF ..."
            if error.cause
            else "stop what writes to it",
        ) from error


def etags_in(admin: Admin, name: str) -> list[str]:
    """The entity tags of all versions of objects in a bucket, empty for delete markers: none where it is gone."""
    from botocore.exceptions import ClientError

    if (etags := admin.quick.etags(name)) is not None:
        return etags
    try:
        return [version.etag for versions in versions_by_key(admin.client, name) for version in versions]
    except ClientError as error:
        if not is_missing(error):
            raise
        return []


def _left_out(bucket: str, version: Version, notes: Notes, action: Callable[[], _Answer]) -> _Answer | None:
    """What `action` gives; None where the version is gone or cannot be read, which is noted."""
    from botocore.exceptions import ClientError

    try:
        return action()
    except ClientError as error:
        if is_missing(error):
            notes.add(GONE, f"{bucket}/{version.key}")
        elif is_about_one(error):
            notes.add(UNREADABLE, f"{bucket}/{version.key} ({words_of(error)})")
        else:
            raise
        return None


def _described(admin: Admin, bucket: str, version: Version, owner: Any, notes: Notes) -> CopiedObject | None:
    """What a copy does not take over by itself: its class, its redirection, its encryption, its ACL and its lock."""
    from botocore.exceptions import ClientError

    where = version.where(bucket)
    answer: Mapping[str, Any] = admin.client.head_object(**where)
    given = headers(answer)
    storage_class = given.get("StorageClass", "")
    if storage_class in _ARCHIVED and 'ongoing-request="false"' not in answer.get("Restore", ""):
        notes.add(UNREADABLE, f"{bucket}/{version.key} (storage class {storage_class})")
        return None
    arguments: dict[str, Any] = {
        name: given[name] for name in ("StorageClass", "WebsiteRedirectLocation") if name in given
    }
    arguments |= encryption(answer)
    if "Expires" in given:
        # LocalStack loses it unless it is given again, and then everything has to be given.
        arguments |= {**given, "Metadata": answer.get("Metadata", {}), "MetadataDirective": "REPLACE"}
    try:
        acl: Mapping[str, Any] = admin.once.get_object_acl(**where)
        if not configuration.has_default_grants(acl):
            arguments |= grants(acl, owner)
    except ClientError as error:
        # moto has none for objects that came in parts, and for versions under a delete marker.
        if status_of(error) < 500:
            raise
    return CopiedObject(version, arguments, lock_of(answer))


def _copy(client: "S3Client", source: str, object_: CopiedObject, bucket: str) -> Mapping[str, Any]:
    """Copy a version. Returns the arguments of requests for the copy."""
    where: dict[str, Any] = {"Bucket": bucket, "Key": object_.source.key}
    if object_.source.is_marker:
        client.delete_object(**where)
        return where
    place: Any = object_.source.where(source)
    answer = client.copy_object(**where, CopySource=place, **object_.arguments)
    return where | ({"VersionId": answer["VersionId"]} if answer.get("VersionId") else {})
