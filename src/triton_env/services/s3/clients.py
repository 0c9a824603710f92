"""Clients for work on many objects at once."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

from triton_env.services import S3

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

THREADS = 8
"""How many requests are under way at once."""
OLDEST_REGION = "us-east-1"
"""The region of buckets that name none."""


def threaded_client(service: S3, limits: "Config | None" = None, **options: Any) -> "S3Client":
    """A client for several threads.

    Args:
        limits: of requests, in the place of those that are usual here.
    """
    from botocore.config import Config

    config = Config(
        max_pool_connections=THREADS + 2,
        read_timeout=300,
        # Checksums where S3 demands them: servers that imitate it know not all of them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return service.client(config=config.merge(limits) if limits else config, **options)


def create_bucket(service: S3, client: "S3Client", name: str, region: str, *, locks: bool = False) -> None:
    """Make an empty bucket.

    Args:
        client: of the server, in the region of the service.
        locks: with object lock, and so with versions.
    """
    options: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if locks else {}
    if region != OLDEST_REGION:
        place: Any = {"LocationConstraint": region}
        client.create_bucket(Bucket=name, CreateBucketConfiguration=place, **options)
    elif service.region != region:
        # A bucket without a place is refused to a client that is elsewhere.
        with closing(threaded_client(service, region_name=region)) as oldest:
            oldest.create_bucket(Bucket=name, **options)
    else:
        client.create_bucket(Bucket=name, **options)


def set_versioning(client: "S3Client", bucket: str, state: str) -> None:
    """Give a bucket a state of versioning: "Enabled" or "Suspended"."""
    wanted: Any = {"Status": state}
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=wanted)
