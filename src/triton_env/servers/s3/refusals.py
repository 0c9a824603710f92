"""What S3 refuses and moto takes, and what moto does not answer."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any, Final

from moto.iam.access_control import PermissionResult

from .signature import RefusedError, Signed

_LONGEST_KEY: Final = 1024
"""Bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
_BUCKET: Final = re.compile(
    r"(?!xn--|sthree-|amzn-s3-demo-)(?!.*(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


def check_request(request: Signed, bucket: Any, name: str, key: str, body: Callable[[], bytes]) -> None:
    """See that S3 would take this request.

    Args:
        bucket: moto's, None where there is none of the name.
        name: of the bucket, empty where none is meant.
        key: of the object, empty where the bucket itself is meant.
        body: reads the body.

    Raises:
        RefusedError: it would not.
    """
    if len(key.encode()) > _LONGEST_KEY:
        raise RefusedError("KeyTooLongError", "Your key is too long", 400)
    if request.method == "PUT" and name and not key:
        if bucket is None and not _is_name(name):
            raise RefusedError("InvalidBucketName", "The specified bucket is not valid.", 400)
        if "policy" in request.parameters and not _is_policy(body()):
            raise RefusedError("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'", 400)
    if request.method == "HEAD" and bucket is not None and key:
        allowed = bucket.get_permission("s3:GetObject", f"arn:aws:s3:::{name}/{key}")
        if allowed is PermissionResult.DENIED:
            raise RefusedError("AccessDenied", "Access Denied")


def retention(bucket: Any, key: str, version: str) -> bytes:
    """The answer to who asks until when an object is kept, in XML.

    Args:
        bucket: moto's, None where there is none.
        version: of the object; empty for the newest.

    Raises:
        RefusedError: the object does not exist, or has no retention.
    """
    if bucket is None:
        raise RefusedError("NoSuchBucket", "The specified bucket does not exist", 404)
    found = [each for each in bucket.keys.getlist(key, []) if not version or each.version_id == version]
    if not found or not hasattr(found[-1], "lock_mode"):
        raise RefusedError("NoSuchKey", "The specified key does not exist.", 404)
    if not bucket.object_lock_enabled:
        raise RefusedError("InvalidRequest", "Bucket is missing Object Lock Configuration", 400)
    mode, until = found[-1].lock_mode, found[-1].lock_until
    if not mode or not until:
        message = "The specified object does not have a ObjectLock configuration"
        raise RefusedError("NoSuchObjectLockConfiguration", message, 404)
    return f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>".encode()


def _is_name(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(_BUCKET.fullmatch(name))
    return False


def _is_policy(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
