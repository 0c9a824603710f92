"""Volumes of the persistent mode: is their data what a start with these settings would find and be able to read?

No server touches the data for the answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from triton_env.core.model import CutOff, DataInspection, DataRecipe, ServiceRecipe
from triton_env.errors import VolumeMismatch
from triton_env.persistent.docker.volume_files import (
    VolumeContent,
    exists,
    image_id,
    image_version,
    mounted_volumes,
    remove_leftovers,
    volume_name,
)
from triton_env.persistent.docker.volume_stamps import FILE, stamp_in
from triton_env.persistent.fitting import NOT_READABLE, SHOWN, START_OVER, is_readable, numbers
from triton_env.persistent.stamps import Stamp
from triton_env.runtimes.docker.engine import Engine


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """One thing that does not fit, in words."""

    what: str
    cause: str
    hint: str


def check_volumes(
    engine: Engine,
    project: str,
    recipes: Sequence[ServiceRecipe],
    on_cut_off: Callable[[ServiceRecipe, CutOff], None] = lambda recipe, left: None,
) -> dict[str, Stamp]:
    """See that the volumes which are there already fit the settings. Nothing is started on them, or written to them.

    Args:
        on_cut_off: called at the end for each volume without a stamp whose first start was cut off.

    Returns:
        The stamps that were found, by service name.

    Raises:
        VolumeMismatch: naming everything that does not fit, and the way out.
    """
    with engine.translated("look into the volumes", f"project {project}"):
        remove_leftovers(engine, project)
        kept = {
            recipe.name: recipe for recipe in recipes if recipe.data and exists(engine, volume_name(project, recipe))
        }
        if not kept:
            return {}
        stamps = {name: stamp for name, recipe in kept.items() if (stamp := _confirming(engine, project, recipe))}
        kept = {name: recipe for name, recipe in kept.items() if name not in stamps}
        if not kept:
            return stamps
        found: dict[str, list[_Mismatch]] = {}
        cut_off: dict[str, CutOff] = {}
        with mounted_volumes(engine, project, list(kept.values())) as container_id:
            for name, recipe in kept.items():
                assert recipe.data is not None
                files = VolumeContent(engine, container_id, recipe.data.volume)
                kept_stamp = files.files(FILE).get(FILE, b"")
                stamp = Stamp.from_json(kept_stamp)
                if stamp:
                    stamps[name] = stamp
                # Also one that can no longer be read shows that a start came to its end.
                if not kept_stamp and recipe.data.cut_off and (left := recipe.data.cut_off(files)):
                    cut_off[name] = left
                    if not left.files:
                        continue
                if mismatches := list(_mismatches(engine, project, recipe, recipe.data, files, stamp)):
                    found[name] = mismatches
        for name, left in cut_off.items():
            on_cut_off(kept[name], left)
    if found:
        raise _refusal(project, {volume_name(project, kept[name]): mismatches for name, mismatches in found.items()})
    return stamps


def _confirming(engine: Engine, project: str, recipe: ServiceRecipe) -> Stamp | None:
    """The stamp of data on which a server runs, where it says that all fits; else None.

    So no container has to be made for services that run with these settings already.
    """
    assert recipe.data is not None
    volume = volume_name(project, recipe)
    for container in engine.ask("/containers/json", filters={"volume": [volume], "status": ["running"]}):
        mounted = {(mount.get("Name"), mount.get("Destination")) for mount in container["Mounts"]}
        if (volume, recipe.data.path) not in mounted:
            continue
        stamp = stamp_in(engine, container["Id"], recipe.data)
        if stamp and stamp.image_id == image_id(engine, recipe.container.image):
            return stamp
    return None


def _mismatches(
    engine: Engine, project: str, recipe: ServiceRecipe, data: DataRecipe, files: VolumeContent, stamp: Stamp | None
) -> Iterator[_Mismatch]:
    if stamp and stamp.image_id == image_id(engine, recipe.container.image):
        return
    # What the data itself says comes first.
    witness = data.inspect(files) if data.inspect else None
    if data.inspect and witness is None:
        return
    if witness and witness.elsewhere:
        yield _elsewhere(project, recipe, data, witness)
    version = (witness.version if witness else "") or (stamp.version if stamp else "")
    if version:
        server = image_version(engine, project, recipe)
        if not is_readable(data.compatibility, version, server):
            yield _unreadable(recipe, data, version, server, stamp)


def _unreadable(recipe: ServiceRecipe, data: DataRecipe, version: str, server: str, stamp: Stamp | None) -> _Mismatch:
    variable, image = recipe.container.image_variable, recipe.container.image
    shown = SHOWN[data.compatibility]
    was = ".".join(map(str, numbers(version)[:shown]))
    back = stamp.image if stamp and stamp.image != image else f"an image of {recipe.title} {was}"
    return _Mismatch(
        f"{recipe.title}'s data is of version {was}; the image {image} is "
        f"{'.'.join(map(str, numbers(server)[:shown]))}.",
        NOT_READABLE[data.compatibility].format(title=recipe.title),
        f"set {variable} back to {back}. To move on with the data: with that image python -m triton_env backup FILE, "
        f"then python -m triton_env reset, then set {variable}={image} and python -m triton_env restore FILE",
    )


def _elsewhere(project: str, recipe: ServiceRecipe, data: DataRecipe, found: DataInspection) -> _Mismatch:
    volume, path, image = volume_name(project, recipe), found.elsewhere, recipe.container.image
    return _Mismatch(
        f"{recipe.title} {found.version} data is at {path} in the volume, not in its root, where it is looked for.",
        "an image with another data path made it, or the volume was mounted in another place",
        f"move it: docker run --rm --entrypoint sh -v {volume}:/v -w /v {image} -c "
        f"'mv {path}/* . && rmdir -p {path}' (first make sure that nothing else uses the volume)",
    )


def _refusal(project: str, found: Mapping[str, Sequence[_Mismatch]]) -> VolumeMismatch:
    mismatches = [mismatch for of_volume in found.values() for mismatch in of_volume]
    words = [mismatch.what for mismatch in mismatches]
    hints = dict.fromkeys(mismatch.hint for mismatch in mismatches)
    return VolumeMismatch(
        words[0] if len(words) == 1 else f"{len(words)} things do not fit the data:\n  " + "\n  ".join(words),
        where=f"volume {', '.join(found)}" if len(found) == 1 else f"volumes {', '.join(found)}",
        cause="\n".join(dict.fromkeys(mismatch.cause for mismatch in mismatches)),
        hint="; ".join([*hints, START_OVER]),
    )
