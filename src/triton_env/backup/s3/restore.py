"""Restoring S3."""

from collections.abc import Iterator, Mapping
from typing import Any

from triton_env.backup.archive import Archive
from triton_env.backup.base import Note, RunsPrograms
from triton_env.backup.journal import Place
from triton_env.backup.records import Record, read_records
from triton_env.backup.s3 import configuration
from triton_env.backup.s3.dump import threaded_client, users_buckets
from triton_env.backup.s3.takeover import Plan, S3Takeover
from triton_env.backup.s3.upload import Uploads
from triton_env.backup.steps import Meter
from triton_env.services import S3, Service

_BATCH = 1000
"""Objects that one request may delete."""


class S3Restorer:
    """Restores S3; see `Restorer`.

    Buckets of the user that are not in the backup are deleted. A bucket cannot be renamed, so one that is there is not
    swapped: its successor is first loaded under another name, which shows that this server takes all of it, and then
    once more in its place. A bucket that is not there, or empty, is loaded in its place at once.
    """

    def __init__(
        self, service: Service, program: RunsPrograms, archive: Archive, meter: Meter, place: Place, mark: str
    ) -> None:
        assert isinstance(service, S3)
        self._service = service
        self._archive = archive
        self._meter = meter
        self._client = threaded_client(service)
        # No underscore may be in the name of a bucket.
        self._mark = mark.replace("_", "-")
        contents = archive.manifest.services[service.name].contents
        users = users_buckets(service, contents)
        self._members = {name: f"s3/bucket-{number}.records" for number, name in enumerate(contents) if name in users}
        self._plan = Plan(self._mark)

    def check(self) -> None:
        """Every server takes buckets; what it does not take of them shows in `stage`."""

    def present(self) -> list[str]:
        return [
            f"the bucket {name}" for name in self._names() if name != self._service.bucket or not self._is_empty(name)
        ]

    def plan(self) -> dict[str, Any]:
        there = self._names()
        own = self._service.bucket
        direct = [name for name in self._members if name not in there or (name == own and self._is_empty(name))]
        staged = [name for name in self._members if name not in direct]
        self._plan = Plan(
            self._mark,
            {name: f"{self._mark}-{number}" for number, name in enumerate(staged)},
            direct,
            [name for name in there if name not in self._members],
        )
        return self._plan.as_data()

    def stage(self) -> None:
        self._create(self._mark, "us-east-1")
        for name in self._plan.direct:
            self._delete_bucket(name)
            self._load(name, name)
        for name, staged in self._plan.staged.items():
            self._load(name, staged)

    def swap(self) -> None:
        """Nothing: buckets cannot be renamed, so they take over in `finish`."""

    def finish(self, note: Note, plan: Mapping[str, Any] | None = None) -> None:
        """See `Restorer.finish`. From the backup, since a server loses a little of what it copies.

        Args:
            note: see there.
            plan: that of an earlier restore of the same backup, which was broken off; by default this one's.
        """
        self._meter.begin("taking over")
        takeover = S3Takeover(self._service, Plan(**plan) if plan else self._plan, note)
        takeover.finish(lambda name: self._load(name, name))

    def _names(self) -> list[str]:
        return users_buckets(self._service, [bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]])

    def _is_empty(self, bucket: str) -> bool:
        page = self._client.list_object_versions(Bucket=bucket, MaxKeys=1)
        return not page.get("Versions") and not page.get("DeleteMarkers")

    def _load(self, name: str, bucket: str) -> None:
        """Make `bucket` with what the archive has of the bucket `name`."""
        self._meter.begin(f"bucket {name}")
        with self._archive.member(self._members[name]) as stream:
            records = read_records(stream)
            wanted: dict[str, Any] = next(records).header["configuration"]
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


def _objects(records: Iterator[Record]) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """Each object and delete marker, with the pieces of its body, which have to be taken before the next."""
    for record in records:
        yield record.header, _pieces(records, record.header["size"])


def _pieces(records: Iterator[Record], size: int) -> Iterator[bytes]:
    while size > 0:
        (piece,) = next(records).parts
        size -= len(piece)
        yield piece
