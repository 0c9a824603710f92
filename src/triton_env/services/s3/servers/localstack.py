"""LocalStack, which runs in a container."""

import re
from typing import Final

from triton_env.core.model import Additions, ContainerRecipe, DataCompatibility, DataRecipe, Storage
from triton_env.core.packaged_files import packaged_file
from triton_env.errors import LocalStackTokenRequired
from triton_env.settings import Settings

_PERSISTENCE = "/opt/triton-env/localstack"
"""Where containers find the provider that writes through, as in the compose file."""
_DOOR = "start.d/10-door.py"
"""What keeps web pages out, as a hook of LocalStack's start."""
_BUCKET = "10-bucket.py"
"""What has the script beside it make the bucket, as a hook of LocalStack's start."""

LAST_FREE_VERSION = (4, 14, 0)
"""The newest LocalStack that starts without a token; later ones exit with code 55 (since 2026-03-23)."""

# LocalStack does not check keys. What is kept depends on LocalStack's own classes.
DATA: Final = DataRecipe(
    volume="localstack_data",
    path="/var/lib/localstack",
    version_command=(
        "/opt/code/localstack/.venv/bin/python",
        "-c",
        "from localstack.constants import VERSION; print(VERSION)",
    ),
    compatibility=DataCompatibility.ITS_OWN,
)


def container(settings: Settings) -> ContainerRecipe:
    """LocalStack as a container."""
    token = settings.localstack_auth_token.get_secret_value()
    environment = {
        # Objects are encrypted with keys of KMS where a client asks for `aws:kms`.
        "SERVICES": "s3,kms",
        # Load the S3 provider during the boot, not on the first request.
        "EAGER_SERVICE_LOADING": "1",
        # Nothing of this is needed for S3 on a plain port; each costs time or a connection to the outside.
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1",
        "DNS_ADDRESS": "0",
        "AWS_DEFAULT_REGION": settings.aws_default_region,
        "EXTRA_CORS_ALLOWED_ORIGINS": settings.extra_cors_allowed_origins,
    }
    files = {f"/etc/localstack/init/{_DOOR}": packaged_file(f"docker/localstack/{_DOOR}")}
    if settings.triton_storage is Storage.DISK:
        # LocalStack itself keeps nothing over a restart, whatever is mounted.
        files[_PERSISTENCE] = packaged_file("docker/localstack")
        environment |= {"PROVIDER_OVERRIDE_S3": "persisted", "PYTHONPATH": _PERSISTENCE}
    if token:
        environment["LOCALSTACK_AUTH_TOKEN"] = token
    return ContainerRecipe(
        image=settings.localstack_image,
        image_variable="LOCALSTACK_IMAGE",
        alias="localstack",
        environment=environment,
        storage=settings.triton_storage,
        files=files,
        host_variable="LOCALSTACK_HOST",
        # It boots slowest of all, so what it waits for is what the whole start waits for.
        cpu_shares=4096,
        instead_of_root="set TRITON_S3_SERVER=seaweedfs, whose image needs no root",
        alone=Additions(
            {
                "S3_BUCKET": settings.s3_bucket,
                "AWS_ACCESS_KEY_ID": settings.aws_access_key_id,
            },
            {
                f"/etc/localstack/init/ready.d/{_BUCKET}": packaged_file(f"docker/localstack/alone/{_BUCKET}"),
                "/etc/triton-env/10-bucket.sh": packaged_file("docker/localstack/ready.d/10-bucket.sh"),
            },
        ),
        unusable=None if token else _lack_of_token(settings.localstack_image),
    )


def _lack_of_token(image: str) -> LocalStackTokenRequired | None:
    if not needs_token(image):
        return None
    return LocalStackTokenRequired(
        f"The image {image} does not start without LOCALSTACK_AUTH_TOKEN.",
        where="LOCALSTACK_IMAGE",
        cause="LocalStack asks for a token in every version after 4.14.0, `latest` included",
        hint="export LOCALSTACK_IMAGE=localstack/localstack:4.14.0, or set LOCALSTACK_AUTH_TOKEN",
    )


def needs_token(image: str) -> bool:
    """Whether this LocalStack image refuses to start without a token, as far as its tag shows.

    An image pinned by digest, or under a name that does not end in `localstack`, is left to speak for itself.
    """
    reference, _, digest = image.partition("@")
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = reference, "latest"
    if digest or not repository.endswith("localstack"):
        return False
    version = re.match(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?", tag)
    if version is None:
        return True
    # `4` and `4.14` are moving tags: what they lack counts as "newest".
    parts = tuple(int(part) if part is not None else 10**9 for part in version.groups())
    return parts > LAST_FREE_VERSION
