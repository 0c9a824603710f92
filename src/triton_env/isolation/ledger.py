"""What processes know together about the spaces of one environment: who holds which, and what is kept.

All of it is files in a folder that is its user's alone:

- `lock`: held, together with others, by every process that uses the folder; says what kind of environment it is.
- `turn`: held for moments, while slots are given out.
- `gate`: held together while a space is made, and alone while everything that is not a space is removed.
- `ID.lease`: a space that a process uses, locked as long as it does; what is in it is a `Lease`.
- `ID.kept`: a space that is to outlive its process.
- `slots/SERVICE/ID`: the numbered places that a space has in a service; see `triton_env.isolation.slots`.
- `templates/DIGEST.json`, `snapshots/NAME.json`: spaces that are finished, and belong to no process.
- `templates/KEY.variants`: what the builds of some of these have read.
- `machine`: a random id of the folder, by which servers that other machines use know it, and where the folder is.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

from triton_env.core.boot import boot_id
from triton_env.core.private import replace
from triton_env.errors import InvalidSetting, IsolationFailed
from triton_env.isolation.slots import SlotFolder, free_slots, slots_of
from triton_env.services.base_isolation import Space, owner_of
from triton_env.settings import Settings
from triton_env.state import locks, store
from triton_env.state.folders import make_private, private_folder
from triton_env.state.locks import Held

LOCK_NAME = "lock"
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Lease:
    """What a space's file says about it.

    Attributes:
        services: that have something of it.
        pid: the process that made it; known by this number to people, never to decide whether it lives.
        format: of the folder. Each so far has leases of this kind.
        made_by: the test that it was handed out to, for people; empty where that is not known.
        is_ready: whether it was made in advance, and is not handed out yet.
    """

    services: tuple[str, ...] = ()
    pid: int = 0
    format: int = _FORMAT
    made_by: str = ""
    is_ready: bool = False


@dataclass(frozen=True, slots=True)
class FrozenSpace:
    """A template or a snapshot, which is complete.

    Attributes:
        space: that it is in.
        services: that have something of it.
        records: by service, what it holds: see `Isolation.record`. A service without one is not verified.
    """

    space: Space
    services: tuple[str, ...]
    records: Mapping[str, str] = field(default_factory=dict)

    FORMAT: ClassVar[int] = _FORMAT


@dataclass(frozen=True, slots=True)
class Kind:
    """What the lock of a folder says.

    Attributes:
        lasting: whether the servers outlive every process that uses them.
        format: of the folder. Each so far has locks of this kind.
    """

    lasting: bool
    format: int = _FORMAT


class SpaceLedger:
    """The folder of one environment, which is held until `close`.

    Args:
        lasting: whether its servers outlive every process that uses them: persistent and external ones.

    Raises:
        InvalidSetting: the folder cannot be made, or others can write to it.
    """

    def __init__(self, settings: Settings, environment: str, *, lasting: bool) -> None:
        self.path = spaces_folder(settings) / environment
        self.environment = environment
        self._machine = ""
        self._lock = _held_folder(self.path)
        # From here on it is not taken for that of a dead process.
        for folder in (self._templates, self._snapshots, self._slots):
            make_private(folder)
        self._lock.write(store.text_of(Kind(lasting)))

    @property
    def _slots(self) -> Path:
        return self.path / "slots"

    @property
    def _templates(self) -> Path:
        return self.path / "templates"

    @property
    def _snapshots(self) -> Path:
        return self.path / "snapshots"

    def take(self, identifier: str, services: Collection[str]) -> Held | None:
        """Begin to use a space of that id; None where a living process uses it already, or it is kept.

        Raises:
            IsolationFailed: another program has removed the folder.
        """
        if self.is_kept(identifier):
            return None
        text = store.text_of(Lease(tuple(services), os.getpid(), is_ready=True))
        path = self._lease_path(identifier)
        while (held := self._new_lease(path, text)) is None:
            if (dead := locks.abandoned(path)) is None:
                if path.exists():
                    return None
                continue  # it went just now
            # What is left of it on the servers is replaced by the process that makes the space.
            free_slots(self.path, identifier)
            dead.release(remove=True)
        return held

    def _new_lease(self, path: Path, text: str) -> Held | None:
        try:
            return locks.new(path, text)
        except FileNotFoundError as error:
            raise IsolationFailed(
                "The folder in which the environment's namespaces are listed was removed.",
                where=str(self.path),
                cause="another program removed it, such as one that cleans up temporary files",
                hint="start the environment again; TRITON_STATE_DIR names a folder that is left alone",
            ) from error

    def hand_out(self, held: Held, services: Collection[str], test: str) -> None:
        """Note that a space of the pool has been handed out, to this process.

        Args:
            test: that gets it; empty where that is not known.
        """
        held.write(store.text_of(Lease(tuple(services), os.getpid(), made_by=test)))

    def machine(self) -> str:
        """The id of this folder among all that have ever been made: "m" and ten hexadecimal digits.

        A folder is also copied, with its system to many machines or by a cache. So the id holds for one run of one
        kernel and one place in its file systems. Elsewhere the folder gets another one.
        """
        if not self._machine:
            path, at = self.path / "machine", self.path.stat()
            place = f"{boot_id()} {at.st_dev}:{at.st_ino}"
            with locks.locked(self.path / "turn"):
                known = path.read_text("utf-8") if path.exists() else ""
                if known.partition(" ")[2] != place:
                    known = f"m{token_hex(5)} {place}"
                    replace(path, known)
            self._machine = known.partition(" ")[0]
        return self._machine

    def free_slots(self, identifier: str) -> None:
        """Give back the slots of a space, as far as they are known here."""
        free_slots(self.path, identifier)

    def give_back(self, identifier: str, held: Held) -> None:
        """The space is gone from the servers, and no longer used."""
        free_slots(self.path, identifier)
        held.release(remove=True)

    def keep(self, identifier: str, services: Collection[str]) -> None:
        """Have a space outlive its process."""
        test = read_lease(self._lease_path(identifier)).made_by
        store.write(self._kept_path(identifier), Lease(tuple(services), os.getpid(), made_by=test))

    def is_kept(self, identifier: str) -> bool:
        """Whether it outlives its process."""
        return self._kept_path(identifier).exists()

    def staying(self) -> Mapping[str, Collection[str]]:
        """By service, the ids of the spaces that are kept, and those of snapshots."""
        leases = {path.stem: read_lease(path).services for path in self.path.glob("*.kept")}
        found: dict[str, list[str]] = {}
        for identifier, services in (
            *leases.items(),
            *((each.space.id, each.services) for each in self.snapshots().values()),
        ):
            for service in services:
                found.setdefault(service, []).append(identifier)
        return found

    def kept(self) -> frozenset[str]:
        """The ids of the spaces that are kept."""
        return frozenset(path.stem for path in self.path.glob("*.kept"))

    def abandoned(self, given_up: str = "") -> Iterator[tuple[str, Held, Lease]]:
        """The spaces of dead processes: each with its lock, which the caller gives back, and what is known of it.

        What is known of spaces of other machines comes with a copy of their folder, or from before this machine was
        started anew. Their processes may live elsewhere, so the claim to them decides, and they are forgotten here.

        Args:
            given_up: the id of a space that is among them whatever machine made it.
        """
        locks.remove_abandoned(self.path, "new-*")
        for path in self.path.glob("*.lease"):
            if (held := locks.abandoned(path)) is None:
                continue
            if self.is_kept(path.stem) or self._is_finished(path.stem):
                held.release(remove=True)
                continue
            if path.stem != given_up and (owner := owner_of(path.stem)) and owner != self.machine():
                self.give_back(path.stem, held)
                continue
            yield path.stem, held, read_lease(path)

    def slots(self, service: str) -> SlotFolder:
        """The numbered places that spaces have in a service."""
        return slots_of(self.path, service)

    def known(self) -> list[Space]:
        """Every space that is used or kept, and those of templates and snapshots."""
        return [Space(name) for name in sorted(known_ids(self.path))]

    def template(self, digest: str) -> FrozenSpace | None:
        """The template of that digest, if it is finished."""
        return store.found(self._templates / f"{digest}.json", FrozenSpace)

    def variants_path(self, key: str) -> Path:
        """The file about the templates that differ in nothing but what their builds have read."""
        return self._templates / f"{key}.variants"

    def use_template(self, digest: str) -> None:
        """Note that it is in use these days."""
        with suppress(FileNotFoundError):
            os.utime(self._templates / f"{digest}.json")

    def unused_templates(self, seconds: float) -> Mapping[str, FrozenSpace]:
        """The finished templates that were not used for so long."""
        before = time.time() - seconds
        found = {}
        for digest, finished in self.templates().items():
            with suppress(FileNotFoundError):
                if (self._templates / f"{digest}.json").stat().st_mtime < before:
                    found[digest] = finished
        return found

    def templates(self) -> Mapping[str, FrozenSpace]:
        """The finished templates by their digest."""
        return _all_finished(self._templates)

    def snapshot(self, name: str) -> FrozenSpace | None:
        """The snapshot of that name, if there is one."""
        return store.found(self._snapshots / f"{name}.json", FrozenSpace)

    def snapshots(self) -> Mapping[str, FrozenSpace]:
        """The snapshots by their name."""
        return _all_finished(self._snapshots)

    def publish_template(self, digest: str, finished: FrozenSpace) -> None:
        """From now on others find it."""
        store.write(self._templates / f"{digest}.json", finished)

    def publish_snapshot(self, name: str, finished: FrozenSpace) -> None:
        """From now on others find it; it replaces one of the same name."""
        store.write(self._snapshots / f"{name}.json", finished)

    def forget_template(self, digest: str) -> None:
        """Remove its record."""
        (self._templates / f"{digest}.json").unlink(missing_ok=True)

    def forget_snapshot(self, name: str) -> None:
        """Remove its record."""
        (self._snapshots / f"{name}.json").unlink(missing_ok=True)

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """One at a time, over all threads and processes, makes what goes by this name; others wait."""
        with locks.locked(self._templates / f"{what}.lock"):
            yield

    def unmade(self, what: str) -> Held | None:
        """The lock of what goes by this name, so that no process makes it; None where one does."""
        try:
            return locks.hold(self._templates / f"{what}.lock", timeout=0)
        except BlockingIOError:
            return None

    @contextmanager
    def adding(self) -> Iterator[None]:
        """In its block spaces may be made, and the servers are not cleared."""
        with locks.locked(self.path / "gate", together=True):
            yield

    @contextmanager
    def clearing(self) -> Iterator[None]:
        """In its block the servers may be cleared of what is unused: no space is made, since a new one looks unused."""
        with locks.locked(self.path / "gate"):
            yield

    def close(self, *, remove: bool = False) -> None:
        """Use it no longer; with `remove` delete it, where no other process uses it."""
        self._lock.release()
        if remove:
            with suppress(FileNotFoundError):  # another process was quicker
                remove_unused(self.path)

    def _is_finished(self, identifier: str) -> bool:
        return any(
            finished.space.id == identifier for finished in (*self.templates().values(), *self.snapshots().values())
        )

    def _lease_path(self, identifier: str) -> Path:
        return self.path / f"{identifier}.lease"

    def _kept_path(self, identifier: str) -> Path:
        return self.path / f"{identifier}.kept"


def spaces_folder(settings: Settings) -> Path:
    """The folder that holds those of all environments of this user."""
    return private_folder(settings, "spaces")


def _held_folder(path: Path) -> Held:
    """Make a folder where it is missing, and hold its lock together with others."""
    while True:
        try:
            make_private(path.parent)
            make_private(path)
            return locks.hold(path / LOCK_NAME, together=True)
        except FileNotFoundError:
            continue
        except InvalidSetting as error:
            # Another process is removing it at this moment, since until now it was not held.
            if not isinstance(error.__cause__, FileNotFoundError):
                raise


def remove_unused(path: Path) -> bool:
    """Remove an environment's folder that no process uses; whether it is gone."""
    held = locks.abandoned(path / LOCK_NAME)
    if held is None:
        return False
    # The lock goes last: a process that waits for it then sees that the folder is another one.
    for entry in path.iterdir():
        if entry.name != LOCK_NAME:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    held.release(remove=True)
    with suppress(OSError):  # another process is making it anew at this moment
        path.rmdir()
    return True


def known_ids(path: Path) -> frozenset[str]:
    """The ids of the spaces of which there is a record in an environment's folder, which may not exist."""
    names = {file.stem for pattern in ("*.lease", "*.kept") for file in path.glob(pattern)}
    finished = (_all_finished(path / folder).values() for folder in ("templates", "snapshots"))
    return frozenset(names | {each.space.id for group in finished for each in group})


def read_lease(path: Path) -> Lease:
    """What a space's file says; that no service has anything of it, where it cannot be read."""
    return store.found(path, Lease) or Lease()


def _all_finished(folder: Path) -> dict[str, FrozenSpace]:
    found = {path.stem: store.found(path, FrozenSpace) for path in sorted(folder.glob("*.json"))}
    return {name: finished for name, finished in found.items() if finished}
