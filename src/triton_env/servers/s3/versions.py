"""Versions and locks as S3 keeps them.

moto drops the older versions of an object that is put or deleted while versioning is suspended, makes no delete marker
of a key that never existed, and takes no default retention once there are objects.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, Final

from moto.s3.exceptions import InvalidBucketState
from moto.s3.models import FakeBucket, FakeDeleteMarker, S3Backend

_NULL: Final = "null"
"""The id of the version that is replaced while versioning is suspended:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersionSuspendedBuckets.html"""


def correct_versions() -> None:
    """Have moto in this process keep them."""
    # A suspended bucket still has versions, which can be asked for by their ids.
    FakeBucket.is_versioned = property(  # type: ignore[method-assign,assignment]
        lambda self: self.versioning_status in ("Enabled", "Suspended")
    )
    S3Backend.put_object = _in_its_place(S3Backend.put_object)  # type: ignore[method-assign]
    S3Backend._set_delete_marker = _in_its_place(_set_delete_marker)  # type: ignore[method-assign]
    S3Backend.put_object_lock_configuration = _put_lock_configuration  # type: ignore[method-assign]


def _in_its_place(make: Any) -> Any:
    """What makes a version, which takes the place of the one without an id where versioning is suspended."""

    @functools.wraps(make)
    def made(self: S3Backend, bucket_name: str, key_name: str, *args: Any, **kwargs: Any) -> Any:
        new = make(self, bucket_name, key_name, *args, **kwargs)
        bucket: Any = self.get_bucket(bucket_name)
        if bucket.versioning_status == "Suspended":
            new._version_id = _NULL
            there = bucket.keys.getlist(key_name, [])
            bucket.keys.setlist(key_name, [each for each in there if each is new or each.version_id != _NULL])
        return new

    return made


def _set_delete_marker(self: S3Backend, bucket_name: str, key_name: str) -> FakeDeleteMarker:
    keys: Any = self.get_bucket(bucket_name).keys
    before: Any = keys.get(key_name) or SimpleNamespace(name=key_name)
    keys[key_name] = marker = FakeDeleteMarker(key=before)
    return marker


def _put_lock_configuration(
    self: S3Backend,
    bucket_name: str,
    lock_enabled: bool,
    mode: str | None = None,
    days: int | None = None,
    years: int | None = None,
) -> None:
    bucket: Any = self.get_bucket(bucket_name)
    if bucket.versioning_status != "Enabled":
        raise InvalidBucketState("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
    bucket.object_lock_enabled = bucket.object_lock_enabled or lock_enabled
    bucket.default_lock_mode, bucket.default_lock_days, bucket.default_lock_years = mode, days, years
