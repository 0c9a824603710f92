"""Filling a namespace from a template's folder: what is in the folder of a service's name is for that service."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from triton_env.core.files import files_in, shown
from triton_env.errors import NotOffered, UsageError
from triton_env.isolation.namespace import Namespace
from triton_env.services import SERVICES
from triton_env.services.base_seeding import Seeding


def load(folder: Path, namespace: Namespace) -> None:
    """Fill a namespace from a template's folder. What is for services that the namespace does not have is left out.

    Raises:
        UsageError: there is nothing in the folder that could be loaded, or something that would be left out.
        NotOffered: there is a folder of a service that takes no files.
        TemplateFailed: a server refused something; the message names the file and the place in it.
    """
    seedings = _seedings(namespace.services)
    if unable := [name for name in namespace.services if name not in seedings and (folder / name).is_dir()]:
        raise NotOffered(
            f"{' and '.join(SERVICES[name].title for name in unable)} cannot be filled from a template's folder.",
            where=shown(folder / unable[0]),
            hint="fill it in a function: Template(function), or leave that folder out",
        )
    for name, part in _parts(folder, seedings).items():
        if name in namespace.services:
            seedings[name].load(part, namespace.service(name))


def folders() -> str:
    """What a template's folder may hold, in words."""
    words = [f"{name}/*{each.suffix}" if each.suffix else f"{name}/" for name, each in _seedings(()).items()]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _seedings(names: Iterable[str]) -> dict[str, Seeding[Any]]:
    """Those of the services of these names, and of all that come with triton-env."""
    kinds = {name: SERVICES[name].parts.load("seeding") for name in dict.fromkeys((*SERVICES, *names))}
    return {name: kind() for name, kind in kinds.items() if kind}


def _parts(folder: Path, seedings: Mapping[str, Seeding[Any]]) -> dict[str, Path]:
    parts = {name: folder / name for name in seedings if (folder / name).is_dir()}
    if not parts and (name := next((name for name, each in seedings.items() if each.takes(folder)), "")):
        return {name: folder}
    for path in sorted(folder.iterdir()) if parts else ():
        if takers := [name for name, each in seedings.items() if each.suffix and path.suffix.lower() == each.suffix]:
            raise UsageError(
                f"A {path.suffix[1:].upper()} file beside {', '.join(f'{name}/' for name in parts)} belongs to no "
                "service.",
                where=shown(path),
                hint=f"move it into {' or '.join(f'{name}/' for name in takers)}",
            )
    if not any(next(files_in(part), None) for part in parts.values()):
        kinds: dict[str, list[str]] = {}
        for name, seeding in seedings.items():
            kinds.setdefault(seeding.files, []).append(f"{name}/")
        raise UsageError(
            "The template's folder holds nothing that can be loaded.",
            where=shown(folder),
            hint="put " + ", and ".join(f"{files} into {' and '.join(names)}" for files, names in kinds.items()),
        )
    return parts
