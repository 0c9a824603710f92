"""Claims: what machines have on servers that others use too is known on these servers, and what has no owner goes.

A machine is a folder of `triton_env.isolation.ledger`: the processes that use it know of each other by its locks. Its
id ends the names of all spaces that it makes on such servers, so no two machines make the same. On each server a note
says that the machine lives, which its processes renew. A space of another machine goes once that note is older than it
says, and so is the note, where there is one, that the space outlives its machine. What no note is about stays.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import uniform
from secrets import token_hex
from typing import Any, Final

from triton_env.isolation.slots import SlotFolder
from triton_env.services.base_claims import LOCKS, Board, Note, NumberedBoard
from triton_env.services.base_isolation import Isolation, Space, owner_of

_log = logging.getLogger(__name__)

OWNERS: Final = "owner/"
"""Begins the keys of notes that machines live; each says for how many seconds it holds."""
KEPT: Final = "kept/"
"""Begins the keys of notes that spaces outlive their machines; each says for how many seconds it holds."""
_ID: Final = "id/"
_RENEWALS: Final = 4
"""How often a note that says that a machine lives is written in the time for which it holds."""
KEPT_FOR: Final = 30 * 24 * 3600
"""Seconds that kept namespaces and snapshots stay on such servers after the last process of their machine."""
_KEPT_RENEWED: Final = 24 * 3600
_UNKNOWN_FOR: Final = 24 * 3600
"""Seconds that a machine of which a server knows nothing has to write a note: something has wiped the one before."""
_LOCK_INTERVAL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What one service says of the spaces that it has.

    Attributes:
        notes: whatever is noted there.
        present: the machines that have a connection.
        spaces: the ids of the spaces.
    """

    notes: Mapping[str, Note]
    present: frozenset[str]
    spaces: frozenset[str]

    @classmethod
    def of(cls, isolation: Isolation[Any], board: Board) -> "Seen":
        """Ask a service. Notes first: what one is about is there then, or is gone."""
        notes = {key: note for prefix in (OWNERS, KEPT, LOCKS) for key, note in board.notes(prefix).items()}
        return cls(notes, board.present(), isolation.found())

    def lives(self, machine: str) -> bool | None:
        """Whether a machine does; None where nothing is known of it."""
        if machine in self.present:
            return True
        note = self.notes.get(OWNERS + machine)
        return None if note is None else _holds(note)

    def stays(self, space: str, *, is_own: bool) -> bool | None:
        """Whether a space does; None where nothing is known of it and its machine.

        Args:
            is_own: whether it is this machine's, on which no process has it.
        """
        kept = self.notes.get(KEPT + space)
        if kept is not None and _holds(kept):
            return True
        return False if is_own else self.lives(owner_of(space))

    def remains(self) -> Iterator[str]:
        """The keys of notes that are about nothing any longer."""
        owners = {owner_of(space) for space in self.spaces}
        for key in self.notes:
            name = key.rpartition("/")[2]
            if key.startswith(KEPT):
                is_over = name not in self.spaces
            else:
                is_over = self.lives(name) is False and (key.startswith(LOCKS) or name not in owners)
            if is_over:
                yield key


