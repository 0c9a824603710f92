"""Leases record which processes use shared services, and end with these processes, even by SIGKILL.

A lease is a file whose lock its holder keeps as long as it lives.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from triton_env.errors import TritonError
from triton_env.settings import Settings
from triton_env.state import locks
from triton_env.state.folders import make_private, private_folder
from triton_env.state.locks import Held

_TIMEOUT = 600
"""Seconds to wait for another process that starts or stops the same services."""


def new_lease(folder: Path, name: str = "") -> Held:
    """Hold a new file in a folder, whose name begins with `name` and this process's id and ends with ".lease"."""
    return locks.hold(folder / f"{name}{os.getpid()}-{token_hex(4)}.lease")


class Leases:
    """The leases on one set of shared services, and the lock under which these are started and stopped.

    Args:
        settings: where this user's state is kept.
        name: of the services: their project.

    Raises:
        InvalidSetting: the folder cannot be made, or others can write to it.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._folder = private_folder(settings, "leases")
        make_private(self._folder)
        self._name = name
        # A dot ends the project's name, which has none.
        self._pattern = f"{name}.*.lease"
        self._mine: Held | None = None

    @contextmanager
    def turn(self, timeout: float = _TIMEOUT) -> Iterator[None]:
        """Start or stop services, while no other process does; it waits up to `timeout` seconds for others.

        Raises:
            TritonError: another one does not finish.
        """
        path = self._folder / f"{self._name}.turn"
        try:
            held = locks.hold(path, timeout=timeout)
        except BlockingIOError as error:
            raise TritonError(
                f"Another process has been starting or stopping services of the project {self._name} for"
                f" {timeout:.0f} s.",
                where=str(path),
                hint="wait for it, or end it, then try again",
            ) from error
        try:
            yield
        finally:
            held.release()

    def take(self) -> None:
        """Hold a lease from now on. Does nothing while one is held."""
        if self._mine is None:
            self._mine = new_lease(self._folder, f"{self._name}.")

    def release(self) -> None:
        """Give the lease back. Does nothing where none is held."""
        if self._mine is not None:
            self._mine.release(remove=True)
            self._mine = None

    def others(self) -> bool:
        """Whether another lease is held. To be asked in the `turn`. Those of dead processes are removed."""
        locks.remove_abandoned(self._folder, self._pattern)
        return locks.any_held(self._folder, self._pattern, besides=self._mine)
