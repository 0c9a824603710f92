"""S3: a space is the buckets whose names end with its suffix."""

import re
import threading
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from triton_env.backup.s3 import configuration
from triton_env.backup.s3.dump import THREADS
from triton_env.errors import InvalidSetting, IsolationFailed
from triton_env.isolation import ours
from triton_env.isolation.base import PREFIX, SNAPSHOT, TEMPLATE, Isolation, Space
from triton_env.isolation.s3_copy import (
    Admin,
    CopiedBucket,
    admin_of,
    copy_bucket,
    make_bucket,
    read_bucket,
    remove_bucket,
)
from triton_env.services import S3
from triton_env.services.s3_names import BucketNames
from triton_env.threads import for_each

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_FROZEN: Final = (TEMPLATE, SNAPSHOT)
"""Spaces that nobody changes once they are made."""
_DATES: Final = timedelta(seconds=2)
"""How far apart buckets of the same name must be made so that their dates, in whole seconds, tell one from another."""
_KIND: Final = re.compile(f"{PREFIX}([a-z]+)_([a-z0-9]|[a-z0-9][a-z0-9_]*[a-z0-9])")


class S3Isolation(Isolation[S3]):
    """What S3 does with spaces; see `Isolation`.

    The environment's own clients see the buckets of all spaces; those of a space see its own alone.
    """

    name = S3.name

    def __init__(self, service: S3) -> None:
        super().__init__(service)
        self._lock = threading.Lock()
        self._admin: Admin | None = None
        self._defaults: Mapping[str, Any] | None = None
        self._read: dict[tuple[str, datetime], CopiedBucket] = {}

    def bound(self, space: Space) -> S3:
        if space.is_own:
            return self._service
        names = names_of(space)
        settings = self._service._settings.updated(s3_bucket=names.real(self._service.bucket))
        return S3(settings, self._service.placement, names)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        """Make a space; see `Isolation.create`.

        Objects are copied by the server, so that what was uploaded in parts has another ETag. Uploads that are not
        complete, and locks, are not copied. The bucket that the application expects is there in any case.

        Raises:
            InvalidSetting: a name of a bucket would be too long.
            IsolationFailed: an object has more than 5 GB, or a bucket of that name is not of triton-env.
        """
        names = names_of(space)
        there = {} if is_new and source is None else self._buckets()
        left = [name for name in there if names.has(name)]
        if left and names.real(self._service.bucket) not in left:
            raise IsolationFailed(
                f"The namespace {space.id} cannot be made: the bucket {left[0]} has a name that would be one of its.",
                where="S3",
                hint=f"choose another name for the namespace, or: aws s3 rb --force s3://{left[0]}",
            )
        targets = {} if source is None else self._targets(space, source, there)
        self._remove(left)
        try:
            self._make(space, targets)
        except BaseException:
            self._remove([names.real(self._service.bucket), *targets])
            raise

    def drop(self, space: Space) -> None:
        self._remove(self._of(space, self._buckets()))

    def replace(self, space: Space, source: Space | None) -> None:
        """Make what is in `space` a copy; see `Isolation.replace`.

        Buckets cannot be renamed. So all of the source is read before the first bucket is replaced, which is the last
        step: should the server fail in it, some buckets are incomplete.
        """
        there = self._buckets()
        targets = {} if source is None else self._targets(space, source, there)
        self._remove(self._of(space, there))
        self._make(space, targets)

    def clear(self, kept: Collection[Space]) -> None:
        there = self._buckets()
        stay = {name for space in kept for name in self._of(space, there)}
        self._remove([name for name in there if name not in stay])
        if self._service.bucket not in stay:
            make_bucket(self._clients, self._service.bucket, self._service.region)

    def found(self) -> frozenset[str]:
        return frozenset(ours.space_ids(self._service.bucket, self._buckets()))

    def close(self) -> None:
        with self._lock:
            admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    @property
    def _clients(self) -> Admin:
        with self._lock:
            if self._admin is None:
                self._admin = admin_of(self._service)
            return self._admin

    @property
    def _client(self) -> "S3Client":
        return self._clients.client

    def _buckets(self) -> dict[str, datetime]:
        """All buckets, with their dates."""
        found = self._clients.quick.buckets()
        if found is None:
            answer = self._client.list_buckets()
            found = {bucket["Name"]: bucket["CreationDate"] for bucket in answer["Buckets"]}
        return found

    def _of(self, space: Space, there: Collection[str]) -> list[str]:
        """The buckets of a space. The environment's own are those that are of no other."""
        if space.is_own:
            return ours.without_spaces(self._service.bucket, there)
        names = names_of(space)
        return [name for name in there if names.has(name)]

    def _targets(self, space: Space, source: Space, there: Mapping[str, datetime]) -> dict[str, CopiedBucket]:
        """By the name of its copy, each bucket of the source."""
        before, after = names_of(source), names_of(space)
        names = {after.real(before.expected(name)): name for name in self._of(source, there)}
        return {target: self._copied(source, name, there[name]) for target, name in names.items()}

    def _copied(self, source: Space, name: str, date: datetime) -> CopiedBucket:
        if found := self._read.get((name, date)):
            return found
        read = read_bucket(self._clients, name)
        if source.id.startswith(_FROZEN) and datetime.now(UTC) - date > _DATES:
            self._read[name, date] = read
        return read

    def _make(self, space: Space, targets: Mapping[str, CopiedBucket]) -> None:
        """Make the buckets of a space that has none. The expected one comes first: by it the space is known."""
        expected = names_of(space).real(self._service.bucket)
        if expected not in targets:
            make_bucket(self._clients, expected, self._service.region)
        for name in sorted(targets, key=lambda name: name != expected):
            source = targets[name]
            make_bucket(self._clients, name, source.configuration["region"])
            if self._defaults is None:
                # Of a new bucket, so that what is as it shall be is not asked for and set again in every copy.
                self._defaults = configuration.read(self._client, name)
            copy_bucket(self._client, source, name, self._defaults)

    def _remove(self, names: Collection[str]) -> None:
        """Remove buckets, those by which spaces are known after all others."""
        for key in [key for key in self._read if key[0] in names]:
            self._read.pop(key, None)
        marks = [name for name in names if name.startswith(self._service.bucket)]
        for_each([name for name in names if name not in marks], self._remove_one, THREADS)
        for_each(marks, self._remove_one, THREADS)

    def _remove_one(self, name: str) -> None:
        remove_bucket(self._clients, name)


def names_of(space: Space) -> BucketNames:
    """How the buckets of a space are called.

    Two hyphens stand for each underscore of its name, so that no suffix ends with another.

    Raises:
        InvalidSetting: its name does not fit into one of a bucket.
    """
    if space.is_own:
        return BucketNames()
    found = _KIND.fullmatch(space.id)
    if found is None:
        raise InvalidSetting(
            f"{space.id} cannot have buckets: their names end with a letter or a digit.",
            where="S3",
            hint="choose a name that begins and ends with a letter or a digit",
        )
    return ours.bucket_names(space.id)