class Claims:
    """What this machine claims, as one process of it does.

    Args:
        machine: its id.
        seconds: for which its claims hold after the last renewal.
        kept: by service, the ids of spaces that are to outlive this machine's processes.
    """

    def __init__(self, machine: str, seconds: float, kept: Callable[[], Mapping[str, Collection[str]]]) -> None:
        self.machine = machine
        self.seconds = seconds
        self._kept = kept
        self._boards: dict[str, Board] = {}
        self._renewed: dict[str, float] = {}
        self._kept_renewed: dict[str, float] = {}
        self._suspects: dict[str, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def attend(self, service: str, board: Board) -> None:
        """See that a server knows that this machine lives, before anything is made there, and goes on to know it.

        Raises:
            Exception: whatever its client raises. Then nothing may be made, since it would belong to nobody.
        """
        self._boards[service] = board
        last = self._renewed.get(service)
        # The thread does it, unless this process was suspended or the server did not answer.
        if last is None or _now() - last > self.seconds / 2:
            self._renew(service, board)
        with self._lock:
            if self._thread is None and not self._over.is_set():
                self._thread = threading.Thread(target=self._work, name="triton-claims", daemon=True)
                self._thread.start()

    def keep(self, board: Board, space: str, seconds: float = KEPT_FOR) -> None:
        """Have a space outlive this machine's processes, for so long."""
        board.put(KEPT + space, f"{seconds:g}")

    def is_gone(self, board: Board) -> Callable[[str], bool]:
        """Whether a machine is known to be dead."""

        def is_gone(machine: str) -> bool:
            if machine == self.machine:
                return False
            return Seen(board.notes(OWNERS), board.present(), frozenset()).lives(machine) is False

        return is_gone

    def lock(self, board: Board, name: str) -> bool:
        """Try to have the right to do something that one machine at a time does."""
        return board.try_lock(name, self.machine, self.is_gone(board))

    def pause(self) -> None:
        """Between two tries; not the same for all who wait."""
        time.sleep(uniform(0.2, 1) * _LOCK_INTERVAL)

    def identity(self, board: Board) -> str:
        """What distinguishes a server from others, as long as nothing wipes what is noted there."""
        while not (found := board.notes(_ID)):
            if self.lock(board, "id"):
                try:
                    if not board.notes(_ID):
                        board.put(_ID + token_hex(8), "")
                finally:
                    board.unlock("id", self.machine)
            else:
                self.pause()
        return min(found)

    def expired(self, seen: Mapping[str, Seen], known: Collection[str], *, at_once: bool) -> dict[str, tuple[str, ...]]:
        """The spaces that have no owner any longer, with the services that have something of them.

        A space stays where one of its services has reason to keep it.

        Args:
            seen: by service.
            known: the ids of this machine's spaces that a process of it has, or that are kept.
            at_once: whether one look is enough. Otherwise what is found has to be found again after a time in which a
                living machine writes a note: the clock of a server may have been changed just now.
        """
        there: dict[str, list[str]] = {}
        for service, each in seen.items():
            for space in each.spaces:
                if owner_of(space) and space not in known:
                    there.setdefault(space, []).append(service)
        found: dict[str, tuple[str, ...]] = {}
        for space, services in there.items():
            is_own = owner_of(space) == self.machine
            if {seen[service].stays(space, is_own=is_own) for service in services} == {False}:
                found[space] = tuple(services)
        if at_once:
            return found
        self._suspects = {space: self._suspects.get(space, _now()) for space in found}

        def is_certain(space: str) -> bool:
            notes = (seen[service].notes.get(OWNERS + owner_of(space)) for service in found[space])
            interval = max((float(note.text) / _RENEWALS for note in notes if note), default=0.0)
            return _now() - self._suspects[space] >= 2 * interval

        return {space: services for space, services in found.items() if is_certain(space)}

    def adopt(self, seen: Seen, board: Board) -> None:
        """Have machines of which a server knows nothing write a note, or count as dead after a while."""
        for machine in {owner_of(space) for space in seen.spaces} - {"", self.machine}:
            if seen.lives(machine) is None:
                board.put(OWNERS + machine, f"{_UNKNOWN_FOR:g}")

    def close(self) -> None:
        """End the renewals. What is on the servers stays claimed as long as it was said last."""
        with self._lock:
            self._over.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LOCK_INTERVAL)

    def _renew(self, service: str, board: Board) -> None:
        begun = _now()
        board.attend(self.machine)
        board.put(OWNERS + self.machine, f"{self.seconds:g}")
        if begun - self._kept_renewed.get(service, -_KEPT_RENEWED) >= _KEPT_RENEWED:
            for space in self._kept().get(service, ()):
                self.keep(board, space)
            self._kept_renewed[service] = begun
        last, self._renewed[service] = self._renewed.get(service, begun), begun
        if begun - last > self.seconds:
            _log.warning(
                "%s has not heard from this process for %d seconds: its namespaces may be gone", service, begun - last
            )

    def _work(self) -> None:
        while not self._over.wait(self.seconds / _RENEWALS):
            for service, board in list(self._boards.items()):
                try:
                    self._renew(service, board)
                except Exception as error:  # tried again; before something is made it has to succeed
                    _log.debug("a claim could not be renewed: %s", error, exc_info=True)


class ClaimedSlots:
    """The slots of a service on a server that other machines use too; see `triton_env.services.base_isolation.Slots`.

    Args:
        folder: what this machine knows of them.
        board: of the server, which decides.
    """

    def __init__(self, folder: SlotFolder, board: NumberedBoard) -> None:
        self._folder = folder
        self._board = board

    def of(self, space: Space) -> range:
        """Those of a space, of any machine; none where it has none."""
        if own := self._folder.of(space):
            return own
        numbers = sorted(number for number, whose in self._board.numbers().items() if whose == space.id)
        return range(numbers[0], numbers[-1] + 1) if numbers else range(0)

    def taken(self) -> frozenset[int]:
        """Those that spaces of any machine have."""
        return self._folder.taken() | self._board.numbers().keys()

    def held(self) -> dict[int, str]:
        """By their numbers, the ids of the spaces of this machine that have them."""
        return self._folder.held()

    def claim(
        self, space: Space, among: range, count: int = 1, *, avoided: Callable[[], Collection[int]] = tuple
    ) -> range:
        """Give a space slots that are free, one after the other; none where too few are."""
        return self._folder.claim(
            space,
            among,
            count,
            avoided=lambda: {*self._board.numbers(), *avoided()},
            take=lambda block: self._board.take(block, space.id),
        )


def _holds(note: Note) -> bool:
    with suppress(ValueError):
        return note.age <= float(note.text)
    return True  # a later version's


def _now() -> float:
    """Seconds that go on while this process, or the machine, is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
