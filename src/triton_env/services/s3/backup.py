"""Saving S3."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from triton_env.archive.archive import ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.records import Record, Writable, write_record
from triton_env.archive.sealing import CHUNK
from triton_env.archive.steps import Meter
from triton_env.services import S3
from triton_env.services.base_backup import KnownSpaces, Programs, left_by_restores, unrecorded
from triton_env.services.base_isolation import owner_of
from triton_env.services.s3 import configuration
from triton_env.services.s3.answers import is_missing
from triton_env.services.s3.clients import THREADS, threaded_client
from triton_env.services.s3.locks import has_expired
from triton_env.services.s3.names import bucket_names, is_bucket_of_restore, space_ids, users_buckets
from triton_env.services.s3.notes import EXPIRED_LOCKS, GONE, STRAY_LOCKS, Notes
from triton_env.services.s3.reading import Found, Reader
from triton_env.services.s3.versions import Order, Version, in_phases, versions_by_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_AHEAD = 32
"""Objects that are read before it is their turn. Of large ones that is all but their content."""


def save(service: S3, programs: Programs, archive: ArchiveWriter, meter: Meter, spaces: KnownSpaces) -> SavedService:
    """Save the user's buckets; see `Saver`.

    What is deleted while it is read, and what the server does not hand out, is left out with a note.

    Raises:
        BackupFailed: an object ended too early.
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the server refused or does not answer.
    """
    client = threaded_client(service)
    notes = Notes()
    saved: list[str] = []
    there = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    for bucket in sorted(users_buckets(service.bucket, there)):
        meter.begin(f"bucket {bucket}")
        if (found := _read_bucket(client, bucket, notes)) is None:
            notes.add(GONE, bucket)
            continue
        settings, order = found
        with archive.member(f"s3/bucket-{len(saved)}.records", service.name, "bucket", meter.count) as stream:
            write_record(stream, Record({"t": "bucket", "name": bucket, "configuration": settings}))
            reader = Reader(client, bucket, notes, archive.path.parent)
            for state, versions in order.phases:
                for each in _read_ahead(reader, versions):
                    _note_lock(bucket, each, settings, notes)
                    _write(reader, each, state, stream)
        saved.append(bucket)
    remains = left_by_restores(name for name in there if is_bucket_of_restore(name))
    others = unrecorded(spaces, partial(_unrecorded, service.bucket, client))
    return SavedService(service.server_version(), tuple(saved), (*notes.sentences(), *remains, *others))


def _unrecorded(own: str, client: "S3Client", known: frozenset[str]) -> list[str]:
    there = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    names = [bucket_names(each) for each in space_ids(own, there) if each not in known and not owner_of(each)]
    return [f"the bucket {bucket}" for bucket in there if any(each.has(bucket) for each in names)]


def _read_bucket(client: "S3Client", bucket: str, notes: Notes) -> tuple[dict[str, Any], Order] | None:
    """Its configuration and its versions; None where it is gone."""
    from botocore.exceptions import ClientError

    try:
        settings = configuration.read(client, bucket, notes)
        order = in_phases(versions_by_key(client, bucket, is_versioned=bool(settings["versioning"])))
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    return settings | {"has_nulls": order.has_nulls}, order


def _read_ahead(reader: Reader, versions: list[Version]) -> Iterator[tuple[Version, Found]]:
    """Those of the versions that can be read, in their order, some of them read ahead: each takes several requests."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="triton-backup") as pool:
        waiting: deque[tuple[Version, Future[Found | None]]] = deque()
        coming = iter(versions)
        try:
            while True:
                while len(waiting) < _AHEAD and (version := next(coming, None)) is not None:
                    waiting.append((version, pool.submit(reader.read, version)))
                if not waiting:
                    return
                version, future = waiting.popleft()
                if found := future.result():
                    yield version, found
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write(reader: Reader, read: tuple[Version, Found], state: str, stream: Writable) -> None:
    version, found = read
    if found.content is not None:
        _write_header(stream, found, state)
        if found.content:
            write_record(stream, Record({"t": "body"}, (found.content,)))
    # Only now: no two large objects at once. All of it before its header, which cannot be taken back.
    elif stored := reader.read_large(version):
        found, file = stored
        with file:
            _write_header(stream, found, state)
            while piece := file.read(CHUNK):
                write_record(stream, Record({"t": "body"}, (piece,)))


def _write_header(stream: Writable, found: Found, state: str) -> None:
    write_record(stream, Record(found.header | {"state": state, "size": found.size}))


def _note_lock(bucket: str, read: tuple[Version, Found], settings: dict[str, Any], notes: Notes) -> None:
    """Note a lock that a restore cannot set."""
    if lock := read[1].header.get("lock"):
        if "object_lock" not in settings:
            notes.add(STRAY_LOCKS, f"{bucket}/{read[0].key}")
        elif has_expired(lock):
            notes.add(EXPIRED_LOCKS, f"{bucket}/{read[0].key}")
