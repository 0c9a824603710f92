"""Volumes whose first start was cut off: completed where that is possible, else removed, so that they are recreated.

Which volumes these are, their service says (`DataRecipe.cut_off`). Here it is made sure that no server works on them.
"""

import io
import posixpath
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

from triton_env.core.model import CutOff, ServiceRecipe
from triton_env.persistent.docker.compose import OUR_LABEL
from triton_env.persistent.docker.volume_files import VolumeContent, mounted_volumes, volume_name
from triton_env.persistent.docker.volume_stamps import FILE
from triton_env.runtimes.docker.engine import Engine

_Described = Mapping[str, Any]


class Healing:
    """Heals volumes of one project. The caller must hold the turn of the project.

    Args:
        say: receives a line about what is done.
    """

    def __init__(self, engine: Engine, project: str, say: Callable[[str], None]) -> None:
        self._engine = engine
        self._project = project
        self._say = say

    def heal(self, recipe: ServiceRecipe, left: CutOff) -> None:
        """Heal one volume, unless a container works on it, or one that is not of this project has it.

        Raises:
            EngineFailed, EngineUnreachable: the engine did not do it.
        """
        data = recipe.data
        if data is None or data.cut_off is None:
            return
        volume = volume_name(self._project, recipe)
        with self._engine.translated("heal a volume whose first start was cut off", f"volume {volume}"):
            api = self._engine.client.api
            holders = [
                api.inspect_container(listed["Id"]) for listed in api.containers(all=True, filters={"volume": volume})
            ]
            if not all(self._may_go(holder, left) for holder in holders):
                return
            for holder in holders:
                # Stopped first: one that the engine starts again and again may be at work just now.
                api.stop(holder["Id"])
                api.remove_container(holder["Id"], v=True, force=True)
            # The container may have come to its end a moment ago.
            with mounted_volumes(self._engine, self._project, [recipe]) as container_id:
                files = VolumeContent(self._engine, container_id, data.volume)
                now = None if files.files(FILE) else data.cut_off(files)
            if now is None:
                return
            if now.files:
                self._put(recipe, now.files)
                self._say(f"the first start of {recipe.title} was cut off; the volume {volume} is completed")
            else:
                api.remove_volume(volume)
                self._say(f"the first start of {recipe.title} was cut off; the volume {volume} is recreated")

    def _may_go(self, container: _Described, left: CutOff) -> bool:
        """Whether a container is of this project, and not one that is making the data at present."""
        is_ours = (container["Config"].get("Labels") or {}).get(OUR_LABEL) == self._project
        # One that was started again by the engine found what an earlier start had left.
        is_at_work = container["State"]["Status"] in ("running", "paused") and not container.get("RestartCount")
        return is_ours and (left.is_final or not is_at_work)

    def _put(self, recipe: ServiceRecipe, files: Mapping[str, bytes]) -> None:
        """Replace the content of files, through a container that never runs."""
        with mounted_volumes(self._engine, self._project, [recipe], read_only=False) as container_id:
            assert recipe.data is not None
            from docker.errors import NotFound

            api = self._engine.client.api
            for path, content in files.items():
                place = VolumeContent(self._engine, container_id, recipe.data.volume).path(path)
                try:
                    stream, _ = api.get_archive(container_id, place)
                except NotFound:
                    continue
                api.put_archive(container_id, posixpath.dirname(place), _with_content(b"".join(stream), content))


def _with_content(archive: bytes, content: bytes) -> bytes:
    """An archive of one file, with its owner and mode, and another content."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as old:
        (entry,) = old.getmembers()
    entry.size = len(content)
    entry.pax_headers = {}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as new:
        new.addfile(entry, io.BytesIO(content))
    return target.getvalue()
