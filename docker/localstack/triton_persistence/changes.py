"""What an operation can change, worked out from its request, and the locks that keep changes apart."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from localstack.aws.api import RequestContext
from readerwriterlock.rwlock import RWLockWrite

READING = ("Get", "Head", "List", "Select")
"""How the names of operations begin that change nothing."""


class Scope(Enum):
    """How much of a bucket an operation can change."""

    BUCKET = auto()  # its existence and configuration
    WHOLE = auto()  # and all objects
    KEYS = auto()  # versions and tags of some keys
    UPLOAD = auto()  # one multipart upload, and the versions of its key
    PART = auto()  # one part


@dataclass(frozen=True)
class Change:
    """What one request can change."""

    bucket: str
    scope: Scope
    keys: tuple[str, ...] = ()
    upload: str | None = None
    part: int | None = None


def is_change(operation: str) -> bool:
    """Whether the operation can change something. One that is not known can."""
    return not operation.startswith((*READING, "WriteGetObjectResponse"))


def change_of(operation: str, context: RequestContext, request: Mapping[str, Any]) -> Change:
    """Work out what the request can change.

    Args:
        operation: The operation's name in the service's model, such as PutObject.
        context: The HTTP request, for the one operation whose parameters come in a form.
        request: The parsed parameters.
    """
    bucket = request["Bucket"]
    upload = request.get("UploadId")
    if operation == "PutBucketVersioning":
        return Change(bucket, Scope.WHOLE)
    if operation == "DeleteObjects":
        objects = (request.get("Delete") or {}).get("Objects") or ()
        return Change(bucket, Scope.KEYS, tuple(dict.fromkeys(entry["Key"] for entry in objects if entry.get("Key"))))
    if operation == "PostObject":
        key = _key_in_form(context)
        return Change(bucket, Scope.KEYS, (key,) if key else ())
    if operation in ("UploadPart", "UploadPartCopy"):
        return Change(bucket, Scope.PART, (request["Key"],), upload, request.get("PartNumber"))
    if upload or operation == "CreateMultipartUpload":
        return Change(bucket, Scope.UPLOAD, (request["Key"],), upload)
    if "Key" in request:
        return Change(bucket, Scope.KEYS, (request["Key"],))
    return Change(bucket, Scope.BUCKET)


def _key_in_form(context: RequestContext) -> str | None:
    form = context.request.form
    key: str | None = form.get("key")
    file = context.request.files.get("file")
    if key and "file" not in form and file is not None:
        key = key.replace("${filename}", file.filename or "")
    return key


class Locks:
    """From an operation's first change in memory to its commit, nobody else may change the same thing.

    Else one operation could save, or take back, what another one has changed. Three levels: bucket, key, part of an
    upload. A change holds the one that it changes alone, and shares those above.
    """

    def __init__(self, stripes: int = 256) -> None:
        self._levels = [[RWLockWrite() for _ in range(stripes)] for _ in range(3)]

    @contextmanager
    def hold(self, change: Change) -> Iterator[None]:
        names: list[object] = [change.bucket]
        # Of several keys, each would need its lock, in an order that all keep. The bucket's lock is simpler.
        if change.scope in (Scope.KEYS, Scope.UPLOAD, Scope.PART) and len(change.keys) == 1:
            names.append((change.bucket, *change.keys))
        if change.scope is Scope.PART:
            names.append((change.bucket, change.upload, change.part))
        with ExitStack() as stack:
            for depth, (stripes, name) in enumerate(zip(self._levels, names, strict=False), start=1):
                lock = stripes[hash(name) % len(stripes)]
                stack.enter_context(lock.gen_wlock() if depth == len(names) else lock.gen_rlock())
            yield
