"""What people should know of a LocalStack before they start it."""

from collections.abc import Iterator
from typing import Final

from triton_env.core.findings import Finding, Verdict
from triton_env.services.base_checks import Checks
from triton_env.services.s3.servers.localstack import LAST_FREE_VERSION, needs_token
from triton_env.settings import Settings


class S3Checks(Checks):
    """Whether the image needs a token."""

    def of_settings(self, settings: Settings) -> Iterator[Finding]:
        image = settings.localstack_image
        if settings.triton_s3_server not in ("", "localstack"):
            return
        if settings.localstack_auth_token.get_secret_value():
            yield Finding("token", Verdict.GOOD, "LOCALSTACK_AUTH_TOKEN is set")
        elif not needs_token(image):
            yield Finding("token", Verdict.GOOD, f"no LOCALSTACK_AUTH_TOKEN, and {image} needs none")
        else:
            last = ".".join(str(part) for part in LAST_FREE_VERSION)
            yield Finding(
                "token",
                Verdict.BAD,
                f"{image} does not start without LOCALSTACK_AUTH_TOKEN",
                f"export LOCALSTACK_IMAGE=localstack/localstack:{last}, or set LOCALSTACK_AUTH_TOKEN",
            )


CHECKS: Final = S3Checks()
