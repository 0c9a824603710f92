"""The versions of the objects in a bucket, in the order in which they came."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from triton_env.services.s3.answers import status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NULL = "null"
"""The version id of what came while versioning was off or suspended."""
_TRIES = 5
"""How often a list is asked for, each of them with the repetitions of boto3 itself."""
_PAGE = 1_000_000
"""Versions to list at once: servers that follow S3 to the letter give 1000."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker, whose size is 0.

    Attributes:
        key: its key.
        id: its version id; `NULL` for what came while versioning was off or suspended.
        date: when it came, in whole seconds.
        is_marker: whether it is a delete marker.
        size: bytes.
        etag: its entity tag, without quotation marks; empty for a delete marker.
        is_versioned: whether its bucket has, or had, versions.
    """

    key: str
    id: str
    date: datetime
    is_marker: bool
    size: int = 0
    etag: str = ""
    is_versioned: bool = True

    def where(self, bucket: str) -> dict[str, Any]:
        """The arguments of a request for exactly this version."""
        where: dict[str, Any] = {"Bucket": bucket, "Key": self.key}
        # Without it a request means the newest version. In a bucket without versions moto does not know the id.
        return where | ({"VersionId": self.id} if self.is_versioned else {})


class Order(NamedTuple):
    """Versions in phases: the states that versioning goes through, and what comes in each."""

    phases: tuple[tuple[str, list[Version]], ...]
    has_nulls: bool
    """Whether any version has no id of its own."""


def in_phases(by_key: Iterable[Sequence[Version]]) -> Order:
    """How the versions of a bucket have to be made, so that those of each key come in their order.

    A key has one version at most without an id. It is made before versioning is enabled where it is the oldest, else
    while versioning is suspended, between its older and its newer versions. A delete marker gets an id instead: moto
    destroys versions where an object is deleted while versioning is suspended.

    Args:
        by_key: of each key its versions, the oldest first.
    """
    first: list[Version] = []
    older: list[Version] = []
    nulls: list[Version] = []
    newer: list[Version] = []
    for versions in by_key:
        numbers = (number for number, each in enumerate(versions) if each.id == NULL and not each.is_marker)
        position = next(numbers, None)
        if position is None:
            older += versions
            continue
        (nulls if position else first).append(versions[position])
        older += versions[:position]
        (newer if position else older).extend(versions[position + 1 :])
    phases = (("", first), ("Enabled", older), ("Suspended", nulls), ("Enabled", newer))
    return Order(phases, bool(first or nulls))


def versions_by_key(client: "S3Client", bucket: str, *, is_versioned: bool = True) -> Iterator[list[Version]]:
    """For each key its versions and delete markers, the oldest first.

    Args:
        is_versioned: whether it has, or had, versions.
    """
    versions, markers = listed(client, bucket, is_versioned=is_versioned)
    markers_of = {key: list(group) for key, group in groupby(markers, lambda marker: marker.key)}
    versions_of = {key: list(group) for key, group in groupby(versions, lambda version: version.key)}
    for key in sorted({*versions_of, *markers_of}):
        yield _merged(client, bucket, versions_of.get(key, []), markers_of.get(key, []))


def listed(client: "S3Client", bucket: str, *, is_versioned: bool = True) -> tuple[list[Version], list[Version]]:
    """The versions and the delete markers, each by key and of one key the newest first."""
    versions: list[Version] = []
    markers: list[Version] = []
    arguments: dict[str, Any] = {}
    while True:
        page = _page(client, bucket, arguments)
        versions += [_version(entry, is_versioned, is_marker=False) for entry in page.get("Versions", ())]
        markers += [_version(entry, is_versioned, is_marker=True) for entry in page.get("DeleteMarkers", ())]
        if not page.get("IsTruncated"):
            return versions, markers
        following = {
            "KeyMarker": page.get("NextKeyMarker", ""),
            "VersionIdMarker": page.get("NextVersionIdMarker", ""),
        }
        if following == arguments:
            raise RuntimeError(f"the server does not continue the list of the bucket {bucket} after {following}")
        arguments = {name: value for name, value in following.items() if value}


def _page(client: "S3Client", bucket: str, arguments: Mapping[str, Any]) -> Any:
    """One answer. moto fails with 500 where objects come and go while it makes its list."""
    from botocore.exceptions import ClientError

    for _ in range(_TRIES - 1):
        try:
            return client.list_object_versions(Bucket=bucket, MaxKeys=_PAGE, **arguments)
        except ClientError as error:
            if status_of(error) != 500:
                raise
    return client.list_object_versions(Bucket=bucket, MaxKeys=_PAGE, **arguments)


def _version(entry: Mapping[str, Any], is_versioned: bool, *, is_marker: bool) -> Version:
    id_ = entry.get("VersionId") or NULL
    etag = entry.get("ETag", "").strip('"')
    return Version(entry["Key"], id_, entry["LastModified"], is_marker, entry.get("Size", 0), etag, is_versioned)


def _merged(client: "S3Client", bucket: str, versions: list[Version], markers: list[Version]) -> list[Version]:
    """Both in one list, the oldest first.

    The API lists them apart, with dates in whole seconds: that does not show what came first within one second.
    """
    merged = versions[::-1]
    for number, marker in enumerate(reversed(markers)):
        if any(version.date == marker.date for version in versions):
            older = _older_versions(client, bucket, marker, versions)
        else:
            older = sum(version.date < marker.date for version in versions)
        # The markers that are in the list already are older too.
        merged.insert(older + number, marker)
    return merged


def _older_versions(client: "S3Client", bucket: str, marker: Version, versions: list[Version]) -> int:
    """How many versions a server lists behind a delete marker."""
    if marker.id == NULL:
        # LocalStack continues no list behind it, but lists it behind all that are newer. They have ids: there is one
        # at most of a key without.
        return sum(
            version.date <= marker.date and not _is_behind(client, bucket, marker, version) for version in versions
        )
    page = _behind(client, bucket, marker)
    if page is None:
        return sum(version.date <= marker.date for version in versions)
    return sum(entry["Key"] == marker.key for entry in page.get("Versions", ()))


def _is_behind(client: "S3Client", bucket: str, marker: Version, version: Version) -> bool:
    """Whether a server lists a delete marker behind this version, so that it is older."""
    page = _behind(client, bucket, version) or {}
    return any((entry["Key"], entry["VersionId"]) == (marker.key, marker.id) for entry in page.get("DeleteMarkers", ()))


def _behind(client: "S3Client", bucket: str, version: Version) -> Mapping[str, Any] | None:
    """What a server lists behind a version; None where it does not know how to."""
    # LocalStack compares with keys as they are quoted in URLs.
    for key in dict.fromkeys((version.key, quote(version.key))):
        page: Mapping[str, Any] = client.list_object_versions(
            Bucket=bucket, Prefix=version.key, KeyMarker=key, VersionIdMarker=version.id, MaxKeys=_PAGE
        )
        listed = page.get("DeleteMarkers" if version.is_marker else "Versions", ())
        if all((entry["Key"], entry.get("VersionId")) != (version.key, version.id) for entry in listed):
            return page
    return None
