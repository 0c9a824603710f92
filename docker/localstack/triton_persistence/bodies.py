"""Bodies as files that are written once. A file's name is kept on the S3Object or S3Part, in the attribute `body`."""

import base64
import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import IO, Literal
from uuid import uuid4

from localstack.aws.api import CommonServiceException
from localstack.services.s3.constants import S3_CHUNK_SIZE
from localstack.services.s3.models import S3Multipart, S3Object, S3Part
from localstack.services.s3.storage.core import LimitedStream, S3ObjectStore, S3StoredMultipart, S3StoredObject
from localstack.services.s3.utils import ObjectRange, get_s3_checksum

LOG = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds that a replaced body stays. A request may have looked up an object and not yet opened its body."""

Mode = Literal["r", "w"]

# Bodies that the current operation has written. Without an operation that will save them, a write is a mistake.
_written: ContextVar[set[str]] = ContextVar("written")


class BodyFiles:
    """The folder of bodies: names, paths, removal."""

    def __init__(self, root: Path, on_removed: Callable[[], None]) -> None:
        """Describe the folder.

        Args:
            root: The folder.
            on_removed: Called when replaced bodies have made room.
        """
        self.root = str(root)
        self._on_removed = on_removed
        self._due: deque[tuple[float, str]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def path(self, body: str) -> str:
        # Not by pathlib, which would take as long as the rest of a small write.
        return f"{self.root}/{body[:2]}/{body}"

    def create(self) -> tuple[str, IO[bytes]]:
        """Open a new file for writing and return its name too."""
        body = uuid4().hex
        path = self.path(body)
        try:
            return body, open(path, "xb")
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return body, open(path, "xb")

    def names(self) -> Iterator[str]:
        """Yield every body in the folder."""
        with suppress(FileNotFoundError), os.scandir(self.root) as folders:
            for folder in folders:
                with os.scandir(folder) as files:
                    yield from (file.name for file in files)

    def size(self, body: str) -> int | None:
        """Return the length in bytes, or None where there is no such file."""
        try:
            return os.stat(self.path(body)).st_size
        except FileNotFoundError:
            return None

    def remove(self, bodies: Iterable[str]) -> None:
        for body in bodies:
            try:
                os.unlink(self.path(body))
            except FileNotFoundError:
                pass
            except OSError as error:
                # It takes room until the next start, which removes it.
                LOG.warning("the body %s could not be removed: %s", body, error)

    def remove_later(self, bodies: Iterable[str]) -> None:
        """Remove them once GRACE seconds have passed."""
        due = time.monotonic() + GRACE
        with self._wake:
            self._due.extend((due, body) for body in bodies)
            if self._due and self._thread is None:
                self._thread = threading.Thread(target=self._remove_when_due, name="s3-bodies", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Stop removing. What is still due goes at the next start."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _remove_when_due(self) -> None:
        while True:
            with self._wake:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                _, body = self._due.popleft()
                waiting = bool(self._due)
            self.remove([body])
            if not waiting:
                self._on_removed()


@contextmanager
def collect_written() -> Iterator[set[str]]:
    """Collect the names of the bodies that the block writes."""
    bodies: set[str] = set()
    token = _written.set(bodies)
    try:
        yield bodies
    finally:
        _written.reset(token)


class StoredBody(S3StoredObject):
    """An open body. Each one has a file of its own, so that readers and writers need no lock between them."""

    def __init__(self, files: BodyFiles, s3_object: S3Object | S3Part, mode: Mode) -> None:
        super().__init__(s3_object=s3_object, mode=mode)
        self._md5: str | None = None
        self._checksum: str | None = None
        if mode == "w":
            written = _written.get()
            body, self._file = files.create()
            written.add(body)
            s3_object.body = body
            self._path = files.path(body)
            self.size = 0
        else:
            self._path = files.path(s3_object.body)
            try:
                self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - close() closes it
            except FileNotFoundError:
                LOG.error("the body %s is not in the volume", s3_object.body)
                raise CommonServiceException(
                    "InternalError", "The body of this object is not in the volume.", status_code=500
                ) from None

    def close(self) -> None:
        self.closed = True
        self._file.close()

    def write(self, s: IO[bytes] | S3StoredObject | None) -> int:
        stream = BytesIO() if s is None else s
        checksum = get_s3_checksum(self.s3_object.checksum_algorithm) if self.s3_object.checksum_algorithm else None
        md5 = hashlib.md5(usedforsecurity=False)
        while data := stream.read(S3_CHUNK_SIZE):
            self._file.write(data)
            self.size += len(data)
            md5.update(data)
            if checksum:
                checksum.update(data)
        self.finish()
        self._md5 = self.s3_object.etag = md5.hexdigest()
        if checksum:
            self._checksum = base64.b64encode(checksum.digest()).decode()
        return self.size

    def append(self, part: S3StoredObject) -> int:
        added = 0
        while data := part.read(S3_CHUNK_SIZE):
            self._file.write(data)
            added += len(data)
        self.size += added
        return added

    def finish(self) -> None:
        """Hand everything to the disk. Only then may the object be seen."""
        self._file.flush()
        # Not its folder too: the file systems under volumes (ext4, XFS, btrfs) write a new file's name along with it.
        os.fsync(self._file.fileno())
        self.s3_object.size = self.size
        self.s3_object.internal_last_modified = time.time_ns()

    def read(self, s: int = -1) -> bytes:
        return self._file.read(s) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    @property
    def last_modified(self) -> int:
        # A body belongs to one object and never changes, so the two cannot differ.
        return self.s3_object.internal_last_modified

    @property
    def checksum(self) -> str | None:
        if not self.s3_object.checksum_algorithm:
            return None
        if self._checksum is None:
            checksum = get_s3_checksum(self.s3_object.checksum_algorithm)
            for data in self._content():
                checksum.update(data)
            self._checksum = base64.b64encode(checksum.digest()).decode()
        return self._checksum

    @property
    def etag(self) -> str:
        if self._md5 is None:
            md5 = hashlib.md5(usedforsecurity=False)
            for data in self._content():
                md5.update(data)
            self._md5 = md5.hexdigest()
        return self._md5

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(S3_CHUNK_SIZE):
            yield data

    def _content(self) -> Iterator[bytes]:
        with open(self._path, "rb", buffering=0) as file:
            while data := file.read(S3_CHUNK_SIZE):
                yield data


class StoredUpload(S3StoredMultipart):
    """The parts of a multipart upload. They are bodies like any other."""

    _s3_store: "BodyStore"

    def open(self, s3_part: S3Part, mode: Mode = "r") -> StoredBody:
        return StoredBody(self._s3_store.files, s3_part, mode)

    def remove_part(self, s3_part: S3Part) -> None:
        """Do nothing, like `BodyStore.remove`."""

    def complete_multipart(self, parts: list[S3Part]) -> None:
        with self._s3_store.open(self.bucket, self.s3_multipart.object, mode="w") as whole:
            for s3_part in parts:
                with self.open(s3_part) as part:
                    whole.append(part)
            whole.finish()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def copy_from_object(
        self, s3_part: S3Part, src_bucket: str, src_s3_object: S3Object, range_data: ObjectRange | None
    ) -> None:
        with self._s3_store.open(src_bucket, src_s3_object) as source, self.open(s3_part, mode="w") as part:
            part.write(LimitedStream(source, range_data=range_data) if range_data else source)
            if s3_part.checksum_algorithm:
                s3_part.checksum_value = part.checksum


class BodyStore(S3ObjectStore):
    """What the provider stores bodies with.

    It never removes one: that waits until the database no longer names it, and whoever saves knows.
    """

    def __init__(self, files: BodyFiles) -> None:
        self.files = files
        self.root_directory = files.root

    def open(self, bucket: str, s3_object: S3Object, mode: Mode = "r") -> StoredBody:
        return StoredBody(self.files, s3_object, mode)

    def remove(self, bucket: str, s3_object: S3Object | list[S3Object]) -> None:
        """Do nothing: see the class."""

    def copy(self, src_bucket: str, src_object: S3Object, dest_bucket: str, dest_object: S3Object) -> StoredBody:
        with self.open(src_bucket, src_object) as source:
            destination = self.open(dest_bucket, dest_object, mode="w")
            try:
                destination.write(source)
            except BaseException:
                with suppress(OSError):
                    destination.close()
                raise
        return destination

    def get_multipart(self, bucket: str, upload_id: S3Multipart) -> StoredUpload:
        return StoredUpload(self, bucket, upload_id)

    def remove_multipart(self, bucket: str, s3_multipart: S3Multipart) -> None:
        """Do nothing: see the class."""
