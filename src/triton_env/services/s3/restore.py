"""Restoring S3."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from triton_env.archive.archive import Archive
from triton_env.archive.manifest import first_problem
from triton_env.archive.records import Record, read_records
from triton_env.archive.steps import Meter
from triton_env.core.forms import Form, forms_for
from triton_env.core.printable import listed
from triton_env.errors import RestoreFailed
from triton_env.services import S3
from triton_env.services.base_backup import KnownSpaces, Note, Programs, plan_from
from triton_env.services.s3 import configuration, forms
from triton_env.services.s3.clients import OLDEST_REGION, create_bucket, threaded_client
from triton_env.services.s3.contents import difference
from triton_env.services.s3.locks import held_versions
from triton_env.services.s3.names import users_buckets
from triton_env.services.s3.removal import remove_bucket
from triton_env.services.s3.takeover import Plan, S3Takeover, begin, remember
from triton_env.services.s3.upload import Uploads


class S3Restorer:
    """Restores S3; see `Restorer`.

    Buckets of the user that are not in the backup are deleted. A bucket cannot be renamed, so one that is there is not
    swapped: its successor is first loaded under another name, which shows that this server takes all of it, and then
    once more in its place. A bucket that is not there, or empty, is loaded in its place at once.
    """

    def __init__(
        self, service: S3, programs: Programs, archive: Archive, meter: Meter, spaces: KnownSpaces, mark: str
    ) -> None:
        self._service = service
        self._archive = archive
        self._meter = meter
        self._client = threaded_client(service)
        # No underscore may be in the name of a bucket.
        self._mark = mark.replace("_", "-")
        contents = archive.manifest.services[service.name].contents
        users = users_buckets(service.bucket, contents)
        self._members = {name: f"s3/bucket-{number}.records" for number, name in enumerate(contents) if name in users}
        self._plan = Plan(self._mark)
        self._reported: dict[str, set[str]] = {}

    def check(self) -> None:
        """See that what is there can be removed. What the server does not take shows in `stage`."""
        # Governance may be bypassed on servers that this environment runs, not on those of others.
        overrules = Form.EXTERNAL not in forms_for(self._service._settings.triton_runtime)
        held = held_versions(self._client, self._names(), overrules=overrules)
        if held:
            raise RestoreFailed(
                "S3 holds objects that are locked, and a restore would remove them.",
                where=listed(held),
                hint="aws s3api put-object-legal-hold --legal-hold Status=OFF --bucket BUCKET --key KEY; "
                "a retention ends by itself",
            )

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
        return asdict(self._plan)

    def stage(self) -> None:
        create_bucket(self._service, self._client, self._mark, OLDEST_REGION)
        there = self._names()
        for name in self._plan.direct:
            if name in there and not self._is_empty(name):
                raise RestoreFailed(
                    f"The bucket {name} was empty when the restore began, and is in use by now.",
                    where=f"{self._service.host}:{self._service.port}",
                    hint="try again",
                )
            begin(self._client, self._mark, name)
            remove_bucket(self._client, name)
            self._load(name, name)
        for name, staged in self._plan.staged.items():
            self._load(name, staged)

    def swap(self) -> None:
        """Nothing: buckets cannot be renamed, so they take over in `finish`."""

    def finish(self, note: Note, plan: Mapping[str, Any] | None = None) -> None:
        """See `LateRestorer.finish`. From the backup, since a server loses a little of what it copies."""
        self._meter.begin("taking over")
        takeover = S3Takeover(self._service, plan_from(Plan, plan) if plan else self._plan, note)
        takeover.finish(lambda name: self._load(name, name))
        for name, differences in takeover.differences.items():
            self._report(name, differences)

    def _names(self) -> list[str]:
        there = [bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]]
        return sorted(users_buckets(self._service.bucket, there))

    def _is_empty(self, bucket: str) -> bool:
        page = self._client.list_object_versions(Bucket=bucket, MaxKeys=1)
        return not page.get("Versions") and not page.get("DeleteMarkers")

    def _load(self, name: str, bucket: str) -> None:
        """Make `bucket` with what the archive has of the bucket `name`."""
        self._meter.begin(f"bucket {name}")
        with self._archive.member(self._members[name]) as stream:
            records = read_records(stream)
            wanted: dict[str, Any] = self._checked(forms.BUCKET, next(records), name)["configuration"]
            if part := configuration.malformed(self._client, wanted):
                raise self._archive.refused(f"the {part.replace('_', ' ')} of the bucket {name} has another form")
            # What is loaded aside gets its locks where it takes over, and stays removable until then.
            locks = bucket == name and configuration.has_lock_at_once(wanted)
            create_bucket(self._service, self._client, bucket, wanted["region"], locks=locks)
            versioning = "Enabled" if locks else ""
            with Uploads(self._client, bucket, self._meter.count, versioning) as uploads:
                for record in records:
                    header = self._checked(forms.VERSION, record, name)
                    # The pieces of its content have to be taken before the next.
                    uploads.put(header, _pieces(records, header["size"]))
                uploads.set_versioning(wanted["versioning"])
        if found := difference(self._client, bucket, uploads.contents):
            raise RestoreFailed("The server does not hold what was restored.", cause=found)
        now = wanted if bucket == name else {part: value for part, value in wanted.items() if part != "object_lock"}
        configuration.apply(self._client, bucket, now, names_buckets=False)
        if bucket != name and wanted.get("policy"):
            # It may deny to read or to remove what is in it.
            self._client.delete_bucket_policy(Bucket=bucket)
        remember(self._client, self._mark, name, wanted, uploads.locks)
        self._report(name, uploads.differences)

    def _checked(self, form: TypeAdapter[Any], record: Record, bucket: str) -> dict[str, Any]:
        """The header of a record that has to be of that form."""
        try:
            form.validate_python(record.header)
        except ValidationError as error:
            raise self._archive.refused(f"a record of the bucket {bucket}: {first_problem(error)}") from error
        return record.header

    def _report(self, name: str, differences: Iterable[str]) -> None:
        """Show what this server does not take of a bucket, once."""
        shown = self._reported.setdefault(name, set())
        if words := sorted({*differences} - shown):
            shown.update(words)
            self._meter.end(f"the bucket {name} differs from the backup: {'; '.join(words)}")


def _pieces(records: Iterator[Record], size: int) -> Iterator[bytes]:
    while size > 0:
        (piece,) = next(records).parts
        size -= len(piece)
        yield piece
