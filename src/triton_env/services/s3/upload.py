"""Putting objects into a bucket: several at once, and those of one key one after another."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from triton_env.errors import RestoreFailed
from triton_env.services.s3.answers import words_of
from triton_env.services.s3.clients import THREADS, set_versioning
from triton_env.services.s3.configuration import as_mine
from triton_env.services.s3.contents import Content, suspends_well
from triton_env.services.s3.locks import Locked
from triton_env.services.s3.reading import ENCRYPTION, HEADERS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART = 8 << 20
"""Bytes up to which an object is put by one request; longer ones are uploaded in parts of that size."""
_SMALL = 1 << 20
"""Bytes up to which objects wait in memory for their turn."""
_AHEAD = 32
_HEADERS = frozenset({*HEADERS, *ENCRYPTION, "Expires"})
"""The arguments that a backup may give to the request that makes an object."""
_GRANTEES = {"ID": "id", "URI": "uri", "EmailAddress": "emailAddress"}
_PERMISSIONS = {
    "FULL_CONTROL": "GrantFullControl",
    "READ": "GrantRead",
    "READ_ACP": "GrantReadACP",
    "WRITE_ACP": "GrantWriteACP",
}


class Uploads:
    """Puts objects. Use it in a `with` block, which waits for all of them.

    Args:
        client: a client for several threads.
        on_bytes: called with the number of bytes that were just read.
        versioning: the state of versioning that the bucket has.

    Attributes:
        contents: by key what was put, the oldest first.
        locks: the locks of it, which are not set.
        differences: what this server does not take as it was, in words.
    """

    def __init__(self, client: "S3Client", bucket: str, on_bytes: Callable[[int], None], versioning: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._on_bytes = on_bytes
        self._versioning = versioning
        self._suspends_well: bool | None = None
        self._encryptions: dict[tuple[tuple[str, Any], ...], Mapping[str, Any]] = {(): {}}
        self.contents: dict[str, list[Content]] = {}
        self.locks: list[Locked] = []
        self.differences: set[str] = set()
        self._owner = client.get_bucket_acl(Bucket=bucket)["Owner"]
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="triton-restore")
        self._running: dict[str, Future[None]] = {}

    def __enter__(self) -> "Uploads":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def set_versioning(self, state: str) -> None:
        """Give the bucket this state of versioning: empty for never enabled, which cannot be had again."""
        if state and state != self._versioning:
            self._finish()
            set_versioning(self._client, self._bucket, state)
            self._versioning = state

    def put(self, header: dict[str, Any], pieces: Iterator[bytes]) -> None:
        """Put an object or a delete marker, now or soon, with the state that versioning had for it."""
        state = header["state"]
        if state == "Suspended":
            if self._suspends_well is None:
                self._finish()
                self._suspends_well = suspends_well(self._client, self._bucket)
                self._versioning = ""
            if not self._suspends_well:
                self.differences.add("versions without an id have one")
                state = "Enabled"
        self.set_versioning(state)
        arguments = self._arguments(header)
        if header["size"] > _SMALL:
            self._wait_for(header["key"])
            self._put_large(header, arguments, pieces)
            return
        body = b"".join(pieces)
        self._on_bytes(len(body))
        self._wait_for(header["key"])
        self._running[header["key"]] = self._pool.submit(self._put_small, header, arguments, body)
        if len(self._running) > _AHEAD:
            wait(self._running.values(), return_when=FIRST_COMPLETED)
            for key in [key for key, future in self._running.items() if future.done()]:
                self._wait_for(key)

    def _finish(self) -> None:
        for key in list(self._running):
            self._wait_for(key)

    def _wait_for(self, key: str) -> None:
        if future := self._running.pop(key, None):
            future.result()

    def _put_small(self, header: dict[str, Any], arguments: dict[str, Any], body: bytes) -> None:
        where = {"Bucket": self._bucket, "Key": header["key"]}
        if header["t"] == "marker":
            # moto makes none of a key that it does not know.
            if self._client.delete_object(**where).get("DeleteMarker"):
                self._record(header, "")
            else:
                self.differences.add(f"no delete marker of {header['key']}")
            return
        answer = self._client.put_object(**where, **arguments, Body=body)
        etag = answer["ETag"].strip('"')
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        # Encrypted with a key of its own, an object has an ETag that is not a digest.
        if answer.get("ServerSideEncryption", "AES256") == "AES256" and etag != digest and len(etag) == len(digest):
            raise RestoreFailed(
                f"The server has another content for {self._bucket}/{header['key']} than it was given.",
                cause=f"its ETag is {etag}, and should be {digest}",
            )
        self._record(header, etag)

    def _put_large(self, header: dict[str, Any], arguments: dict[str, Any], pieces: Iterator[bytes]) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, use_threads=False)
        body: Any = _Body(pieces, self._on_bytes)
        self._client.upload_fileobj(body, self._bucket, header["key"], ExtraArgs=arguments, Config=config)
        answer = self._client.head_object(Bucket=self._bucket, Key=header["key"])
        self._record(header, answer["ETag"].strip('"'))

    def _record(self, header: dict[str, Any], etag: str) -> None:
        versions = self.contents.setdefault(header["key"], [])
        versions.append(Content(header["size"], etag, is_marker=header["t"] == "marker"))
        if lock := header.get("lock"):
            self.locks.append(Locked(header["key"], len(versions) - 1, lock))

    def _arguments(self, header: dict[str, Any]) -> dict[str, Any]:
        if header["t"] == "marker":
            return {}
        if unknown := {*header["headers"], *header.get("encryption", {})} - _HEADERS:
            raise ValueError(f"an object has the header {sorted(unknown)[0]!r}, which no backup has")
        arguments: dict[str, Any] = {**header["headers"], "Metadata": header["metadata"]}
        if "tags" in header:
            arguments["Tagging"] = urlencode([(tag["Key"], tag["Value"]) for tag in header["tags"]])
        if header.get("checksum"):
            arguments["ChecksumAlgorithm"] = header["checksum"]
        arguments |= self._encryption(header.get("encryption", {}))
        return arguments | (grants(header["acl"], self._owner) if "acl" in header else {})

    def _encryption(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """These arguments, or none where this server cannot encrypt so: LocalStack without KMS fails then."""
        from botocore.exceptions import ClientError

        kind = tuple(sorted(wanted.items()))
        if kind not in self._encryptions:
            probe: dict[str, Any] = {"Bucket": self._bucket, "Key": "triton-env-probe"}
            try:
                upload = self._client.create_multipart_upload(**probe, **wanted)
                self._client.abort_multipart_upload(**probe, UploadId=upload["UploadId"])
                self._encryptions[kind] = wanted
            except ClientError as error:
                self.differences.add(f"{wanted['ServerSideEncryption']} is not available: {words_of(error)}")
                self._encryptions[kind] = {}
        return self._encryptions[kind]


def grants(acl: Mapping[str, Any], owner: Any) -> dict[str, str]:
    """An object's ACL as arguments of the request that makes it: moto has no other way to take it.

    Args:
        acl: as a server gave it.
        owner: the owner of what is made.
    """
    arguments: dict[str, str] = {}
    for grant in as_mine(acl, {"Owner": owner})["Grants"]:
        kind = next(kind for kind in _GRANTEES if kind in grant["Grantee"])
        entry = f'{_GRANTEES[kind]}="{grant["Grantee"][kind]}"'
        if (name := _PERMISSIONS.get(grant["Permission"])) is None:
            continue  # WRITE, which grants nothing where it is about an object
        arguments[name] = ",".join(filter(None, (arguments.get(name), entry)))
    return arguments


class _Body(io.RawIOBase):
    """Pieces as a file to read from."""

    def __init__(self, pieces: Iterator[bytes], on_bytes: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._on_bytes = on_bytes
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        found = [self._rest]
        length = len(self._rest)
        while size < 0 or length < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._on_bytes(len(piece))
            found.append(piece)
            length += len(piece)
        data = b"".join(found)
        cut = len(data) if size < 0 else size
        self._rest = data[cut:]
        return data[:cut]
