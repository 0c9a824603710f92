"""The folder of a project: where its servers keep their data, and who they are."""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from triton_env.core.ownership import may_be_replaced
from triton_env.core.private import make_folder, make_folders
from triton_env.errors import RuntimeUnavailable, TritonError
from triton_env.runtimes.embedded.access import DATA, LOGS, TEMPORARY
from triton_env.runtimes.embedded.account import Account, servers_account
from triton_env.runtimes.embedded.bases import problem_of, projects_folder
from triton_env.runtimes.embedded.directory import LOCK_NAME, OwnedFolder, groups
from triton_env.settings import Settings
from triton_env.state import locks, store

RUN = "run"
"""The private directory of the servers that run. It goes with them."""
_LONGEST_BELOW = len(f"/{RUN}/run/.s.PGSQL.65535.lock")
_ENDING_TIMEOUT = 120
"""Seconds that servers get to end whose supervisor was killed."""
_INTERVAL = 0.1
_HINT = "set TRITON_DATA_DIR to a folder on a local disk that you can write to"


@dataclass(frozen=True, slots=True)
class _Identity:
    """Whose the data is: the numbers of `Account`, which stay the same as long as there is data."""

    project: str
    account: Account | None

    FORMAT: ClassVar[int] = 1


class ProjectFolder:
    """The folder of one project. Looking at it changes nothing.

    Attributes:
        path: the folder.
        state: the file in which the supervisor notes what runs.
        lock: the file that a living supervisor has locked.
        control: the Unix socket at which it takes orders.
        run: see `RUN`.

    Args:
        path: the folder, see `of`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state.json"
        self.lock = path / "supervisor.lock"
        self.run = path / RUN
        self.control = self.run / "control"
        self._identity = path / "project.json"

    @classmethod
    def of(cls, settings: Settings) -> "ProjectFolder":
        """The folder of the project that the settings name."""
        return cls(projects_folder(settings.triton_data_dir) / settings.triton_project)

    @property
    def logs(self) -> Path:
        """The folder with the servers' logs."""
        return self.path / LOGS

    def data(self, service: str) -> Path:
        """The data directory of a service."""
        return self.path / DATA / service

    def with_data(self) -> tuple[str, ...]:
        """The services that have data here."""
        try:
            return tuple(sorted(each.name for each in (self.path / DATA).iterdir() if not each.suffix))
        except OSError:
            return ()

    def wait_for_servers(self) -> None:
        """Wait until no server of a supervisor that was killed is left: they are ending, and write what they hold.

        Raises:
            TritonError: one does not end.
        """
        lock = self.run / LOCK_NAME
        deadline = time.monotonic() + _ENDING_TIMEOUT
        while locks.is_held(lock):
            if time.monotonic() > deadline:
                raise TritonError(
                    "Servers of an earlier supervisor still run.",
                    where=str(self.run),
                    cause="a process holds the lock of their directory",
                    hint=f"fuser -v {lock} shows which one",
                )
            time.sleep(_INTERVAL)

    def make(self) -> None:
        """Make what is missing of it.

        Raises:
            RuntimeUnavailable: it cannot be made, others could change it, or it cannot hold permissions.
        """
        if problem := problem_of(self.path, longest_below=_LONGEST_BELOW):
            raise _unusable(self.path, problem)
        try:
            known = self._known()
            account = self.account()
            self._make(account)
            if known is None or known.account != account:
                store.write(self._identity, _Identity(self.path.name, account), durable=True)
        except OSError as error:
            raise _unusable(error.filename or self.path, error.strerror or str(error)) from error

    def account(self) -> Account | None:
        """The servers' user here: the same one as long as there is data. None where that is this process's.

        Raises:
            RuntimeUnavailable: this process is root, and is not allowed to become another user.
        """
        needed = servers_account(taken=groups())
        known = self._known()
        return (known.account if known else None) or needed if needed else None

    def owned(self) -> OwnedFolder:
        """The folder with the data directories."""
        return OwnedFolder(self.path / DATA, self.account())

    def _known(self) -> _Identity | None:
        try:
            return store.read(self._identity, _Identity)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise TritonError(
                "The folder of the project cannot be used.",
                where=str(self._identity),
                cause=str(error),
                hint="use the version of triton-env that made it",
            ) from error

    def _make(self, account: Account | None) -> None:
        # The servers' user passes through.
        make_folders(self.path.parent, 0o700 if account is None else 0o755)
        if account is not None and not account.can_pass(self.path.parent):
            raise _unusable(self.path.parent, "it is closed to ordinary users, and the servers run as one of them")
        if may_be_replaced(self.path.parent):
            raise _unusable(self.path, "others could replace it")
        for folder in (self.path, self.path / DATA):
            if not folder.is_dir():
                make_folder(folder)
            mode = 0o700
            if account is not None:
                os.chown(folder, -1, account.gid)
                mode = 0o710
            folder.chmod(mode)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise _unusable(folder, "it is not a folder of this user's")
            if stat.S_IMODE(found.st_mode) != mode or (account is not None and found.st_gid != account.gid):
                raise _unusable(folder, "its file system cannot hold permissions")
        for folder in (self.logs, self.path / TEMPORARY):
            if not folder.is_dir():
                make_folder(folder)


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The files of a data directory; see `VolumeFiles`."""

    folder: Path

    def files(self, path: str) -> Mapping[str, bytes]:
        found = self.folder / path
        try:
            descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return {}
        with os.fdopen(descriptor, "rb") as file:
            return {path: file.read()} if stat.S_ISREG(os.fstat(descriptor).st_mode) else {}

    def names(self, path: str = "") -> Iterator[str]:
        top = self.folder / path
        for parent, folders, files in os.walk(top):
            relative = os.path.relpath(parent, self.folder)
            for name in (*(f"{each}/" for each in folders), *files):
                yield name if relative == "." else f"{relative}/{name}"


def _unusable(path: str | Path, cause: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "Data cannot be kept in the folder of the project.", where=str(path), cause=cause, hint=_HINT
    )
