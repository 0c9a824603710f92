"""The entry point. LocalStack imports this module to list its plugins, so it imports nothing that takes time."""

from localstack.services.plugins import Service, aws_provider


@aws_provider(api="s3", name="persisted")
def s3_persisted() -> Service:
    """Return the S3 service that keeps its data, for `PROVIDER_OVERRIDE_S3=persisted`."""
    from .provider import create_service

    return create_service()
