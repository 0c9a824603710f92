"""The seam between backup and the services: what saves and what restores one service, over its own protocol.

A service names these in its `parts`. Without a saver or a restorer it offers no backup, which is said where one is
asked for.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from triton_env.archive.archive import Archive, ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.steps import Meter
from triton_env.core.printable import listed

Note = Callable[[dict[str, Any]], None]
"""Is given the plan of a service, as it is by now, to be written to the journal."""

_Plan = TypeVar("_Plan")


class ProgramFailed(Exception):
    """A program ended with an error; what it said last is the message."""


class Programs(Protocol):
    """Runs programs that come with a service beside its server.

    In `argv`, {host} and {port:NAME} stand for where the server listens, seen from where the program runs. Every user
    of the machine can read it; `environment` may hold secrets.
    """

    def output(self, argv: Sequence[str], environment: Mapping[str, str]) -> Generator[bytes, None, None]:
        """Run a program and yield what it prints, in pieces. Closing the generator ends the program.

        Raises:
            ProgramFailed: it could not be run, or ended with an error.
            TritonError: programs cannot be run from here, or the engine of its container hangs.
        """

    def feed(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        source: Iterable[bytes],
        on_bytes: Callable[[int], None],
    ) -> None:
        """Run a program with `source` as its standard input; `on_bytes` receives how many bytes it was just given.

        Raises:
            ProgramFailed, TritonError: see `output`.
        """


class KnownSpaces(Protocol):
    """What is known here of the namespaces, templates and snapshots of an environment, which are not the user's."""

    def known_spaces(self) -> frozenset[str]:
        """Their ids."""

    def taken_slots(self, service: str) -> frozenset[int]:
        """The numbered places of a service that they have."""


def left_by_restores(names: Iterable[str]) -> list[str]:
    """What a backup says of what restores left: their journals are gone, or it would have been removed."""
    found = list(names)
    return [f"What a restore left is not saved, and its journal is gone: {listed(found)}."] * bool(found)


def unrecorded(spaces: KnownSpaces, look: Callable[[frozenset[str]], Iterable[str]]) -> list[str]:
    """What a backup says of what has the name of a space, and of which no record here says that it is one.

    Args:
        look: finds the names of such things, given the ids of the spaces that are known.
    """
    found = list(look(spaces.known_spaces()))
    if found:
        # Twice: one that came or went between the two looks, at the server and at the records, is not found again.
        again = set(look(spaces.known_spaces()))
        found = [name for name in found if name in again]
    return [
        f"Not saved, since isolation gives such names, though no namespace, template or snapshot of it is known here: "
        f"{listed(found)}. Rename what is yours."
    ] * bool(found)


TRUST = "only if you know who made the file: restore FILE --trust-code (trusted=True in Python)"
"""The hint where a backup holds code that would run with the rights of a server."""


def plan_from(kind: type[_Plan], plan: Mapping[str, Any]) -> _Plan:
    """The plan of a service as the journal has it.

    Raises:
        ValueError: it has another form.
    """
    try:
        return kind(**plan)
    except TypeError as error:
        raise ValueError(f"another version of triton-env wrote its plan: {error}") from error


class Saver(Protocol):
    """Saves one service: writes members to the archive and says what they hold. Only what is the user's."""

    def __call__(
        self, service: Any, programs: Programs, archive: ArchiveWriter, meter: Meter, spaces: KnownSpaces
    ) -> SavedService: ...


class Takeover(Protocol):
    """What a restore does to one service, by its plan alone, so that any process can finish it or take it back.

    All of it may be called again, also where an earlier call was interrupted at any point, and changes nothing where
    there is nothing of this restore.
    """

    def put_back(self) -> None:
        """Give the service the data that it had before `Restorer.swap`, which may have been interrupted."""

    def discard(self) -> None:
        """Remove what `Restorer.stage` made, which is not in use."""

    def finish(self) -> None:
        """Have the service hold what was restored, and remove what it held before."""


class DecidingTakeover(Takeover, Protocol):
    """That of a service with `TakesOver.FOR_GOOD`, which is never put back."""

    def happened(self) -> bool:
        """Whether the service has taken over. The restore that was interrupted is no longer at work then.

        Raises:
            RestoreUnfinished: it still is.
        """


class TakeoverOf(Protocol):
    """Makes the takeover of a service by a plan of its restorer; `note` writes the plan to the journal as it is then.

    Raises:
        ValueError: the plan has another form.
    """

    def __call__(self, service: Any, plan: Mapping[str, Any], note: Note) -> Takeover: ...


class Restorer(Protocol):
    """Restores one service. `check`, `present`, `plan`, `stage`, `swap`, `finish`, in this order."""

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
        """As `Takeover.finish`, for a caller that has the backup."""


class LateRestorer(Restorer, Protocol):
    """That of a service with `TakesOver.IN_THE_END`, which nothing but its `finish` changes."""

    def finish(self, note: Note, plan: Mapping[str, Any] | None = None) -> None:
        """As `Takeover.finish`, for a caller that has the backup.

        Args:
            note: writes the plan to the journal as it is then.
            plan: that of an earlier restore of the same backup, which was interrupted; by default this one's.
        """


class RestorerOf(Protocol):
    """Makes the restorer of a service. `mark` begins the names of all that the restore makes on the server."""

    def __call__(
        self, service: Any, programs: Programs, archive: Archive, meter: Meter, spaces: KnownSpaces, mark: str
    ) -> Restorer: ...


class Remains(Protocol):
    """Names what restores made in a service or set aside, in words. It changes nothing, and loads as little as can be.

    Raises:
        Exception: whatever the client raises.
    """

    def __call__(self, service: Any) -> list[str]: ...
