"""Stamps: a small file in each data volume that says what the data was made with."""

import io
import json
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from triton_env.core.model import STAMP_FILE, DataRecipe, ServiceRecipe
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_socket import Absent
from triton_env.state import store

FILE = STAMP_FILE


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a service's data was made with when the service was ready last.

    Attributes:
        service: the service's name.
        version: what the server said of its version.
        image: the image reference.
        image_id: the engine's id of that image.
        checkout: the folder of the compose file.
        facts: by variable, what the server was initialised with.
        written: when, in ISO 8601.
    """

    service: str
    version: str
    image: str
    image_id: str
    checkout: str
    facts: Mapping[str, str] = field(default_factory=dict)
    written: str = ""

    FORMAT: ClassVar[int] = 1

    def to_json(self) -> bytes:
        """The content of the file."""
        return store.text_of(self).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Stamp | None":
        """The stamp of a file's content; None for one that was cut off, or of a format that is not known here."""
        try:
            data = json.loads(content)
            if isinstance(data, dict):
                # Of earlier versions, which kept a hash of the password.
                data.pop("secrets", None)
            return store.of_text(json.dumps(data), cls)
        except ValueError:
            return None


def stamp_volume(
    engine: Engine, project: str, container_id: str, recipe: ServiceRecipe, version: str, checkout: str
) -> None:
    """Note in a service's volume what its data was made with. To be called when a client got in with the settings.

    Nothing is written where the volume says so already.

    Args:
        checkout: the folder of the compose file.

    Raises:
        EngineFailed, EngineUnreachable: the engine did not do it.
    """
    data = recipe.data
    if data is None:
        return
    with engine.translated("note in a volume what its data was made with", f"volume {project}_{data.volume}"):
        image = engine.ask(f"/containers/{container_id}/json")
        old = stamp_in(engine, container_id, data)
        new = Stamp(recipe.name, version, image["Config"]["Image"], image["Image"], checkout)
        if old and _same(old, new) and old.facts == data.init_values:
            return
        stamp = Stamp(
            *(new.service, new.version, new.image, new.image_id, new.checkout),
            facts=dict(data.init_values),
            written=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        # The server's user owns the volume's root. The server must be able to read this too: pg_basebackup copies it.
        uid, gid = _owner(engine, container_id, data.path)
        engine.client.api.put_archive(container_id, data.path, _archive(stamp.to_json(), uid, gid))


def stamp_in(engine: Engine, container_id: str, data: DataRecipe) -> Stamp | None:
    """The stamp of the data that a container has; None where there is none."""
    return Stamp.from_json(_content(engine, container_id, f"{data.path}/{FILE}"))


def last_checkout(stamps: Iterable[Stamp], checkout: str) -> str:
    """The folder which used the data last, if it is another one; else empty.

    Args:
        checkout: the folder of the compose file.
    """
    last = max(stamps, key=lambda stamp: stamp.written, default=None)
    return last.checkout if last and last.checkout != checkout else ""


def _same(one: Stamp, other: Stamp) -> bool:
    return all(
        getattr(one, name) == getattr(other, name) for name in ("service", "version", "image", "image_id", "checkout")
    )


def _content(engine: Engine, container_id: str, path: str) -> bytes:
    """A file of a container; empty where there is none."""
    try:
        archive = engine.fetch(f"/containers/{container_id}/archive", path=path)
    except Absent:
        return b""
    return b"".join(unpacked(archive).values())


def _owner(engine: Engine, container_id: str, folder: str) -> tuple[int, int]:
    """User and group number of a folder in a container.

    They are in the first block of its archive. The SDK's own method can only read all of it, which may be much.
    """
    api = engine.client.api
    url = f"{api.base_url}/v{api.api_version}/containers/{container_id}/archive"
    plain = {"Accept-Encoding": "identity"}
    with api.get(url, params={"path": folder}, headers=plain, stream=True, timeout=api.timeout) as response:
        response.raise_for_status()
        block = response.raw.read(tarfile.BLOCKSIZE)
    entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    return entry.uid, entry.gid


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The regular files of a tar archive by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}  # type: ignore[union-attr]


def _archive(content: bytes, uid: int, gid: int) -> bytes:
    entry = tarfile.TarInfo(FILE)
    entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = len(content), 0o600, uid, gid, int(time.time())
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()
