"""The journal of a restore: what is to be known to finish it or to take it back, by whatever comes next.

It is written before a restore changes anything and before each phase that cannot be left as it is, and removed when all
is done. Beside it is a lock of the kernel that a restore holds as long as it lives: a journal without a holder is that
of a restore that was interrupted.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from triton_env.core.forms import Form, forms_for
from triton_env.core.private import sync_folder
from triton_env.errors import RestoreFailed, RestoreUnfinished
from triton_env.isolation.ledger import known_ids
from triton_env.isolation.slots import slots_of
from triton_env.isolation.state import folder_of
from triton_env.settings import Settings
from triton_env.state import locks, store
from triton_env.state.folders import lasting_folder, make_private, private_folder
from triton_env.state.locks import Held

_SUFFIX = ".json"
_PATIENCE = 2
"""Seconds to wait for another process that is about to let go."""


class Phase(Enum):
    """How far a restore has come."""

    STAGING = "staging"
    """Data is loaded beside what is there, which is as it was."""
    TAKING_OVER = "taking over"
    """Services change over to what was loaded. All of it can be taken back, and is."""
    COMMITTING = "committing"
    """One service changes over for good. If that happened, the restore counts; otherwise it is taken back."""
    COMMITTED = "committed"
    """The restore counts, and is finished: what takes over in the end does so, and what was there before is removed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a journal says.

    Attributes:
        mark: begins the names of all that the restore made on servers.
        phase: how far it has come.
        pid: the process that restores; known by this number to people, never to decide whether it lives.
        file: the backup.
        addresses: of the servers, "host:port" by service.
        plans: what each service is to do and how it is undone, by service, as its takeover understands it. The one that
            takes over for good comes last.
        pending: the services that are neither finished nor taken back.
        returned: the services that have their data back, and only what was loaded is still to be removed.
        environment: the environment's id.
        digest: of the backup's manifest.
        is_persistent: whether it is of a project's persistent services.
    """

    mark: str
    phase: Phase
    pid: int
    file: str
    addresses: Mapping[str, str]
    plans: Mapping[str, Mapping[str, Any]] = field(repr=False)
    pending: tuple[str, ...]
    returned: tuple[str, ...]
    environment: str
    digest: str
    is_persistent: bool

    FORMAT: ClassVar[int] = 1

    @property
    def counts(self) -> bool | None:
        """Whether it is to be finished; False where it is taken back, None where the last service has to be asked."""
        return None if self.phase is Phase.COMMITTING else self.phase is Phase.COMMITTED

    def without(self, service: str) -> "Entry":
        """As it is once a service is done."""
        return replace(self, pending=tuple(name for name in self.pending if name != service))

    def summary(self) -> str:
        """What happened and what becomes of the data, in one sentence."""
        began = f"a restore of {self.file} was interrupted (process {self.pid})"
        if self.phase is Phase.STAGING:
            return f"{began} before anything was replaced: what it loaded is to be removed"
        if self.counts is None:
            return f"{began} in its last step: it is to be finished or taken back, for all services alike"
        if self.counts:
            return f"{began} after the restored data had taken over: it is to be finished"
        return f"{began} while the restored data took over: it is to be taken back"


class Place:
    """Where the journal of one environment is.

    Args:
        lasting: whether its servers outlive every process that uses them: persistent and external ones. Their journals
            outlive a restart of the machine too.
    """

    def __init__(self, settings: Settings, environment: str, *, lasting: bool) -> None:
        self.settings = settings
        self.environment = environment
        self.lasting = lasting
        self.path = _folder(settings, lasting=lasting) / f"{environment}{_SUFFIX}"

    @property
    def lock(self) -> Path:
        """The file that a living restore has locked."""
        return self.path.with_suffix(".lock")

    def read(self) -> Entry | None:
        """What the journal says; None where there is none.

        Raises:
            RestoreUnfinished: it cannot be read.
        """
        try:
            return store.read(self.path, Entry)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RestoreUnfinished(
                "The journal of an unfinished restore cannot be read.",
                where=str(self.path),
                cause=str(error),
                hint="use the version of triton-env that wrote it; or look on the servers at what has names that begin "
                f"with triton_restore_ and triton-restore-, put it right, and then: rm {self.path}",
            ) from error

    def write(self, entry: Entry) -> None:
        """Note it; on disk when this returns.

        Raises:
            RestoreFailed: it cannot be written.
        """
        try:
            make_private(self.path.parent)
            store.write(self.path, entry, durable=True)
        except OSError as error:
            raise RestoreFailed(
                "The journal of the restore cannot be written.",
                where=str(self.path),
                cause=error.strerror or str(error),
                hint=f"df -h {self.path.parent}; or set TRITON_STATE_DIR to another folder",
            ) from error

    def remove(self) -> None:
        """All is done: nothing is left to be known."""
        self.path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            sync_folder(self.path.parent)
        self._tidy()

    def forget(self, services: Collection[str]) -> None:
        """The data of these services is gone, and with it what was to be done."""
        with suppress(RestoreUnfinished):
            if (entry := self.read()) is None:
                return
            for name in services:
                entry = entry.without(name)
            if entry.pending:
                self.write(entry)
                return
        self.remove()

    @contextmanager
    def held(self, *, together: bool = False) -> Iterator[None]:
        """Let no restore come in between.

        Args:
            together: with others that do so, as backups do; otherwise alone, as a restore.

        Raises:
            RestoreFailed: another process restores or, where it is not `together`, makes a backup.
        """
        # Who only looks whether it is held has it for a moment too.
        if (held := self.try_hold(together=together, timeout=_PATIENCE)) is None:
            raise self.busy()
        try:
            yield
        finally:
            held.release()
            self._tidy()

    @contextmanager
    def between_restores(self, settle: Callable[[], object]) -> Iterator[None]:
        """Let no restore come in between, nor be unfinished.

        Args:
            settle: finishes one that was interrupted, or takes it back; called where there is one, with the place held.

        Raises:
            RestoreFailed: another process restores.
            RestoreUnfinished: the journal cannot be read; and whatever `settle` raises.
        """
        if self.read() is not None:
            with self.held():
                settle()
        with self.held(together=True):
            yield

    def try_hold(self, *, together: bool = False, timeout: float = 0) -> Held | None:
        """As `held`, until it is released; None if that is not possible within so many seconds."""
        make_private(self.path.parent)
        try:
            return locks.hold(self.lock, together=together, timeout=timeout)
        except BlockingIOError:
            return None

    def is_held(self) -> bool:
        """Whether a living process restores at this moment."""
        # A backup, which holds it together with others, is not taken for a restore.
        return locks.is_held(self.lock)

    def busy(self) -> RestoreFailed:
        """The error where another process is at work."""
        with suppress(RestoreUnfinished):
            if self.is_held() and (entry := self.read()):
                return RestoreFailed(
                    f"Another process is restoring {entry.file}.",
                    where=f"process {entry.pid}, environment {self.environment}",
                    hint="wait until it has ended, then try again",
                )
        return RestoreFailed(
            "Another process is restoring or saving this environment.",
            where=f"environment {self.environment}",
            hint="wait until it has ended, then try again",
        )

    def taken_slots(self, service: str) -> frozenset[int]:
        """The numbered places of a service that namespaces, templates and snapshots have."""
        return slots_of(folder_of(self.settings, self.environment), service).taken()

    def known_spaces(self) -> frozenset[str]:
        """The ids of the namespaces, templates and snapshots of which there is a record here."""
        return known_ids(folder_of(self.settings, self.environment))

    def _tidy(self) -> None:
        """Remove the lock of a session, of which there are many, where no process holds it."""
        if not self.lasting and (free := locks.abandoned(self.lock)):
            free.release(remove=True)


def places(settings: Settings) -> list[Place]:
    """Where there are journals of this user."""
    found = []
    for lasting in (True, False):
        folder = _folder(settings, lasting=lasting)
        found += [Place(settings, path.stem, lasting=lasting) for path in sorted(folder.glob(f"[!.]*{_SUFFIX}"))]
    return found


def command_to_settle(place: Place) -> str:
    """What a user may do to have an unfinished restore finished or taken back."""
    if not place.lasting:
        return "remove the cause, then restore again (backup.restore in Python)"
    if Form.EXTERNAL in forms_for(place.settings.triton_runtime):
        return "start an environment on these servers again, with all services that the restore is about"
    is_default = place.environment == Settings.model_fields["triton_project"].default
    return f"python -m triton_env up{'' if is_default else f' --project {place.environment}'}"


def _folder(settings: Settings, *, lasting: bool) -> Path:
    if lasting:
        return lasting_folder(settings, "restores")
    return private_folder(settings, "restores-of-sessions")
