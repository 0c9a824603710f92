"""Leases: who uses services that several processes share, known for certain however a process ends.

A lease is a file whose lock its holder keeps as long as it lives. However the holder ends, the kernel gives the lock
back.
"""

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Self

from triton_env.core.private import open_file
from triton_env.settings import Settings
from triton_env.state.file_locks import is_held
from triton_env.state.registry import make_private, private_folder

_TIMEOUT = 600
"""Seconds to wait for another process that starts or stops the same services."""


class HeldFile:
    """A file whose lock (flock(2)) this process holds until it releases it or ends.

    A forked child does not hold it. The lock belongs to the open file, which parent and child share after a fork: an
    unlock in the child would take the lock from the parent, and a child that lives longer would keep it. So the child
    closes its copy at once, and never unlocks.

    Args:
        path: the file, which is made where it is missing.
        wait: whether to wait for another holder.

    Raises:
        BlockingIOError: somebody else holds it (without `wait`).
        OSError: the file cannot be made or opened.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        self.path = path
        self.process = os.getpid()
        self.descriptor = -1
        self.descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        _held.add(self)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            self.release()
            raise

    @classmethod
    def new(cls, folder: Path, name: str) -> Self:
        """Hold a new file in `folder`, whose name begins with `name`, this process's id and ends with ".lease"."""
        return cls(folder / f"{name}{os.getpid()}-{token_hex(4)}.lease")

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back; with `remove` the file goes too. Does nothing where it is not held."""
        if self.descriptor >= 0 and self.process == os.getpid():
            if remove:
                self.path.unlink(missing_ok=True)
            # A child that was forked a moment ago has not closed its copy yet.
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.hand_over()

    def outlive_exec(self) -> None:
        """Have a program that this process becomes hold it until it ends."""
        os.set_inheritable(self.descriptor, True)

    def hand_over(self) -> None:
        """Close the file. The lock stays with whoever has it from this process: a child that inherited it."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # Such as one that Ctrl-C took from whoever was about to keep it.
        self.release()


_held: "weakref.WeakSet[HeldFile]" = weakref.WeakSet()


def _let_go_in_child() -> None:
    for file in tuple(_held):
        file.hand_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def any_held(folder: Path, pattern: str = "*.lease", besides: Path | None = None) -> bool:
    """Whether somebody holds one of these files. Changes nothing."""
    return any(is_held(path) for path in _found(folder, pattern) if path != besides)


def remove_unheld(folder: Path, pattern: str = "*.lease") -> None:
    """Remove those of these files that nobody holds. Nobody may be about to take one meanwhile."""
    for path in _found(folder, pattern):
        if not is_held(path):
            with suppress(OSError):
                path.unlink()


def _found(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except FileNotFoundError:  # the folder went just now
        return []


class Leases:
    """The leases on one set of shared services, and the lock under which these are started and stopped.

    Args:
        settings: where this user's state is kept.
        name: of the services: their project.

    Raises:
        InvalidSetting: the folder cannot be made, or others can write to it.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        # Most commands take no turn.
        from filelock import FileLock

        self._folder = private_folder(settings, "leases")
        make_private(self._folder)
        # A dot ends the project's name, which has none.
        self._name = f"{name}."
        self.turn = FileLock(self._folder / f"{name}.turn", timeout=_TIMEOUT, mode=0o600, thread_local=False)
        """Held while services are started or stopped: one at a time."""
        self._mine: HeldFile | None = None

    def take(self) -> None:
        """Hold a lease from now on. Does nothing while one is held."""
        if self._mine is None:
            self._mine = HeldFile.new(self._folder, self._name)

    def release(self) -> None:
        """Give the lease back. Does nothing where none is held."""
        if self._mine is not None:
            self._mine.release(remove=True)
            self._mine = None

    def others(self) -> bool:
        """Whether somebody else holds a lease. To be asked by who holds `turn`. Dead ones are removed."""
        pattern = f"{self._name}*.lease"
        remove_unheld(self._folder, pattern)
        return any_held(self._folder, pattern, besides=self._mine.path if self._mine else None)
