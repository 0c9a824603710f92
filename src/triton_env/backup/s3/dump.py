"""Saving S3."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triton_env.backup.archive import CHUNK, ArchiveWriter
from triton_env.backup.base import RunsPrograms
from triton_env.backup.journal import Place
from triton_env.backup.manifest import SavedService
from triton_env.backup.records import Record, Writable, write_record
from triton_env.backup.s3 import configuration
from triton_env.backup.s3.versions import NULL, Version, versions_by_key
from triton_env.backup.steps import Meter
from triton_env.errors import BackupFailed
from triton_env.isolation.ours import without_spaces
from triton_env.services import S3, Service

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STAGED = re.compile(r"triton-restore-[0-9a-f]{8}")
"""Begins the names of buckets that a restore made."""
THREADS = 8
_AHEAD = 32
"""Objects that are fetched before it is their turn."""
_SMALL = CHUNK
"""Bytes up to which an object is fetched ahead; longer ones are streamed."""
_HEADERS = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType"),
    *("StorageClass", "WebsiteRedirectLocation"),
)


def save(service: Service, program: RunsPrograms, archive: ArchiveWriter, meter: Meter, place: Place) -> SavedService:
    """Save the user's buckets; see `Saver`.

    Raises:
        BackupFailed: an object ended too early.
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the server refused or does not answer.
    """
    assert isinstance(service, S3)
    client = threaded_client(service)
    notes = _Notes()
    buckets = users_buckets(service, [bucket["Name"] for bucket in client.list_buckets()["Buckets"]])
    for number, bucket in enumerate(buckets):
        meter.begin(f"bucket {bucket}")
        with archive.member(f"s3/bucket-{number}.records", service.name, "bucket", meter.count) as stream:
            write_record(
                stream, Record({"t": "bucket", "name": bucket, "configuration": configuration.read(client, bucket)})
            )
            _write_objects(client, bucket, stream, notes)
    return SavedService(service.server_version(), tuple(buckets), notes.sentences())


def users_buckets(service: S3, there: Iterable[str]) -> list[str]:
    """Which of these buckets are the user's, in order: neither isolation nor a restore made them."""
    return sorted(name for name in without_spaces(service.bucket, list(there)) if not STAGED.match(name))


def threaded_client(service: S3, **options: Any) -> "S3Client":
    """A client for several threads."""
    from botocore.config import Config

    # Merged with what the service needs: path addresses, no proxy.
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        proxies={},
        max_pool_connections=THREADS + 2,
        read_timeout=300,
        # Checksums where S3 demands them: servers that imitate it know not all of them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return service.client(config=config, **options)


@dataclass(slots=True)
class _Notes:
    """What is not saved. Each is the names of objects; lists, since threads append to them."""

    locks: list[str] = field(default_factory=list)
    acls: list[str] = field(default_factory=list)
    nulls: list[str] = field(default_factory=list)

    def sentences(self) -> tuple[str, ...]:
        texts = {
            "The locks of {} are not saved.": self.locks,
            "The server does not tell the ACLs of {}.": self.acls,
            "Versions without an id in the middle of {} get one.": self.nulls,
        }
        return tuple(text.format(_shown(sorted(set(names)))) for text, names in texts.items() if names)


def _shown(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} other objects"


@dataclass(frozen=True, slots=True)
class _Fetched:
    header: dict[str, Any]
    size: int
    body: Any
    """Bytes, or where there are many of them something to read them from."""


