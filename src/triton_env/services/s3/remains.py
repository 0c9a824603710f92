"""What restores left in an S3, known by its names."""

from triton_env.services import S3
from triton_env.services.s3.names import is_bucket_of_restore
from triton_env.services.s3.requests import buckets_of


def remains(service: S3) -> list[str]:
    """See `Remains`."""
    return [f"bucket {name}" for name in sorted(buckets_of(service)) if is_bucket_of_restore(name)]
