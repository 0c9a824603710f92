"""Claims: what machines have on servers that others use too is known on these servers, and what has no owner goes.

A machine is a folder of `triton_env.isolation.ledger`: the processes that use it know of each other by its locks. Its
id ends the names of all spaces that it makes on such servers, so no two machines make the same. On each server a note
says that the machine lives, which its processes renew. A space of another machine goes once that note is older than it
says, and so is the note, where there is one, that the space outlives its machine. What no note is about stays.

A server that was down, or whose clock was changed, makes the notes of living machines old. So the first who finds one
too old notes that, and what the machine has goes only if it has not written another in a time in which it writes some.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
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
_SUSPECTS: Final = "suspect/"
"""Begins the keys of notes that machines look dead; each says how old the note that it lives was by then."""
_ID: Final = "id/"
_RENEWALS: Final = 4
"""How often a note that says that a machine lives is written in the time for which it holds."""
KEPT_FOR: Final = 30 * 24 * 3600
"""Seconds that kept namespaces and snapshots stay on such servers after the last process of their machine."""
_KEPT_RENEWED: Final = 24 * 3600
_UNKNOWN_FOR: Final = 24 * 3600
"""Seconds that a machine of which a server knows nothing has to write a note: something has wiped the one before."""
_USUAL: Final = 300
"""Seconds for which machines claim what they have, unless they are set otherwise."""
_LOCK_INTERVAL: Final = 0.5
_INACCURACY: Final = 2
"""Seconds by which ages may be wrong: some servers know whole ones."""
_END_TIMEOUT: Final = 0.5
"""Seconds to wait for renewals that are under way."""


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
        """Ask a service. Notes first: what one is about is there then, or is gone. Those of locks before all others."""
        prefixes = (LOCKS, OWNERS, _SUSPECTS, KEPT)
        notes = {key: note for prefix in prefixes for key, note in board.notes(prefix).items()}
        return cls(notes, board.present(), isolation.found())

    @classmethod
    def of_one(cls, space: str, board: Board) -> "Seen":
        """Ask a service that has a space for what decides about that one: as quick, however much is on the server."""
        keys = (OWNERS + owner_of(space), _SUSPECTS + owner_of(space), KEPT + space)
        notes = {key: note for key in keys if (note := board.notes(key).get(key))}
        return cls(notes, board.present(), frozenset({space}))

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

    def owners(self) -> frozenset[str]:
        """The machines that have spaces."""
        return frozenset(owner_of(space) for space in self.spaces) - {""}

    def lockers(self) -> frozenset[str]:
        """The machines that build something, or want to."""
        return frozenset(key.rpartition("/")[2] for key in self.notes if key.startswith(LOCKS))

    def is_suspected(self, machine: str) -> bool:
        """Whether it is noted that a machine looks dead, and it has written nothing since."""
        owner, suspect = self.notes.get(OWNERS + machine), self.notes.get(_SUSPECTS + machine)
        if owner is None or suspect is None or self.lives(machine) is not False:
            return False
        # Both have aged by the same time, whatever became of the clock. Another note would be younger by all the time
        # for which one holds, since the one before was too old by then.
        off = abs(owner.age - float(suspect.text) - suspect.age)
        return off <= max(_seconds(owner) / 2, _INACCURACY)

    def is_dead(self, machine: str) -> bool:
        """Whether a machine has been suspected for so long that it would have written a note."""
        if not self.is_suspected(machine):
            return False
        return self.notes[_SUSPECTS + machine].age >= _certain_after(_seconds(self.notes[OWNERS + machine]))


class Claims:
    """What this machine claims, as one process of it does.

    Args:
        machine: its id.
        seconds: for which its claims hold after the last renewal.
        kept: by service, the ids of spaces that are to outlive this machine's processes.
        making: a block in which one process of this machine at a time makes something.
    """

    def __init__(
        self,
        machine: str,
        seconds: float,
        kept: Callable[[], Mapping[str, Collection[str]]],
        making: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.machine = machine
        self.seconds = seconds
        self._kept = kept
        self._making = making
        self._renewed: dict[str, float] = {}
        self._kept_renewed: dict[str, float] = {}
        self._unknown: dict[str, float] = {}
        self._missing: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def attend(self, service: str, board: Board) -> None:
        """See that a server knows that this machine lives, before anything is made there, and goes on to know it.

        Raises:
            Exception: whatever its client raises. Then nothing may be made, since no machine would own it.
        """
        last = self._renewed.get(service)
        # The thread does it, unless this process was suspended or the server did not answer.
        if last is None or _now() - last > self.seconds / 2:
            self._renew(service, board)
        with self._lock:
            if service not in self._threads and not self._over.is_set():
                # One for each: a server that does not answer holds up no renewals on others.
                thread = threading.Thread(target=self._work, args=(service, board), name="triton-claims", daemon=True)
                thread.start()
                self._threads[service] = thread

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
        if found := board.notes(_ID):
            return min(found)
        # What the server locks is the machine's, so one process of it at a time.
        with self._making("id"):
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

    def expired(self, seen: Mapping[str, Seen], known: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The spaces that look as if they had no owner, with the services that have something of them.

        A space stays where one of its services has reason to keep it.

        Args:
            seen: by service.
            known: the ids of this machine's spaces that a process of it has, or that are kept.
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
        return found

    def ownerless(self, seen: Mapping[str, Seen], known: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Those of `expired` that certainly have no owner: more than one look has shown it, see `suspect`."""
        found = self.expired(seen, known)
        self._unknown = {space: since for space, since in self._unknown.items() if space in found}
        return {space: services for space, services in found.items() if self._is_certain(space, services, seen)}

    def is_ownerless(self, space: str, seen: Mapping[str, Seen], known: Collection[str]) -> bool:
        """Whether one of `expired` certainly has no owner, as a look at it alone shows."""
        services = self.expired(seen, known).get(space)
        return services is not None and self._is_certain(space, services, seen)

    def _is_certain(self, space: str, services: Collection[str], seen: Mapping[str, Seen]) -> bool:
        if owner_of(space) == self.machine:
            return _now() - self._unknown.setdefault(space, _now()) >= _certain_after(self.seconds)
        return all(seen[service].is_dead(owner_of(space)) for service in services)

    def suspect(self, seen: Seen, board: Board) -> None:
        """Note of machines that look dead that they do, unless that is known. Another process may go on from there."""
        for machine in seen.owners() - {self.machine}:
            if seen.lives(machine) is False and not seen.is_suspected(machine):
                now = board.notes(OWNERS + machine).get(OWNERS + machine)
                if now is not None and not _holds(now):
                    board.put(_SUSPECTS + machine, f"{now.age:.3f}")

    def adopt(self, seen: Seen, board: Board) -> None:
        """Have machines of which a server knows nothing write a note, or count as dead after a while."""
        owners = seen.owners()
        for machine in (owners | seen.lockers()) - {self.machine}:
            if seen.lives(machine) is None:
                # Others wait for a lock, and nothing is lost with it.
                board.put(OWNERS + machine, f"{_UNKNOWN_FOR if machine in owners else self.seconds:g}")

    def over(self, service: str, seen: Seen) -> list[str]:
        """The keys of notes that are about nothing any longer."""
        missing: dict[tuple[str, str], float] = {}
        found: list[str] = []
        busy = seen.owners() | seen.lockers()
        for key, note in seen.notes.items():
            name = key.rpartition("/")[2]
            if key.startswith(KEPT):
                if is_over := name not in seen.spaces:
                    # It may be there again in a moment: what is replaced is removed first.
                    since = missing[service, key] = self._missing.get((service, key), _now())
                    is_over = not _holds(note) or _now() - since >= self.seconds
            elif key.startswith(_SUSPECTS):
                is_over = seen.lives(name) is not False
            else:
                # The note of a machine goes after all that it decides about.
                is_over = seen.lives(name) is False and (key.startswith(LOCKS) or name not in busy)
            if is_over:
                found.append(key)
        self._missing = {each: at for each, at in self._missing.items() if each[0] != service} | missing
        return found

    def close(self) -> None:
        """End the renewals. What is on the servers stays claimed as long as it was said last."""
        with self._lock:
            self._over.set()
            threads = list(self._threads.values())
        deadline = time.monotonic() + _END_TIMEOUT
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

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

    def _work(self, service: str, board: Board) -> None:
        while not self._over.wait(self.seconds / _RENEWALS):
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


def _seconds(note: Note) -> float:
    """Those for which a machine claims what it has, as its last note says."""
    seconds = float(note.text)
    # Not its own, and nothing is known of its own.
    return seconds if seconds != _UNKNOWN_FOR else _USUAL


def _certain_after(seconds: float) -> float:
    """The time in which a living machine writes another note, on a server that it reaches again."""
    return 2 * seconds / _RENEWALS


def _now() -> float:
    """Seconds that go on while this process, or the machine, is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
