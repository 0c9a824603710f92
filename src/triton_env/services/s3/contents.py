"""What a bucket holds, compared with what it should hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from triton_env.services.s3.clients import set_versioning
from triton_env.services.s3.versions import versions_by_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Content:
    """The content of one version.

    Attributes:
        size: bytes.
        etag: its entity tag, without quotation marks.
        is_marker: whether it is a delete marker, which has none.
    """

    size: int
    etag: str
    is_marker: bool = False


def difference(client: "S3Client", bucket: str, wanted: Mapping[str, Sequence[Content]]) -> str:
    """The first difference between the versions in a bucket and those that it should have, in words; empty for none.

    A server that has lost a version, or shows one in the place of another, is seen by this.

    Args:
        wanted: by key, the oldest first.
    """
    is_versioned = bool(client.get_bucket_versioning(Bucket=bucket).get("Status"))
    found = {
        versions[0].key: [Content(each.size, each.etag, each.is_marker) for each in versions]
        for versions in versions_by_key(client, bucket, is_versioned=is_versioned)
    }
    for key in sorted(wanted.keys() | found.keys()):
        there, should = found.get(key, []), list(wanted.get(key, ()))
        # Sizes and ETags of delete markers differ from server to server.
        if [_comparable(each) for each in there] != [_comparable(each) for each in should]:
            return f"{bucket}/{key} has {_words(there)} instead of {_words(should)}"
    return ""


def suspends_well(client: "S3Client", bucket: str) -> bool:
    """Whether a bucket keeps older versions when an object is put while versioning is suspended: moto drops them."""
    where: dict[str, Any] = {"Bucket": bucket, "Key": f"triton-env-probe-{token_hex(8)}"}
    for status in ("Enabled", "Suspended"):
        set_versioning(client, bucket, status)
        client.put_object(**where, Body=b"")
    page = client.list_object_versions(Bucket=bucket, Prefix=where["Key"])
    versions = page.get("Versions", ())
    for version in versions:
        client.delete_object(**where, VersionId=version["VersionId"])
    return len(versions) == 2


def _comparable(content: Content) -> object:
    # Some servers list no ETag for nothing.
    return None if content.is_marker else (content.size, content.size and content.etag)


def _words(contents: Sequence[Content]) -> str:
    """Sizes of versions, the oldest first."""
    sizes = ("a delete marker" if each.is_marker else f"{each.size} bytes" for each in contents)
    return ", ".join(sizes) or "nothing"
