"""The fixtures of S3 in the pytest plugin."""

from typing import TYPE_CHECKING

from triton_env.services.base_fixtures import Fixtures

if TYPE_CHECKING:
    from triton_env.services.s3.service import S3, AsyncS3


async def _connect(service: "S3") -> "AsyncS3":
    import asyncio

    return await asyncio.to_thread(service.aclient)


FIXTURES = Fixtures(
    words="S3 with a bucket for this test alone.",
    kind="S3",
    client_words="The methods of a boto3 client as coroutines, closed after this test.",
    client_kind="AsyncS3",
    connect=_connect,
)
