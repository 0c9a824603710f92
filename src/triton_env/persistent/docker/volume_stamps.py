"""Stamps: a small file in each data volume, which says what the data was made with."""

import io
import tarfile
import time
from datetime import UTC, datetime

from triton_env.core.model import STAMP_FILE, DataRecipe, ServiceRecipe
from triton_env.persistent.stamps import Stamp
from triton_env.persistent.tar import unpacked
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_socket import Absent

FILE = STAMP_FILE


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
        if old and old.is_like(new) and old.facts == data.init_values:
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


def _archive(content: bytes, uid: int, gid: int) -> bytes:
    entry = tarfile.TarInfo(FILE)
    entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = len(content), 0o600, uid, gid, int(time.time())
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()
