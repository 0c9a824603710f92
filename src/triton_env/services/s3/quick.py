"""The requests that every namespace costs, with no more work than they need.

boto3 spends more time on a request than a server on making a bucket. What is not answered as usual is left to it.
"""

import re
from contextlib import suppress
from datetime import datetime
from typing import Final

import urllib3

from triton_env.core.breakable import breakable
from triton_env.services import S3, base
from triton_env.services.s3.requests import UnusualError, buckets_in
from triton_env.services.s3.signing import signed

_READ_TIMEOUT: Final = 60
"""Seconds."""


class QuickRequests:
    """Requests to one server, for several threads.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
    """

    def __init__(self, service: S3, connections: int) -> None:
        self._service = service
        # Given to the pool, so that no proxy of the environment comes in between.
        self._pool = urllib3.HTTPConnectionPool(
            service.host,
            service.port,
            maxsize=connections,
            retries=False,
            timeout=urllib3.Timeout(connect=base.CONNECT_TIMEOUT, read=_READ_TIMEOUT),
        )
        self.break_off = breakable(self._pool)
        """Has fail what other threads wait for."""

    def buckets(self) -> dict[str, datetime] | None:
        """All buckets with their dates; None where boto3 is to be asked."""
        answer = self._answer("GET", "/")
        if answer is None or answer.status != 200:
            return None
        with suppress(UnusualError):
            return buckets_in(answer.data)
        return None

    def make(self, bucket: str) -> bool:
        """Make a bucket in the oldest region; False where boto3 is to do it."""
        answer = self._answer("PUT", f"/{bucket}")
        return answer is not None and answer.status == 200

    def remove(self, bucket: str) -> bool:
        """Remove an empty bucket; False if boto3 has to handle it (missing or not empty)."""
        answer = self._answer("DELETE", f"/{bucket}")
        return answer is not None and answer.status == 204

    def etags(self, bucket: str) -> list[str] | None:
        """Of all versions of objects in a bucket the entity tags, without quotation marks; empty for delete markers.

        None where boto3 is to find out: there are many, or there is no bucket.
        """
        answer = self._answer("GET", f"/{bucket}?max-keys=1000&versions=")
        if answer is None or answer.status != 200 or b"<IsTruncated>false</IsTruncated>" not in answer.data:
            return None
        found = re.findall(r"<ETag>([^<]*)</ETag>|<(DeleteMarker)>", answer.data.decode())
        return [etag.replace("&quot;", "").strip('"') for etag, _ in found]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _answer(self, method: str, path: str) -> urllib3.BaseHTTPResponse | None:
        service = self._service
        host, key = service.url.removeprefix("http://"), (service.access_key, service.secret_key)
        headers = signed(method, host, path, key, service.region)
        try:
            return self._pool.request(method, path, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            if died := service._died():
                raise died from error  # boto3 would wait for it again
            return None
