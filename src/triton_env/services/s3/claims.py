"""What an S3 server keeps of those who make spaces on it: objects of one bucket, named after the application's."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from triton_env.services import S3
from triton_env.services.base_claims import Board, BoardClosed, Note
from triton_env.services.s3.clients import create_bucket, threaded_client
from triton_env.services.s3.names import claims_bucket

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

_Answer = TypeVar("_Answer")

_CONNECT_TIMEOUT: Final = 5
_READ_TIMEOUT: Final = 20
"""Seconds for one answer. With all tries, an answer takes less time than that for which claims hold."""
_TRIES: Final = 2
_NO_BUCKET: Final = ("NoSuchBucket", "404")


class S3Board(Board):
    """The notes on one S3 server; see `Board`."""

    def __init__(self, service: S3) -> None:
        self._service = service
        self._made: S3Client | None = None
        self._making = threading.Lock()
        self._is_closed = False
        self._bucket = claims_bucket(service.bucket)
        self._lock = threading.Lock()
        self._texts: dict[tuple[str, str, datetime], str] = {}

    def put(self, key: str, text: str) -> None:
        self._again(lambda: self._client().put_object(Bucket=self._bucket, Key=key, Body=text.encode()))

    def notes(self, prefix: str) -> Mapping[str, Note]:
        from botocore.exceptions import ClientError

        with self._lock:
            try:
                return self._notes(prefix)
            except ClientError as error:
                # What only reads makes no place for notes.
                if _code(error) not in _NO_BUCKET:
                    raise
                return {}

    def remove(self, *keys: str) -> None:
        for key in keys:
            self._again(lambda key=key: self._client().delete_object(Bucket=self._bucket, Key=key))  # type: ignore[misc]

    def close(self) -> None:
        with self._making:
            self._is_closed = True
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def _client(self) -> "S3Client":
        from botocore.config import Config

        with self._making:
            if self._is_closed:
                raise BoardClosed
            if self._made is None:
                retries: Any = {"total_max_attempts": _TRIES}
                limits = Config(connect_timeout=_CONNECT_TIMEOUT, read_timeout=_READ_TIMEOUT, retries=retries)
                self._made = threaded_client(self._service, limits)
            return self._made

    def _notes(self, prefix: str) -> dict[str, Note]:
        from botocore.exceptions import ClientError

        client = self._client()
        found: dict[str, Note] = {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for entry in page.get("Contents", ()):
                key, at = entry["Key"], entry["LastModified"]
                known = (key, entry["ETag"], at)
                if known not in self._texts:
                    try:
                        answer = client.get_object(Bucket=self._bucket, Key=key)
                    except ClientError as error:
                        if _code(error) not in ("NoSuchKey", "404"):
                            raise
                        continue  # it went just now
                    self._texts[known] = answer["Body"].read().decode()
                found[key] = Note(self._texts[known], (now - at).total_seconds())
        for known in [known for known in self._texts if known[0].startswith(prefix) and known[0] not in found]:
            del self._texts[known]
        return found

    def _again(self, act: Callable[[], _Answer]) -> _Answer:
        from botocore.exceptions import ClientError

        # By codes: the class that a thread finds in `client.exceptions` is not always the one that is raised.
        try:
            return act()
        except ClientError as error:
            if _code(error) not in _NO_BUCKET:
                raise
        try:
            create_bucket(self._service, self._client(), self._bucket, self._service.region)
        except ClientError as error:
            if _code(error) != "BucketAlreadyOwnedByYou":  # another was quicker
                # Many servers say this of our own too.
                buckets = self._client().list_buckets()["Buckets"]
                if _code(error) != "BucketAlreadyExists" or self._bucket not in {each["Name"] for each in buckets}:
                    raise
        return act()


def _code(error: "ClientError") -> str:
    return str(error.response.get("Error", {}).get("Code"))
