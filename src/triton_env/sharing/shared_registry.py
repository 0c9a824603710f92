"""The files by which processes find a shared environment.

    <state>/shared/turn                 held while a process joins, or while a keeper decides to end
    <state>/shared/<key>-<id>/order     what was started, with its credentials
                             /events    what the keeper reports, one JSON object a line
                             /alive     held by the keeper as long as it lives; its process id
                             /open      there as long as newcomers may join
                             /log       what the keeper writes on standard error
                             /spare     room that the keeper gives up to report a failure on a full disk
                             /*.lease   held by each process that uses the environment

Locks are the kernel's (flock), so the lock is released when its holder exits, even by SIGKILL.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triton_env.core.private import make_folder, write_new
from triton_env.errors import StartFailed
from triton_env.settings import Settings
from triton_env.sharing.key import settings_from_data
from triton_env.state import locks, store
from triton_env.state.folders import make_private, private_folder
from triton_env.state.leases import new_lease
from triton_env.state.locks import Held
from triton_env.state.registry import Registry

_TURN_TIMEOUT = 60
"""Seconds to wait for others that join or end: each of them needs some 50 ms."""
_TURN_INTERVAL = 0.005
_LEASES = "*.lease"
_SPARE_BYTES = 1 << 15


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a keeper is to start.

    Attributes:
        id: the environment's id.
        group: unused environments of the same group make room for each other.
        services: their names.
        runtime: that was asked for.
        linger: seconds to go on while it is unused.
        project: the root of the project in which the process works that started it, or its folder.
        settings: all of them, with the credentials of this environment; see `settings_as_data`.
        credentials: the names of those among the settings that are fresh.
        path: where the starter's interpreter finds modules.
        after: the folders of environments that are ending and have ports that this one needs.
    """

    id: str
    group: str
    services: tuple[str, ...]
    runtime: str
    linger: float
    project: str
    settings: Mapping[str, Any] = field(repr=False)
    credentials: tuple[str, ...]
    path: tuple[str, ...]
    after: tuple[str, ...] = ()

    def theirs(self) -> Settings:
        """The settings of this environment."""
        return settings_from_data(self.settings, self.services)

    def of(self, settings: Settings) -> Settings:
        """The settings of a process that joins, with the credentials of this environment."""
        theirs = self.theirs()
        return settings.updated(**{name: getattr(theirs, name) for name in self.credentials})


@dataclass(frozen=True, slots=True)
class SharedInstance:
    """The files of one shared environment.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @property
    def key(self) -> str:
        """The environment's key."""
        return self.folder.name.partition("-")[0]

    @property
    def id(self) -> str:
        """The environment's id."""
        return self.folder.name.partition("-")[2]

    @property
    def alive(self) -> Path:
        """Held by the keeper."""
        return self.folder / "alive"

    @property
    def events(self) -> Path:
        """What the keeper reports of the start."""
        return self.folder / "events"

    @property
    def log(self) -> Path:
        """What the keeper writes on standard error."""
        return self.folder / "log"

    @property
    def spare(self) -> Path:
        """Removed for the sake of what has to be written last."""
        return self.folder / "spare"

    def write(self, spec: LaunchSpec) -> None:
        """Make the files. The caller must hold the turn."""
        make_folder(self.folder)
        store.write(self._spec, spec)
        for path in (self.events, self.log, self._open):
            write_new(path, "")
        # No zeros, for which some file systems keep no room.
        write_new(self.spare, os.urandom(_SPARE_BYTES // 2).hex())

    def spec(self) -> LaunchSpec:
        """What was ordered.

        Raises:
            OSError, ValueError: it is gone, or another version wrote it.
        """
        return store.read(self._spec, LaunchSpec)

    def lease(self) -> Held:
        """A new lease. The caller must hold the turn, unless there is no keeper."""
        return new_lease(self.folder)

    def is_alive(self) -> bool:
        """Whether its keeper lives."""
        return locks.is_held(self.alive)

    def is_open(self) -> bool:
        """Whether newcomers may join."""
        return self._open.exists()

    def close(self) -> None:
        """Have no newcomer join; its keeper ends it once it is unused. The caller must hold the turn."""
        self._open.unlink(missing_ok=True)

    def is_used(self, besides: Held | None = None) -> bool:
        """Whether a process holds a lease. Certain only while the caller holds the turn."""
        return locks.any_held(self.folder, _LEASES, besides=besides)

    def forget_the_dead(self) -> None:
        """Remove the leases of processes that ended without giving them back. The caller must hold the turn."""
        locks.remove_abandoned(self.folder, _LEASES)

    def remove(self) -> None:
        """Remove the files. A process that follows the events has them open, and reads them to their end."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _spec(self) -> Path:
        return self.folder / "order"

    @property
    def _open(self) -> Path:
        return self.folder / "open"


class SharedRegistry:
    """All shared environments of this user.

    Raises:
        InvalidSetting: the folder cannot be made, or others can write to it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = private_folder(settings, "shared")
        make_private(self.folder)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep others from joining and ending, for some milliseconds.

        Raises:
            StartFailed: another process does not finish.
        """
        path = self.folder / "turn"
        try:
            turn = locks.hold(path, timeout=_TURN_TIMEOUT, interval=_TURN_INTERVAL)
        except BlockingIOError:
            raise StartFailed(
                f"Another process has held the lock of the shared environments for {_TURN_TIMEOUT} s.",
                where=str(path),
                hint=f"lsof {path} shows which one",
            ) from None
        try:
            yield
        finally:
            turn.release()

    def instance(self, key: str, identity: str) -> SharedInstance:
        """The files of an environment, whether they are there or not."""
        return SharedInstance(self.folder / f"{key}-{identity}")

    def instances(self) -> tuple[SharedInstance, ...]:
        """All that have files, also those whose keepers are dead."""
        return tuple(SharedInstance(path) for path in sorted(self.folder.iterdir()) if "-" in path.name)

    def dead(self) -> tuple[SharedInstance, ...]:
        """Those whose keepers are dead. What their servers left is removed by others: a guard, a reaper."""
        return tuple(instance for instance in self.instances() if not instance.is_alive())

    def sweep(self) -> tuple[SharedInstance, ...]:
        """Remove the files of those whose keepers are dead; returns them."""
        with self.turn():
            dead = self.dead()
            for instance in dead:
                self.remove_dead(instance)
        return dead

    def remove_dead(self, instance: SharedInstance) -> None:
        """Remove the files of one whose keeper is dead. The caller must hold the turn."""
        from triton_env.isolation import state

        instance.remove()
        state.remove_session(self._settings, instance.id)
        # Which removes the records of dead owners.
        Registry.of(self._settings).running()


def is_kept(settings: Settings, environment: str) -> bool:
    """Whether namespaces of this environment were kept for people to look at, after a test that failed."""
    from triton_env.isolation import state

    return state.has_kept(state.folder_of(settings, environment))
