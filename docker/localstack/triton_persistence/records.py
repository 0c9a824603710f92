"""Objects of LocalStack's S3 store to plain JSON and back. Reading runs no stored code: constructors do."""

import base64
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from localstack.services.s3.constants import DEFAULT_BUCKET_ENCRYPTION
from localstack.services.s3.models import S3Bucket, S3DeleteMarker, S3Multipart, S3Object, S3Part

from .errors import Refused

BUCKET_FIELDS = (
    "name",
    "bucket_account_id",
    "bucket_region",
    "bucket_arn",
    "location_constraint",
    "creation_date",
    "versioning_status",
    "lifecycle_rules",
    "transition_default_minimum_object_size",
    "policy",
    "website_configuration",
    "acl",
    "cors_rules",
    "logging",
    "notification_configuration",
    "payer",
    "encryption_rule",
    "public_access_block",
    "accelerate_status",
    "object_lock_enabled",
    "object_ownership",
    "intelligent_tiering_configurations",
    "analytics_configurations",
    "inventory_configurations",
    "metric_configurations",
    "object_lock_default_retention",
    "replication",
    "owner",
)
OBJECT_FIELDS = (
    "key",
    "version_id",
    "owner",
    "size",
    "etag",
    "user_metadata",
    "system_metadata",
    "last_modified",
    "expires",
    "expiration",
    "storage_class",
    "encryption",
    "kms_key_id",
    "bucket_key_enabled",
    "sse_key_hash",
    "checksum_algorithm",
    "checksum_value",
    "checksum_type",
    "lock_mode",
    "lock_legal_status",
    "lock_until",
    "website_redirect_location",
    "acl",
    "is_current",
    "parts",
    "restore",
    "internal_last_modified",
)
MARKER_FIELDS = ("key", "version_id", "last_modified", "is_current")
UPLOAD_FIELDS = (
    "id",
    "initiated",
    "initiator",
    "tagging",
    "checksum_value",
    "checksum_type",
    "checksum_algorithm",
    "precondition",
)
PART_FIELDS = ("part_number", "etag", "last_modified", "size", "checksum_algorithm", "checksum_value")

# The NUL keeps these names apart from all that a user can send: neither XML nor an HTTP header can carry one.
_DATETIME = "\0datetime"
_BYTES = "\0bytes"
_DEFAULT = "\0default"
_MARKER = "\0marker"
_GMT = ZoneInfo("GMT")

Version = S3Object | S3DeleteMarker


def check_classes() -> None:
    """Compare LocalStack's classes with the fields that are stored here.

    Raises:
        Refused: A class has other fields, so that something would be lost.
    """
    bucket = S3Bucket(name="sample", account_id="000000000000", bucket_region="us-east-1", owner={})
    upload = S3Multipart(key="sample")
    samples: list[tuple[Any, set[str]]] = [
        (bucket, {*BUCKET_FIELDS, "objects", "multiparts"}),
        (upload.object, {*OBJECT_FIELDS}),
        (S3DeleteMarker(key="sample", version_id="1"), {*MARKER_FIELDS}),
        (upload, {*UPLOAD_FIELDS, "object", "parts"}),
        (S3Part(part_number=1), {*PART_FIELDS}),
    ]
    for sample, fields in samples:
        if unknown := set(vars(sample)) ^ fields:
            name = type(sample).__name__
            raise Refused(f"this LocalStack's {name} has other fields than this provider stores: {sorted(unknown)}")


def dump_bucket(bucket: S3Bucket, tags: dict[str, str]) -> str:
    record = _fields(bucket, BUCKET_FIELDS) | {"tags": tags}
    # CopyObject asks whether the rule is this very object.
    if bucket.encryption_rule is DEFAULT_BUCKET_ENCRYPTION:
        record["encryption_rule"] = {_DEFAULT: True}
    return _dump(record)


def load_bucket(text: str) -> tuple[S3Bucket, dict[str, str]]:
    """Return the bucket, without its objects and uploads, and its tags."""
    record = _load(text)
    tags = record.pop("tags")
    bucket = S3Bucket(
        name=record["name"],
        account_id=record["bucket_account_id"],
        bucket_region=record["bucket_region"],
        owner=record["owner"],
    )
    if record.get("encryption_rule") == {_DEFAULT: True}:
        record["encryption_rule"] = DEFAULT_BUCKET_ENCRYPTION
    _set(bucket, BUCKET_FIELDS, record)
    return bucket, tags


def dump_version(version: Version, tags: dict[str, str]) -> str:
    if isinstance(version, S3DeleteMarker):
        return _dump(_fields(version, MARKER_FIELDS) | {_MARKER: True})
    return _dump(_fields(version, OBJECT_FIELDS) | ({"tags": tags} if tags else {}))


def load_version(text: str, body: str | None) -> tuple[Version, dict[str, str]]:
    record = _load(text)
    if record.pop(_MARKER, False):
        marker = S3DeleteMarker(key=record["key"], version_id=record["version_id"])
        _set(marker, MARKER_FIELDS, record)
        return marker, {}
    return _object(record, body), record.get("tags", {})


def dump_upload(upload: S3Multipart) -> str:
    return _dump(_fields(upload, UPLOAD_FIELDS) | {"object": _fields(upload.object, OBJECT_FIELDS)})


def load_upload(text: str) -> S3Multipart:
    """Return the upload, without its parts."""
    record = _load(text)
    upload = S3Multipart(key=record["object"]["key"])
    upload.object = _object(record.pop("object"), None)
    _set(upload, UPLOAD_FIELDS, record)
    return upload


def dump_part(part: S3Part) -> str:
    return _dump(_fields(part, PART_FIELDS))


def load_part(text: str, body: str) -> S3Part:
    record = _load(text)
    part = S3Part(part_number=record["part_number"])
    _set(part, PART_FIELDS, record)
    part.body = body
    return part


def _object(record: dict[str, Any], body: str | None) -> S3Object:
    s3_object = S3Object(key=record["key"])
    _set(s3_object, OBJECT_FIELDS, record)
    s3_object.body = body
    return s3_object


def _fields(thing: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(thing, name)) is not None}


def _set(thing: object, names: Iterable[str], record: dict[str, Any]) -> None:
    for name in names:
        setattr(thing, name, record.get(name))


def _dump(record: dict[str, Any]) -> str:
    # Unsorted: the order of tags and metadata is part of the answer.
    return json.dumps(record, default=_special, ensure_ascii=False, separators=(",", ":"))


def _load(text: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(text, object_hook=_from_special)
    return record


def _special(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {_DATETIME: value.isoformat()}
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def _from_special(value: dict[str, Any]) -> Any:
    if _DATETIME in value:
        moment = datetime.fromisoformat(value[_DATETIME])
        return moment.replace(tzinfo=_GMT) if moment.utcoffset() == timedelta(0) else moment
    if _BYTES in value:
        return base64.b64decode(value[_BYTES])
    return value
