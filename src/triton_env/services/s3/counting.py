"""How many objects there are, found by lists: servers do not say, and lists make load."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_REQUESTS = 50
"""Lists that are asked for at most, each of 1000 objects."""
_PAUSE = 50
"""For how many times as long as a count took its result is good. So it takes two percent of the time, and half of that
is the server's."""
_SHORTEST_PAUSE = 1.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted in one bucket.

    Attributes:
        size: bytes.
        is_cut: whether there is more.
    """

    objects: int = 0
    size: int = 0
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted.

    Attributes:
        made: when each bucket was made.
        found: by bucket; it lacks those that were not come to.
        is_cut: whether there is more.
    """

    made: Mapping[str, datetime]
    found: Mapping[str, Count]
    is_cut: bool


class Counter:
    """Counts now and then, and remembers.

    Args:
        first: the bucket that is counted before others.
        seconds: that one count may take.
    """

    def __init__(self, first: str, seconds: float) -> None:
        self._first = first
        self._seconds = seconds
        self._counts: Counts | None = None
        self._good_until = 0.0

    def counted(self, client: "S3Client") -> Counts:
        """The last count, or a new one where that is due."""
        began = time.monotonic()
        if self._counts is None or began >= self._good_until:
            self._counts = self._count(client, began + self._seconds)
            now = time.monotonic()
            self._good_until = now + max(_SHORTEST_PAUSE, _PAUSE * (now - began))
        return self._counts

    def _count(self, client: "S3Client", end: float) -> Counts:
        made = {bucket["Name"]: bucket["CreationDate"] for bucket in client.list_buckets()["Buckets"]}
        made = dict(sorted(made.items(), key=lambda item: (item[0] != self._first, item[0])))
        found: dict[str, Count] = {}
        requests = 0
        for bucket in made:
            options: dict[str, Any] = {"Bucket": bucket}
            while True:
                if requests == _REQUESTS or time.monotonic() > end:
                    return Counts(made, found, is_cut=True)
                requests += 1
                page = _page(client, options)
                found[bucket] = Count(
                    found.get(bucket, Count()).objects + len(page.get("Contents", ())),
                    found.get(bucket, Count()).size + sum(each["Size"] for each in page.get("Contents", ())),
                    is_cut=bool(page.get("IsTruncated")),
                )
                if not page.get("IsTruncated"):
                    break
                options["ContinuationToken"] = page["NextContinuationToken"]
        return Counts(made, found, is_cut=False)


def _page(client: "S3Client", options: Mapping[str, Any]) -> Any:
    from botocore.exceptions import ClientError

    from triton_env.services.s3.answers import is_missing

    try:
        return client.list_objects_v2(**options)
    except ClientError as error:
        if is_missing(error):  # removed by now
            return {}
        raise
