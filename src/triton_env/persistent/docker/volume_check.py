"""Volumes of the persistent mode: is their data what a start with these settings would find and be able to read?

No server touches the data for the answer.
"""

from collections.abc import Callable, Iterator, Sequence

from triton_env.core.model import CutOff, DataInspection, DataRecipe, ServiceRecipe
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
from triton_env.persistent.fitting import Mismatch, is_readable, refusal, unreadable
from triton_env.persistent.stamps import Stamp
from triton_env.runtimes.docker.engine import Engine


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
        found: dict[str, list[Mismatch]] = {}
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
        raise refusal({volume_name(project, kept[name]): mismatches for name, mismatches in found.items()}, "volume")
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
) -> Iterator[Mismatch]:
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
            yield unreadable(recipe, data, version, server, stamp)


def _elsewhere(project: str, recipe: ServiceRecipe, data: DataRecipe, found: DataInspection) -> Mismatch:
    volume, path, image = volume_name(project, recipe), found.elsewhere, recipe.container.image
    return Mismatch(
        f"{recipe.title} {found.version} data is at {path} in the volume, not in its root, where it is looked for.",
        "an image with another data path made it, or the volume was mounted in another place",
        f"move it: docker run --rm --entrypoint sh -v {volume}:/v -w /v {image} -c "
        f"'mv {path}/* . && rmdir -p {path}' (first make sure that nothing else uses the volume)",
    )
