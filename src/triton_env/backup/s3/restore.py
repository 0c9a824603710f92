"""Restoring S3."""

from collections.abc import Iterator
from secrets import token_hex
from typing import Any

from triton_env.backup.archive import Archive
from triton_env.backup.base import HalfApplied, RunsPrograms
from triton_env.backup.records import Record, read_records
from triton_env.backup.s3 import configuration
from triton_env.backup.s3.dump import threaded_client
from triton_env.backup.s3.upload import Uploads
from triton_env.backup.steps import Meter
from triton_env.services import S3, Service

_BATCH = 1000
"""Objects that one request may delete."""


class S3Restorer:
    """Restores S3; see `Restorer`.

    Buckets that are not in the backup are deleted. A bucket cannot be renamed, so one that is there is not swapped: its
    successor is first loaded under another name, which shows that this server takes all of it, and then once more in
    its place. A bucket that is not there, or empty, is loaded in its place at once.
    """

    def __init__(self, service: Service, program: RunsPrograms, archive: Archive, meter: Meter) -> None:
        assert isinstance(service, S3)
        self._service = service
        self._archive = archive
        self._meter = meter
        self._client = threaded_client(service)
        self._mark = f"triton-restore-{token_hex(4)}"
        self._members = {
            name: f"s3/bucket-{number}.records"
            for number, name in enumerate(archive.manifest.services[service.name].contents)
        }
        self._made: list[str] = []
        self._rehearsed: list[str] = []

    def check(self) -> None:
        """Every server takes buckets; what it does not take of them shows in `stage`."""

    def present(self) -> list[str]:
        return [
            f"the bucket {name}" for name in self._names() if name != self._service.bucket or not self._is_empty(name)
        ]

    def stage(self) -> None:
        there = self._names()
        for number, name in enumerate(self._members):
            if name not in there:
                self._load(name, name)
            elif name == self._service.bucket and self._is_empty(name):
                self._delete_bucket(name)
                self._load(name, name)
            else:
                self._load(name, f"{self._mark}-{number}")
                self._rehearsed.append(name)

    def swap(self) -> None:
        done: list[str] = []
        rehearsals = {name for name in self._made if name.startswith(self._mark)}
        superfluous = [name for name in self._names() if name not in self._members and name not in rehearsals]
        current = ""
        try:
            for current in self._rehearsed:
                self._delete_bucket(current)
                self._load(current, current)
                done.append(current)
            for current in superfluous:
                self._delete_bucket(current)
                done.append(current)
            self._made = [name for name in self._made if name in rehearsals]
            self.discard()
            self._service.ensure_ready()
        except BaseException as error:
            self._made = [name for name in self._made if name in rehearsals]
            if not isinstance(error, Exception):
                error.add_note(_half_done(current, done))
                raise
            raise HalfApplied(f"{_half_done(current, done)} {error}") from error

    def discard(self) -> None:
        while self._made:
            self._delete_bucket(self._made[-1])
            self._made.pop()
        if self._service.bucket not in self._names():
            self._service.ensure_ready()

    def _names(self) -> list[str]:
        return sorted(bucket["Name"] for bucket in self._client.list_buckets()["Buckets"])

    def _is_empty(self, bucket: str) -> bool:
        page = self._client.list_object_versions(Bucket=bucket, MaxKeys=1)
        return not page.get("Versions") and not page.get("DeleteMarkers")

    def _load(self, name: str, bucket: str) -> None:
        """Make `bucket` with what the archive has of the bucket `name`."""
        self._meter.begin(f"bucket {name}")
        with self._archive.member(self._members[name]) as stream:
            records = read_records(stream)
            wanted: dict[str, Any] = next(records).header["configuration"]
            self._made.append(bucket)
            self._create(bucket, wanted["region"])
            with Uploads(self._client, bucket, self._meter.count) as uploads:
                for header, pieces in _objects(records):
                    uploads.set_versioning(header["state"])
                    uploads.put(header, pieces)
                uploads.set_versioning(wanted["versioning"])
            configuration.apply(self._client, bucket, wanted)

    def _create(self, bucket: str, region: str) -> None:
        if region == "us-east-1":
            # Where the client is elsewhere, a bucket without a place is refused.
            threaded_client(self._service, region_name=region).create_bucket(Bucket=bucket)
        else:
            place: Any = {"LocationConstraint": region}
            self._client.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)

    def _delete_bucket(self, bucket: str) -> None:
        client = self._client
        if bucket not in self._names():
            return
        while True:
            page = client.list_object_versions(Bucket=bucket, MaxKeys=_BATCH)
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if not entries:
                break
            objects: Any = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": objects[:_BATCH], "Quiet": True})
            if errors := answer.get("Errors"):
                raise RuntimeError(f"{bucket}/{errors[0].get('Key')} cannot be deleted: {errors[0].get('Message')}")
        for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        client.delete_bucket(Bucket=bucket)


def _half_done(current: str, done: list[str]) -> str:
    words = f"the bucket {current} is incomplete"
    return f"{words}; done with: {', '.join(done)};" if done else f"{words}, all others are as they were;"


def _objects(records: Iterator[Record]) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """Each object and delete marker, with the pieces of its body, which have to be taken before the next."""
    for record in records:
        yield record.header, _pieces(records, record.header["size"])


def _pieces(records: Iterator[Record], size: int) -> Iterator[bytes]:
    while size > 0:
        (piece,) = next(records).parts
        size -= len(piece)
        yield piece
