"""Reading volumes without a server, through a container that is created and never started."""

import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from triton_env.core.model import ServiceRecipe
from triton_env.errors import EngineFailed, EngineUnreachable
from triton_env.persistent.tar import unpacked
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_socket import Absent
from triton_env.runtimes.owner import LABEL, Owner, OwnerState

READER_LABEL = f"{LABEL}.reads"
"""On containers that were made to look at a project's volumes and images: the project's name."""
_MOUNTS = "/triton-env-volumes"
_PLAIN = {"Accept-Encoding": "identity"}
_VERSION_TIMEOUT = 30
"""Seconds within which a program has to print its version."""


def volume_name(project: str, recipe: ServiceRecipe) -> str:
    """The name on the engine of a service's data volume."""
    assert recipe.data is not None
    return f"{project}_{recipe.data.volume}"


def exists(engine: Engine, volume: str) -> bool:
    """Whether the engine has a volume."""
    try:
        engine.ask(f"/volumes/{volume}")
    except Absent:
        return False
    return True


def image_id(engine: Engine, image: str) -> str:
    """The engine's id of an image; empty where the engine does not have it."""
    return str(engine.image(image).get("Id", ""))


@dataclass(frozen=True, slots=True)
class VolumeContent:
    """The files of one volume, through the reading container; see `VolumeFiles`."""

    engine: Engine
    container_id: str
    volume: str

    def path(self, path: str) -> str:
        """Where the container has what is at a path below the volume's root."""
        return posixpath.join(_MOUNTS, self.volume, path)

    def files(self, path: str) -> Mapping[str, bytes]:
        try:
            archive = self.engine.fetch(f"/containers/{self.container_id}/archive", path=self.path(path))
        except Absent:
            return {}
        # An archive begins with the last part of the path that was asked for.
        parent = posixpath.dirname(path)
        return {posixpath.join(parent, name): content for name, content in unpacked(archive).items()}

    def names(self, path: str = "") -> Iterator[str]:
        # The SDK reads an archive to its end, and volumes may be large.
        api = self.engine.client.api
        url = f"{api.base_url}/v{api.api_version}/containers/{self.container_id}/archive"
        with api.get(
            url, params={"path": self.path(path).rstrip("/")}, headers=_PLAIN, stream=True, timeout=api.timeout
        ) as response:
            if response.status_code == 404:
                return
            response.raise_for_status()
            with tarfile.open(fileobj=response.raw, mode="r|") as archive:
                for entry in archive:
                    if name := posixpath.join(path, entry.name.partition("/")[2]):
                        yield f"{name}/" if entry.isdir() else name


@contextmanager
def mounted_volumes(
    engine: Engine, project: str, recipes: Sequence[ServiceRecipe], *, read_only: bool = True
) -> Iterator[str]:
    """A container that sees the volumes, by default read-only, and never runs; its id."""
    from docker.types import Mount

    api = engine.client.api
    images = [recipe.container.image for recipe in recipes]
    mounts = [
        Mount(
            f"{_MOUNTS}/{data.volume}", volume_name(project, recipe), type="volume", read_only=read_only, no_copy=True
        )
        for recipe in recipes
        if (data := recipe.data)
    ]
    container_id = api.create_container(
        next((image for image in images if image_id(engine, image)), images[0]),
        command=["true"],
        labels=_labels(project),
        network_disabled=True,
        host_config=api.create_host_config(mounts=mounts),
    )["Id"]
    try:
        yield container_id
    finally:
        # With the volumes that the image declares; named ones stay.
        api.remove_container(container_id, v=True, force=True)


def image_version(engine: Engine, project: str, recipe: ServiceRecipe) -> str:
    """What the image's program says of its version; empty where it does not say.

    It runs without the volumes and without a network.
    """
    from docker.errors import APIError, ImageNotFound

    assert recipe.data is not None
    program, *arguments = recipe.data.version_command
    api = engine.client.api
    try:
        container_id = api.create_container(
            recipe.container.image,
            entrypoint=[program],
            command=arguments,
            labels=_labels(project),
            network_disabled=True,
            host_config=api.create_host_config(network_mode="none"),
        )["Id"]
    except ImageNotFound:
        return ""
    try:
        api.start(container_id)
        status = api.wait(container_id, timeout=_VERSION_TIMEOUT)["StatusCode"]
        return str(api.logs(container_id, stderr=False).decode(errors="replace")).strip() if status == 0 else ""
    except (APIError, EngineFailed, EngineUnreachable):
        # An image without that program, or one that hangs. The server itself will say what it thinks of the data.
        return ""
    finally:
        api.remove_container(container_id, v=True, force=True)


def _labels(project: str) -> dict[str, str]:
    return Owner.this_process(project).labels() | {READER_LABEL: project}


def remove_leftovers(engine: Engine, project: str) -> None:
    """Remove reading containers of processes that were killed: they would keep volumes from being removed."""
    here = Owner.this_process(project)
    for container in engine.ask("/containers/json", all=True, filters={"label": [f"{READER_LABEL}={project}"]}):
        owner = Owner.of_labels(container["Labels"])
        if owner and owner.liveness(here).state in (OwnerState.DEAD, OwnerState.PROBABLY_DEAD):
            from docker.errors import NotFound

            with suppress(NotFound):
                engine.client.api.remove_container(container["Id"], v=True, force=True)
