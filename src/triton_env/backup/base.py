"""What saves and what restores one service."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from triton_env.backup.archive import ArchiveWriter
from triton_env.backup.manifest import SavedService
from triton_env.backup.steps import Meter
from triton_env.model import Program
from triton_env.services import Service

RunsPrograms = Callable[[Sequence[str], Mapping[str, str]], Program]
"""`Runtime.program` for one service."""

PREFIX = "triton_restore_"
"""Begins the names of what a restore makes beside the data that is there. Followed by eight hexadecimal digits."""

TRUST = "only if you know who made the file: restore FILE --trust-code (trusted=True in Python)"
"""The hint where a backup holds code that would run with the rights of a server."""


class Saver(Protocol):
    """Saves one service: writes members to the archive and says what they hold."""

    def __call__(
        self, service: Service, program: RunsPrograms, archive: ArchiveWriter, meter: Meter
    ) -> SavedService: ...


class Restorer(Protocol):
    """Restores one service. `check`, `present`, `stage`, `swap`, `discard`, in this order."""

    def check(self) -> None:
        """See, without a change to anything, that this server can take the backup.

        Raises:
            RestoreFailed: it cannot.
        """

    def present(self) -> list[str]:
        """What a restore would replace, in words; empty where there is nothing."""

    def stage(self) -> None:
        """Load as much as can be loaded beside what is there, which stays as it is."""

    def swap(self) -> None:
        """Put what was loaded in the place of what was there. Where this fails, what was there is put back.

        Raises:
            HalfApplied: it could not be put back, or not all of it.
        """

    def discard(self) -> None:
        """Remove what `stage` made and `swap` did not use. May be called at any time, and again."""


class HalfApplied(Exception):
    """A service holds neither what it held nor what the backup holds; the message says what is where."""
