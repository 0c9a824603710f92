"""The starts of environments that are under way in processes of this user, for other processes: how far each has come.

A file that only its user can read stands for a start, and beside it a lock that its process holds as long as it lives.
Readers remove the files of dead processes.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Literal

from triton_env.core.timeline import Phase
from triton_env.errors import UsageError
from triton_env.settings import Settings
from triton_env.state import locks, store
from triton_env.state.folders import make_private, private_folder

FOLDER = "starting"


@dataclass(frozen=True, slots=True)
class Stage:
    """How far the start of a service has come.

    Attributes:
        phase: in which it is.
        words: what it does, for people.
    """

    phase: Phase
    words: str


@dataclass(frozen=True, slots=True)
class Starting:
    """A start that is under way.

    Attributes:
        key: distinguishes it from all others.
        id: the environment's id; of persistent services their project.
        mode: see `EnvironmentEntry`.
        runtime: where it runs; `auto` while that is not known.
        pid: the process that starts it.
        held_by: what that process is; see `Record`.
        project: the root of the project in which it was started; outside of projects the folder.
        began: in seconds since the epoch.
        stages: by service.
    """

    key: str
    id: str
    mode: Literal["session", "shared", "persistent", "external"]
    runtime: str
    pid: int
    held_by: str
    project: str
    began: float
    stages: Mapping[str, Stage]

    FORMAT: ClassVar[int] = 1
    """Readers pass over files of another one."""

    @property
    def lock(self) -> str:
        """The name of the file whose lock its process holds."""
        return f"{self.key}.lock"

    @property
    def title(self) -> str:
        """One line that distinguishes it from others."""
        seconds = max(0, int(time.time() - self.began))
        facts = (
            f"{self.held_by}, {self.runtime}: {', '.join(self.stages)}; process {self.pid}, starting for {seconds} s"
        )
        return f"{self.id} in {self.project}  ({facts})"


class Starts:
    """The starts in one folder.

    Args:
        folder: readable by its user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, settings: Settings) -> "Starts":
        """Those that these settings name (TRITON_STATE_DIR), by default in the user's runtime folder."""
        return cls(private_folder(settings, FOLDER))

    def begin(self) -> "Listing":
        """List a start from now on. To be called by its process.

        Raises:
            InvalidSetting, OSError: the list cannot be kept.
        """
        make_private(self._folder)
        key = token_hex(8)
        return Listing(self._folder, key, locks.hold(self._folder / f"{key}.lock"))

    def under_way(self) -> tuple[Starting, ...]:
        """The starts whose processes live, the oldest first. What dead ones left is removed."""
        found: list[Starting] = []
        for lock in sorted(self._folder.glob("*.lock")):
            if not locks.is_held(lock):
                _remove(lock)
            elif start := store.found(_file(lock), Starting):
                found.append(start)
        return tuple(sorted(found, key=lambda start: start.began))


class Listing:
    """A start on the list, as its process has it.

    Attributes:
        key: see `Starting`.

    Args:
        held: the lock that says that the process lives.
    """

    def __init__(self, folder: Path, key: str, held: locks.Held) -> None:
        self.key = key
        self._path = folder / f"{key}.json"
        self._held = held

    def replace(self, start: Starting) -> None:
        """List it so.

        Raises:
            OSError: it cannot be written.
        """
        store.write(self._path, start)

    def end(self) -> None:
        """Take it off the list. Does nothing a second time, or in a forked child."""
        if self._held.is_locked:
            self._path.unlink(missing_ok=True)
            self._held.release(remove=True)


def matching(starts: tuple[Starting, ...], name: str) -> list[Starting]:
    """Those that a person may mean: by an id, by the beginning of one, or by the name of the folder of a project."""
    return [start for start in starts if start.id == name] or [
        start for start in starts if start.id.startswith(name) or Path(start.project).name == name
    ]


def named(starts: tuple[Starting, ...], name: str) -> Starting | None:
    """The start that a person means; None where there is none.

    Raises:
        UsageError: several are meant; the message lists them.
    """
    found = matching(starts, name)
    if len(found) > 1:
        listed = "\n".join(f"  {start.title}" for start in found)
        raise UsageError(
            f"{len(found)} starts are named {name!r}:\n{listed}", hint="name one of them by its id, or end its process"
        )
    return found[0] if found else None


def _file(lock: Path) -> Path:
    return lock.with_suffix(".json")


def _remove(lock: Path) -> None:
    for path in (_file(lock), lock):
        with suppress(OSError):
            path.unlink()
