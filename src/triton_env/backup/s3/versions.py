"""The versions of the objects in a bucket, in the order in which they came."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NULL = "null"
"""The version id of what came while versioning was off or suspended."""
_PAGE = 1_000_000
"""Versions to list at once: servers that follow S3 to the letter give 1000."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker, whose size is 0."""

    key: str
    id: str
    date: datetime
    is_marker: bool
    size: int = 0


def versions_by_key(client: "S3Client", bucket: str) -> Iterator[list[Version]]:
    """For each key its versions and delete markers, the oldest first."""
    versions, markers = _listed(client, bucket)
    markers_of = {key: list(group) for key, group in groupby(markers, lambda marker: marker.key)}
    versions_of = {key: list(group) for key, group in groupby(versions, lambda version: version.key)}
    for key in sorted({*versions_of, *markers_of}):
        yield _merged(client, bucket, versions_of.get(key, []), markers_of.get(key, []))


def _listed(client: "S3Client", bucket: str) -> tuple[list[Version], list[Version]]:
    """The versions and the delete markers, each by key and of one key the newest first."""
    versions: list[Version] = []
    markers: list[Version] = []
    arguments: dict[str, Any] = {}
    while True:
        page = client.list_object_versions(Bucket=bucket, MaxKeys=_PAGE, **arguments)
        versions += [_version(entry, is_marker=False) for entry in page.get("Versions", ())]
        markers += [_version(entry, is_marker=True) for entry in page.get("DeleteMarkers", ())]
        if not page.get("IsTruncated"):
            return versions, markers
        following = {
            "KeyMarker": page.get("NextKeyMarker", ""),
            "VersionIdMarker": page.get("NextVersionIdMarker", ""),
        }
        if following == arguments:
            raise RuntimeError(f"the server does not get on with the list of the bucket {bucket} after {following}")
        arguments = {name: value for name, value in following.items() if value}


def _version(entry: Mapping[str, Any], *, is_marker: bool) -> Version:
    size = entry.get("Size", 0)
    return Version(entry["Key"], entry.get("VersionId") or NULL, entry["LastModified"], is_marker, size)


def _merged(client: "S3Client", bucket: str, versions: list[Version], markers: list[Version]) -> list[Version]:
    """Both in one list, the oldest first.

    The API lists them apart, with dates in whole seconds: that does not tell what came first within one second.
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
    # LocalStack compares with keys as they are quoted in URLs.
    for key in dict.fromkeys((marker.key, quote(marker.key))):
        page = client.list_object_versions(
            Bucket=bucket, Prefix=marker.key, KeyMarker=key, VersionIdMarker=marker.id, MaxKeys=_PAGE
        )
        if all(entry.get("VersionId") != marker.id for entry in page.get("DeleteMarkers", ())):
            return sum(entry["Key"] == marker.key for entry in page.get("Versions", ()))
    return sum(version.date <= marker.date for version in versions)
