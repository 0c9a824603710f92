"""What S3 can say about a test that failed: what is in its bucket."""

import re

from triton_env.services.base_diagnostics import LINES, Diagnostics, table
from triton_env.services.s3.service import S3

_BUCKETS = re.compile(r"AWS s3\.(ListBuckets|CreateBucket|DeleteBucket) => 20")
"""LocalStack does not name the bucket of a request."""


class S3Diagnostics(Diagnostics[S3]):
    """The objects in the test's bucket."""

    title = "bucket"

    def answer(self, since: float) -> str:
        client = self._service._hasty_client(self._timeout, self._timeout)
        try:
            listing = client.list_objects_v2(Bucket=self._service.bucket, MaxKeys=LINES)
        finally:
            client.close()
        rows = [(each["Size"], each["LastModified"].isoformat(), each["Key"]) for each in listing.get("Contents", ())]
        more = [("…", "", "and more")] if listing.get("IsTruncated") else []
        return table(("bytes", "modified", "key"), (rows + more)[-LINES + 1 :])

    def is_noise(self, line: str) -> bool:
        return ("HTTP/1" in line and f"/{self._service.bucket}" not in line) or bool(_BUCKETS.search(line))
