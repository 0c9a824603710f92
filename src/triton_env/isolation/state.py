"""What isolation has in this user's state: the spaces of an environment, and what dead processes left.

Nothing here connects to a server. What was left on servers that hold data is removed by the next process that makes
namespaces there.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triton_env.isolation.ledger import LOCK_NAME, FrozenSpace, Kind, read_lease, remove_unused, spaces_folder
from triton_env.services.base_isolation import NAMESPACE
from triton_env.settings import Settings
from triton_env.state import locks, store


@dataclass(frozen=True, slots=True)
class LeftOver:
    """Something that is no longer used.

    Attributes:
        environment: the environment's id.
        path: the folder of a dead session, or the file of a space.
        space: the id of the space; empty for the folder.
        is_kept: whether the space was to stay.
        services: that have something of the space.
    """

    environment: str
    path: Path
    space: str
    is_kept: bool
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedSpace:
    """A part of an environment besides its own.

    Attributes:
        kind: what it is. Namespaces that the pool has ready are among the namespaces.
        name: its id, the name of the snapshot, or the digest of the template.
        services: that have something of it.
        pid: of the process that made it; 0 where that is not known.
        is_kept: whether it outlives its process.
        changed: when it was made or handed out, a template when it was last used; in seconds since the epoch.
        space: that it is in, by its id.
        made_by: the test that it was handed out to; empty where that is not known.
        is_ready: whether it is a namespace that nothing uses yet.
    """

    kind: Literal["namespace", "template", "snapshot"]
    name: str
    services: tuple[str, ...]
    pid: int
    is_kept: bool
    changed: float
    space: str
    made_by: str = ""
    is_ready: bool = False


def listed(settings: Settings, environment: str) -> tuple[ListedSpace, ...]:
    """What an environment has besides its own: namespaces that are used or kept, templates and snapshots."""
    folder = folder_of(settings, environment)
    return (*_namespaces(folder), *_frozen(folder, "template"), *_frozen(folder, "snapshot"))


def _namespaces(folder: Path) -> Iterator[ListedSpace]:
    kept = {path.stem: path for path in folder.glob("*.kept")}
    used = {path.stem: path for path in folder.glob("*.lease") if path.stem not in kept and locks.is_held(path)}
    for name, path in sorted((kept | used).items()):
        if not name.startswith(NAMESPACE):  # a template or snapshot that is being made
            continue
        with suppress(FileNotFoundError):  # it went just now
            lease, changed = read_lease(path), path.stat().st_mtime
            yield ListedSpace(
                "namespace", name, lease.services, lease.pid, name in kept, changed, name, lease.made_by, lease.is_ready
            )


def _frozen(folder: Path, kind: Literal["template", "snapshot"]) -> Iterator[ListedSpace]:
    for path in sorted((folder / f"{kind}s").glob("*.json")):
        with suppress(FileNotFoundError):
            if frozen := store.found(path, FrozenSpace):
                changed = path.stat().st_mtime
                yield ListedSpace(kind, path.stem, frozen.services, 0, True, changed, frozen.space.id)


def left_over(settings: Settings) -> list[LeftOver]:
    """The folders of dead sessions, the spaces of dead processes in environments that go on, and what is kept.

    A space of a dead process disappears by itself once a process makes namespaces in that environment.
    """
    found: list[LeftOver] = []
    for folder in _folders(settings):
        if _is_dead_session(folder):
            found.append(LeftOver(folder.name, folder, "", is_kept=False))
        found += [
            LeftOver(folder.name, path, path.stem, is_kept=True, services=read_lease(path).services)
            for path in sorted(folder.glob("*.kept"))
        ]
        for path in sorted(folder.glob("*.lease")):
            if not path.with_suffix(".kept").exists() and (held := locks.abandoned(path)):
                found.append(LeftOver(folder.name, path, path.stem, is_kept=False, services=read_lease(path).services))
                held.release()
    return found


def remove(left: LeftOver, *, kept: bool = False) -> bool:
    """Remove it.

    Args:
        kept: also what was to stay. It is then like a dead process's: in an environment that goes on, the
            next process that makes namespaces there removes it from the servers.

    Returns:
        Whether it is gone, or will be.
    """
    if left.is_kept:
        return kept and forget_kept(left.path)
    if left.space:
        return False
    return (kept or not has_kept(left.path)) and remove_unused(left.path)


def has_kept(folder: Path) -> bool:
    """Whether namespaces of an environment are to outlive the processes that use them.

    Args:
        folder: of `folder_of`.
    """
    return any(folder.glob("*.kept"))


def folder_of(settings: Settings, environment: str) -> Path:
    """The folder of an environment, which may not exist."""
    return spaces_folder(settings) / environment


def forget_kept(path: Path) -> bool:
    """A kept namespace is no longer to stay; whether it was there."""
    try:
        # A lease that is not held.
        path.rename(path.with_suffix(".lease"))
    except FileNotFoundError:
        return False
    return True


def remove_session(settings: Settings, environment: str) -> None:
    """Remove the folder of a session whose servers end, kept namespaces included, unless a process uses it."""
    with suppress(OSError):
        remove_unused(folder_of(settings, environment))


def remove_dead_sessions(settings: Settings) -> None:
    """Remove the folders of sessions that no process uses. Those with kept namespaces stay."""
    for folder in _folders(settings):
        if _is_dead_session(folder) and not has_kept(folder):
            with suppress(OSError):  # another process was quicker
                remove_unused(folder)


def _folders(settings: Settings) -> list[Path]:
    base = spaces_folder(settings)
    return sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []


def _is_dead_session(folder: Path) -> bool:
    lock = folder / LOCK_NAME
    if (kind := store.found(lock, Kind)) is None or kind.lasting:
        return False
    held = locks.abandoned(lock)
    if held is None:
        return False
    held.release()
    return True