def _write_objects(client: "S3Client", bucket: str, stream: Writable, notes: _Notes) -> None:
    """Write the objects in an order in which they can be put again, with the state that versioning has to have."""
    phases: dict[str, list[Version]] = {"": [], "Enabled": [], "Suspended": []}
    for versions in versions_by_key(client, bucket):
        for number, version in enumerate(versions):
            if version.id != NULL:
                phases["Enabled"].append(version)
            elif number == 0 and not version.is_marker:
                # From before versioning, or in a bucket without it.
                phases[""].append(version)
            elif number == len(versions) - 1:
                phases["Suspended"].append(version)
            else:
                phases["Enabled"].append(version)
                notes.nulls.append(f"{bucket}/{version.key}")
    for state, found in phases.items():
        for fetched in _fetched(client, bucket, found, notes):
            write_record(stream, Record(fetched.header | {"state": state, "size": fetched.size}))
            _write_body(bucket, fetched, stream)


def _write_body(bucket: str, fetched: _Fetched, stream: Writable) -> None:
    written = 0
    pieces: Iterable[bytes] = [fetched.body] if isinstance(fetched.body, bytes) else fetched.body.iter_chunks(CHUNK)
    for piece in pieces:
        if piece:
            write_record(stream, Record({"t": "body"}, (piece,)))
            written += len(piece)
    if written != fetched.size:
        raise BackupFailed(
            f"The S3 object {bucket}/{fetched.header['key']} ended too early.",
            cause=f"{written} of {fetched.size} bytes came",
        )


def _fetched(client: "S3Client", bucket: str, versions: list[Version], notes: _Notes) -> Iterator[_Fetched]:
    """The objects in this order, some of them fetched ahead: each takes several requests."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="triton-backup") as pool:
        waiting: deque[Future[_Fetched]] = deque()
        coming = iter(versions)
        try:
            while True:
                while len(waiting) < _AHEAD and (version := next(coming, None)) is not None:
                    waiting.append(pool.submit(_fetch, client, bucket, version, notes))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _fetch(client: "S3Client", bucket: str, version: Version, notes: _Notes) -> _Fetched:
    if version.is_marker:
        return _Fetched({"t": "marker", "key": version.key}, 0, b"")
    where: dict[str, Any] = {"Bucket": bucket, "Key": version.key}
    if version.id != NULL:
        where["VersionId"] = version.id
    answer: Mapping[str, Any] = client.get_object(**where)
    size: int = answer["ContentLength"]
    body = answer["Body"]
    header: dict[str, Any] = {
        "t": "object",
        "key": version.key,
        "headers": headers(answer),
        "metadata": answer.get("Metadata", {}),
    }
    if size <= _SMALL:
        # To its end now, so that its connection is free for the requests that follow.
        body = body.read()
    if answer.get("TagCount"):
        header["tags"] = client.get_object_tagging(**where)["TagSet"]
    if acl := _grants(client, where, notes):
        header["acl"] = acl
    if answer.get("ObjectLockMode") or answer.get("ObjectLockLegalHoldStatus") == "ON":
        notes.locks.append(f"{bucket}/{version.key}")
    return _Fetched(header, size, body)


def _grants(client: "S3Client", where: dict[str, Any], notes: _Notes) -> dict[str, Any]:
    """The ACL of an object, empty where only its owner is granted anything."""
    from botocore.exceptions import ClientError

    try:
        acl: Mapping[str, Any] = client.get_object_acl(**where)
    except ClientError as error:
        # moto has none for objects that came in parts, and for versions under a delete marker.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            raise
        notes.acls.append(f"{where['Bucket']}/{where['Key']}")
        return {}
    return {} if configuration.has_default_grants(acl) else {"Grants": acl["Grants"], "Owner": acl["Owner"]}


def headers(answer: Mapping[str, Any]) -> dict[str, str]:
    """The headers of an object that were given with it, from the answer that has it."""
    found = {name: str(answer[name]) for name in _HEADERS if answer.get(name)}
    if answer.get("Expires"):
        found["Expires"] = answer["Expires"].isoformat()
    # How it was once uploaded, which some servers keep as if it were a property of the object.
    encodings = [word for word in found.pop("ContentEncoding", "").split(",") if word.strip() != "aws-chunked"]
    return found | ({"ContentEncoding": ",".join(encodings)} if "".join(encodings) else {})
