"""The list of running environments of this user, for other processes: what runs, where, and its variables.

A record is a file that only its user can read, and beside it a lock that its owner holds as long as it lives: the
kernel releases it when the owner ends, even by SIGKILL. Readers remove the records of dead owners.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from triton_env.core.forms import form_of
from triton_env.core.model import Placement
from triton_env.core.timeline import Timeline
from triton_env.errors import UsageError
from triton_env.settings import Settings
from triton_env.settings.project_folders import places_here
from triton_env.state import locks, restarts, store
from triton_env.state.folders import make_private, private_folder


@dataclass(frozen=True, slots=True)
class Record:
    """A running environment.

    Attributes:
        id: the environment's id.
        runtime: where it runs.
        reason: why this runtime was chosen; completes the sentence "since ...".
        pid: the process that owns it.
        held_by: what that process is: `serve`, `run`, `reuse`, the keeper of a shared environment, `mcp`, the server of
            an agent, or `python`.
        is_offered: whether commands of the same project use it unasked. The others have to name it.
        project: the root of the project in which it was started; outside of projects the folder.
        started: when it was ready, in seconds since the epoch.
        services: their names.
        environ: the variables of `TritonEnvironment.environ()`, which hold secrets.
        settings: all of its settings, secrets included.
        asked_runtime: TRITON_RUNTIME where it was started.
        placements: where the services answer, by name.
        access: what lets other processes at the services' logs and programs, by name; none for external ones.
        timeline: how its start went.
    """

    id: str
    runtime: str
    reason: str
    pid: int
    held_by: str
    is_offered: bool
    project: str
    started: float
    services: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    asked_runtime: str
    placements: Mapping[str, Placement]
    access: Mapping[str, Any]
    timeline: Timeline

    FORMAT: ClassVar[int] = 6
    """Readers pass over records of another one."""

    @property
    def mode(self) -> Literal["session", "shared", "external"]:
        """Whether it is one process's own, shared, or leads to servers that others run."""
        if not form_of(self.runtime).is_started_by_us:
            return "external"
        return "shared" if self.held_by == "reuse" else "session"

    @property
    def lock(self) -> str:
        """The name of the file whose lock its owner holds."""
        return f"{self.id}.lock"

    @property
    def is_for_all(self) -> bool:
        """Whether its owner does nothing but hold it: others use it, known by a lease or not."""
        return self.held_by in ("serve", "mcp")

    @property
    def title(self) -> str:
        """One line that distinguishes it from others."""
        age = max(0, int(time.time() - self.started))
        facts = f"{self.held_by}, {self.runtime}: {', '.join(self.services)}; process {self.pid}, {_words_for(age)}"
        return f"{self.place}  ({facts})"

    @property
    def place(self) -> str:
        """Its id, and where it was started."""
        return f"{self.id} in {self.project}"


