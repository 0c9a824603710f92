"""What saves and what restores one service."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from triton_env.archive.archive import ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.steps import Meter
from triton_env.backup.journal import Place
from triton_env.core.model import Program
from triton_env.services import Service

RunsPrograms = Callable[[Sequence[str], Mapping[str, str]], Program]
"""`Runtime.program` for one service."""

Note = Callable[[dict[str, Any]], None]
"""Is given the plan of a service, as it is by now, to be written to the journal."""

_SHOWN = 6
"""How many names a note has."""


def left_by_restores(names: Iterable[str]) -> list[str]:
    """What a backup says of what restores left: their journals are gone, or it would not be there any more."""
    found = list(names)
    return [f"What a restore left is not saved, and its journal is gone: {_shown(found)}."] * bool(found)


def unrecorded(place: Place, look: Callable[[frozenset[str]], Iterable[str]]) -> list[str]:
    """What a backup says of what has the name of a space, and of which no record here says that it is one.

    Args:
        place: of the environment.
        look: finds the names of such things, given the ids of the spaces that are known.
    """
    found = list(look(place.known_spaces()))
    if found:
        # Twice: one that came or went between the two looks, at the server and at the records, is not found again.
        again = set(look(place.known_spaces()))
        found = [name for name in found if name in again]
    return [
        f"Not saved, since isolation gives such names, though no namespace, template or snapshot of it is known here: "
        f"{_shown(found)}. Rename what is yours."
    ] * bool(found)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


TRUST = "only if you know who made the file: restore FILE --trust-code (trusted=True in Python)"
"""The hint where a backup holds code that would run with the rights of a server."""


class Saver(Protocol):
    """Saves one service: writes members to the archive and says what they hold. Only what is the user's."""

    def __call__(
        self, service: Service, program: RunsPrograms, archive: ArchiveWriter, meter: Meter, place: Place
    ) -> SavedService: ...


class Takeover(Protocol):
    """What a restore does to one service, by its plan alone, so that any process can finish it or take it back.

    All of it may be called again, also where an earlier call was broken off at any point, and changes nothing where
    there is nothing of this restore.
    """

    def put_back(self) -> None:
        """Give the service the data that it had before `Restorer.swap`, which may have been broken off."""

    def discard(self) -> None:
        """Remove what `Restorer.stage` made, which is not in use."""

    def finish(self) -> None:
        """Have the service hold what was restored, and remove what it held before."""


class Restorer(Protocol):
    """Restores one service. `check`, `present`, `plan`, `stage`, `swap`, in this order."""

    def check(self) -> None:
        """See, without a change to anything, that this server can take the backup.

        Raises:
            RestoreFailed: it cannot.
        """

    def present(self) -> list[str]:
        """What a restore would replace, in words; empty where there is nothing."""

    def plan(self) -> dict[str, Any]:
        """What `stage` and `swap` will do, as data that JSON can hold."""

    def stage(self) -> None:
        """Load as much as can be loaded beside what is there, which stays as it is."""

    def swap(self) -> None:
        """Put what was loaded in the place of what was there, which is kept."""

    def finish(self, note: Note) -> None:
        """As `Takeover.finish`, by who has the backup."""
