"""Clients for work on many objects at once."""

from typing import TYPE_CHECKING, Any

from triton_env.services import S3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8
"""How many requests are under way at once."""


def threaded_client(service: S3, **options: Any) -> "S3Client":
    """A client for several threads."""
    from botocore.config import Config

    config = Config(
        max_pool_connections=THREADS + 2,
        read_timeout=300,
        # Checksums where S3 demands them: servers that imitate it know not all of them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return service.client(config=config, **options)