class Registry:
    """The records in one folder, which is made where it is missing.

    Args:
        folder: readable by its user alone.

    Raises:
        InvalidSetting: the folder cannot be made, or others can write to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private(folder)

    @classmethod
    def of(cls, settings: Settings) -> "Registry":
        """The registry that these settings name (TRITON_STATE_DIR), by default in the user's runtime folder."""
        return cls(private_folder(settings, "environments"))

    def add(self, record: Record) -> "Listing":
        """List `record` until that is ended, or this process does. To be called by its owner.

        Raises:
            OSError: it cannot be written.
        """
        # Before the record: a record whose lock is free has no owner.
        listing = Listing(self, record.id, locks.hold(self._lock_path(record.id)))
        try:
            listing.replace(record)
        except BaseException:
            listing.end()
            raise
        return listing

    @contextmanager
    def published(self, record: Record) -> Iterator[None]:
        """List `record` until the block ends or this process does."""
        listing = self.add(record)
        try:
            yield
        finally:
            listing.end()

    def running(self) -> tuple[Record, ...]:
        """The environments whose owners live, the oldest first. Records of dead owners are removed."""
        records: list[Record] = []
        for path in sorted(self._folder.glob("*.json")):
            if not locks.is_held(self._lock_path(path.stem)):
                self._remove(path.stem)
            elif record := store.found(path, Record):
                records.append(record)
        return tuple(sorted(records, key=lambda record: record.started))

    def dead(self) -> tuple[tuple[str, Record | None], ...]:
        """The ids and, where they can be read, the records of dead owners, which `running` removes."""
        return tuple((path.stem, store.found(path, Record)) for path in self._abandoned())

    def living(self) -> frozenset[str]:
        """The ids of the environments whose owners live. Nothing is removed."""
        return frozenset(path.stem for path in self._folder.glob("*.json")) - {path.stem for path in self._abandoned()}

    def door(self, environment: str) -> Path:
        """The path of the socket at which the owner of an environment takes orders."""
        return self._folder / f"{environment}.sock"

    def sweep(self) -> None:
        """Remove the records of dead owners."""
        for path in self._abandoned():
            self._remove(path.stem)

    def _abandoned(self) -> tuple[Path, ...]:
        paths = sorted(self._folder.glob("*.json"))
        return tuple(path for path in paths if not locks.is_held(self._lock_path(path.stem)))

    def _remove(self, environment: str) -> None:
        # The record first: what is noted of an environment is noted beside a record that is there.
        _unlink((self._path(environment), self._lock_path(environment), self.door(environment)))
        for suffix in (".lease", restarts.SUFFIX):
            _unlink(self._folder.glob(f"{environment}.*{suffix}"))

    def _path(self, environment: str) -> Path:
        return self._folder / f"{environment}.json"

    def _lock_path(self, environment: str) -> Path:
        return self._folder / f"{environment}.lock"


class Listing:
    """An environment on the list, as its owner has it.

    Args:
        held: the lock that says that the owner lives.
    """

    def __init__(self, registry: Registry, environment: str, held: locks.Held) -> None:
        self._registry = registry
        self._environment = environment
        self._held = held

    def replace(self, record: Record) -> None:
        """List this record of the environment in the place of the one before.

        Raises:
            OSError: it cannot be written.
        """
        store.write(self._registry._path(self._environment), record)

    def end(self) -> None:
        """Take the environment off the list. Does nothing a second time, or in a forked child."""
        if self._held.is_locked:
            self._registry._remove(self._environment)
            self._held.release()


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # such as a folder, which is not a record
            path.unlink()


def here(records: tuple[Record, ...], folder: Path) -> tuple[Record, ...]:
    """Those that are offered in the project that a folder is in; outside of projects in the folder or the nearest one
    above."""
    for place in places_here(folder):
        if found := tuple(record for record in records if record.is_offered and record.project == str(place)):
            return found
    return ()


def matching(records: tuple[Record, ...], name: str) -> list[Record]:
    """Those that a person may mean: by an id, by the beginning of one, or by the name of the folder of a project."""
    # A folder such as `db` is the beginning of an id now and then: of a session that is not meant.
    return [record for record in records if record.id == name] or [
        record for record in records if record.id.startswith(name) or Path(record.project).name == name
    ]


def named(records: tuple[Record, ...], name: str, *, option: str = "--session ") -> Record:
    """The environment that a person means.

    Args:
        records: those that run.
        name: an id or the beginning of one, or the name of the folder of its project.
        option: what stands before an id on the command line.

    Raises:
        UsageError: none or several are meant; the message lists what runs.
    """
    found = matching(records, name)
    if len(found) == 1:
        return found[0]
    listed = "\n".join(f"  {record.title}" for record in found or records)
    if not listed:
        raise UsageError(f"No session runs, so {name!r} names none.", hint="start one with: python -m triton_env serve")
    # Not with an id in it: what is copied without a look may end or empty another one than was meant.
    hint = f"{option}ID, with the id of one of them"
    if found:
        raise UsageError(f"{len(found)} sessions are named {name!r}:\n{listed}", hint=hint)
    raise UsageError(f"No session is called {name!r}. Running:\n{listed}", hint=hint)


def _words_for(seconds: int) -> str:
    if seconds < 120:
        return f"for {seconds} s"
    return f"for {seconds // 60} min" if seconds < 7200 else f"for {seconds // 3600} h"
