"""Reading one version of an object: its headers, its content, its tags, its ACL and its lock.

Content is read in bounded ranges. LocalStack holds an answer in memory until its client has taken it, so that a few
large ones at once end it.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from triton_env.archive.sealing import CHUNK
from triton_env.errors import BackupFailed
from triton_env.services.s3 import configuration
from triton_env.services.s3.answers import is_about_one, is_changed, is_missing, status_of, words_of
from triton_env.services.s3.locks import lock_of
from triton_env.services.s3.notes import ACLS, GONE, UNREADABLE, Notes
from triton_env.services.s3.versions import Version

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_Answer = TypeVar("_Answer")

SMALL = CHUNK
"""Bytes up to which an object is read by one request, and may be read before it is its turn."""
_RANGE = 8 << 20
"""Bytes of a longer one that are asked for at once."""
_ERRORS = 10
"""In one bucket, failures of the server itself that are failures to read one object; with more, nothing is saved."""
_TRIES = 5
"""How often an object is read that changes while it is read."""
HEADERS = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType"),
    *("StorageClass", "WebsiteRedirectLocation"),
)
ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
_CHECKSUMS = ("CRC32", "SHA1", "SHA256")
"""Those that every installation of boto3 can compute."""


class Changed(Exception):
    """An object is another one now than it was at the beginning of its reading."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version as it is written to an archive.

    Attributes:
        header: all but its content.
        size: bytes of its content.
        content: that, where it is small; None where `content_of` is to read it.
        etag: of the content, as the server gives it.
    """

    header: dict[str, Any]
    size: int = 0
    content: bytes | None = b""
    etag: str = ""


class Reader:
    """Reads the versions in one bucket, by several threads.

    Args:
        client: for several threads.
        notes: takes what cannot be read.
        folder: where the content of large objects may wait, in files that have no name.
    """

    def __init__(self, client: "S3Client", bucket: str, notes: Notes, folder: Path) -> None:
        self._client = client
        self._bucket = bucket
        self._notes = notes
        self._folder = folder
        self._errors: list[str] = []

    def read(self, version: Version) -> Found | None:
        """A version; None where it is gone or cannot be read, which is noted."""
        return self._attempt(version, self._found)

    def read_large(self, version: Version) -> tuple[Found, IO[bytes]] | None:
        """A version with a file that has its content, to be closed; None as above."""
        return self._attempt(version, self._stored)

    def _attempt(self, version: Version, action: Callable[[Version], _Answer]) -> _Answer | None:
        from botocore.exceptions import ClientError

        name = f"{self._bucket}/{version.key}"
        for _ in range(_TRIES):
            try:
                return action(version)
            except Changed:
                version = replace(version, size=SMALL + 1)
            except ClientError as error:
                if is_missing(error):
                    self._notes.add(GONE, name)
                    return None
                if not is_about_one(error):
                    raise
                if status_of(error) >= 500:
                    self._errors.append(name)
                    if len(self._errors) > _ERRORS:
                        raise BackupFailed(
                            f"S3 fails to hand out {name} and {_ERRORS} other objects.",
                            where=f"the bucket {self._bucket}",
                            cause=words_of(error),
                            hint="python -m triton_env logs s3",
                        ) from error
                if not is_changed(error):
                    self._notes.add(UNREADABLE, f"{name} ({words_of(error)})")
                    return None
        self._notes.add(UNREADABLE, f"{name} (it was replaced again and again while it was read)")
        return None

    def _found(self, version: Version) -> Found:
        if version.is_marker:
            return Found({"t": "marker", "key": version.key})
        where = version.where(self._bucket)
        if 0 < version.size <= SMALL:
            span = f"bytes=0-{SMALL - 1}"
            answer: Any = self._client.get_object(**where, Range=span, ChecksumMode="ENABLED")
            content = answer["Body"].read()
            if answer.get("ContentRange", f"/{len(content)}").rpartition("/")[2] != str(len(content)):
                raise Changed
        else:
            answer = self._client.head_object(**where, ChecksumMode="ENABLED")
            content = None if answer["ContentLength"] else b""
        size = answer["ContentLength"]
        return Found(self._header(version, where, answer), size, content, answer["ETag"])

    def _stored(self, version: Version) -> tuple[Found, IO[bytes]]:
        found = self._found(replace(version, size=SMALL + 1))
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - the caller closes it
        try:
            for piece in self._pieces(version, found):
                file.write(piece)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return found, file

    def _pieces(self, version: Version, found: Found) -> Iterator[bytes]:
        where = version.where(self._bucket)
        for start in range(0, found.size, _RANGE):
            end = min(start + _RANGE, found.size)
            # Each request by itself would give a piece of whatever is there at that moment.
            answer = self._client.get_object(**where, Range=f"bytes={start}-{end - 1}", IfMatch=found.etag)
            piece = answer["Body"].read()
            if answer["ETag"] != found.etag:
                raise Changed
            if len(piece) != end - start:
                raise BackupFailed(
                    f"The S3 object {self._bucket}/{version.key} ended too early.",
                    cause=f"{start + len(piece)} of {found.size} bytes came",
                )
            yield piece

    def _header(self, version: Version, where: dict[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        header: dict[str, Any] = {
            "t": "object",
            "key": version.key,
            "headers": headers(answer),
            "metadata": answer.get("Metadata", {}),
        }
        parts: dict[str, Any] = {
            "tags": self._client.get_object_tagging(**where)["TagSet"] if answer.get("TagCount") else None,
            "acl": self._grants(where),
            "lock": lock_of(answer),
            "encryption": encryption(answer),
            "checksum": checksum(answer),
        }
        return header | {name: value for name, value in parts.items() if value}

    def _grants(self, where: dict[str, Any]) -> dict[str, Any]:
        """The ACL of an object, empty where only its owner is granted anything."""
        from botocore.exceptions import ClientError

        try:
            acl: Mapping[str, Any] = self._client.get_object_acl(**where)
        except ClientError as error:
            # moto has none for objects that came in parts, and for versions under a delete marker.
            if status_of(error) < 500:
                raise
            self._notes.add(ACLS, f"{where['Bucket']}/{where['Key']}")
            return {}
        return {} if configuration.has_default_grants(acl) else {"Grants": acl["Grants"], "Owner": acl["Owner"]}


def headers(answer: Mapping[str, Any]) -> dict[str, str]:
    """The headers of an object that were given with it, from the answer that has it."""
    found = {name: str(answer[name]) for name in HEADERS if answer.get(name)}
    if answer.get("Expires"):
        found["Expires"] = answer["Expires"].isoformat()
    # How it was once uploaded, which some servers keep as if it were a property of the object.
    encodings = [word for word in found.pop("ContentEncoding", "").split(",") if word.strip() != "aws-chunked"]
    return found | ({"ContentEncoding": ",".join(encodings)} if "".join(encodings) else {})


def encryption(answer: Mapping[str, Any]) -> dict[str, Any]:
    """How the server encrypts an object, as arguments of the request that makes it."""
    return {name: answer[name] for name in ENCRYPTION if answer.get(name)}


def checksum(answer: Mapping[str, Any]) -> str:
    """The algorithm of an object's checksum; empty for none, or for the one that servers choose by themselves."""
    return next((name for name in _CHECKSUMS if answer.get(f"Checksum{name}")), "")
