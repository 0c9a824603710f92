"""Spaces over all services of an environment at once: made, copied and removed together, and by one holder each."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from triton_env.errors import IsolationFailed, ServiceDied, TritonError, UsageError
from triton_env.isolation.claims import KEPT, Claims, Seen
from triton_env.isolation.ledger import FrozenSpace, SpaceLedger
from triton_env.isolation.parts import ServiceParts
from triton_env.isolation.shelf import LocalShelf, SharedShelf, Shelf
from triton_env.isolation.target import IsolationTarget
from triton_env.services import Service
from triton_env.services.base_claims import LOCKS
from triton_env.services.base_isolation import NAMESPACE, ContentLost, Isolation, Space, owner_of
from triton_env.state.locks import Held

_Answer = TypeVar("_Answer")

_PATIENCE = 2
"""Seconds to wait for a process that removes what a dead one left of a space."""
_PATIENCE_INTERVAL = 0.05
_LOOK_INTERVAL = 1
"""Seconds between two looks at whether a machine that looks dead writes that it lives."""


class SpaceManager(ServiceParts):
    """The spaces of an environment, as one process sees them."""

    def __init__(self, environment: IsolationTarget, ledger: SpaceLedger) -> None:
        super().__init__(environment, ledger)
        self._facts: Mapping[str, tuple[str, ...]] = {}
        self._shelf: Shelf | None = None

    @property
    def suffix(self) -> str:
        """What ends the ids of spaces that this machine makes."""
        return f"_{self.claims.machine}" if self.claims else ""

    def shelf(self) -> Shelf:
        """Where it is noted which templates are finished. One server has it for all: the same on every machine."""
        if self._shelf is None:
            self._shelf = LocalShelf(self.ledger)
            boards = {name: board for name in self.services if (board := self.board_of(name))}
            if self.claims and boards:
                first = min(boards, key=lambda name: (boards[name].rank, name))
                self._shelf = SharedShelf(
                    self.ledger,
                    self.claims,
                    lambda act, doing: self.noted((first,), act, doing)[first],
                    self.noted,
                )
        return self._shelf

    def make(
        self, identifier: str, services: Collection[str], source: FrozenSpace | None, *, is_new: bool = False
    ) -> tuple[Space, Held]:
        """Make a space, as a copy of `source` or empty. Nothing is left of it where that fails.

        Args:
            services: that are to have something of it.
            source: to be copied; the environment's own too.
            is_new: whether the id was made up just now, so that no earlier space can have had it.

        Returns:
            The space, and the lock that says that this process uses it.

        Raises:
            UsageError: a living process has one of that id.
            IsolationFailed: a server refused, or has no room for another one.
            ContentLost: the source has lost something.
        """
        with self.ledger.adding():
            return self._make(identifier, services, source, is_new)

    def remove(self, space: Space, services: Collection[str], held: Held) -> None:
        """Remove a space that this process uses.

        Raises:
            IsolationFailed: a server refused. It is tried again by the next sweep.
        """
        assert held.is_locked, f"{space.id} may belong to another process by now"
        try:
            self._drop(space, services, was_kept=not space.id.startswith(NAMESPACE))
        except BaseException:
            held.release()
            raise
        self.ledger.give_back(space.id, held)

    def bound(self, space: Space, services: Iterable[str]) -> dict[str, Service]:
        """The services, for clients of that space."""
        return {name: self.isolation(name).bound(space) for name in services}

    def replace(self, space: Space, source: FrozenSpace | None, services: Collection[str], doing: str) -> None:
        """Make what is in a space a copy of another, or empty.

        Raises:
            IsolationFailed: a server refused.
            ContentLost: the source has lost something. Where that was so before, `space` is as it was.
        """
        if source:
            self.verify(source, services)
        self.each(
            services,
            lambda each: self._copy(each, space, source, lambda origin: each.replace(space, origin), is_used=True),
            doing,
        )

    def finish(self, space: Space, services: Collection[str]) -> FrozenSpace:
        """It accepts no connections from now on, and is copied often. What it holds is recorded."""

        def finish(isolation: Isolation[Any]) -> str:
            isolation.freeze(space)
            return isolation.record(space)

        return FrozenSpace(space, tuple(services), self.each(services, finish, "finish a template"))

    def verify(self, finished: FrozenSpace, services: Collection[str]) -> None:
        """Check that the servers still hold what was recorded.

        Raises:
            ContentLost: something has wiped it.
        """

        def verify(isolation: Isolation[Any]) -> None:
            if record := finished.records.get(isolation.name):
                isolation.verify(finished.space, record)

        self.each(services, verify, "say what it holds")

    def lost(self, space: Space, source: FrozenSpace | None, services: Collection[str]) -> tuple[str, ...]:
        """The services in which a copy that no client has used lacks something that its source has."""

        def is_lost(isolation: Isolation[Any]) -> bool:
            record = source.records.get(isolation.name, "") if source else ""
            try:
                isolation.verify_copy(space, source.space if source and record else None, record)
            except ContentLost:
                return True
            return False

        found = self.each(services, is_lost, "say what it holds")
        return tuple(name for name in services if found[name])

    def clear(self, idle: Collection[Space]) -> None:
        """Bring all servers back to what they were, but for the spaces that are in use or kept.

        Args:
            idle: spaces that no client uses yet.
        """
        with self.ledger.clearing():
            kept = self.ledger.known()
            finished = (*self.ledger.templates().values(), *self.ledger.snapshots().values())

            def clear(isolation: Isolation[Any]) -> None:
                records = [each.records[isolation.name] for each in finished if isolation.name in each.records]
                isolation.clear(kept, records, idle)

            self.each(self.services, clear, "be reset")

    def facts(self) -> Mapping[str, tuple[str, ...]]:
        """What distinguishes the servers for templates, by the names of the services. They are asked once.

        But for what distinguishes servers of the same kind: where that is wiped, it is another one on all machines.
        """
        if not self._facts:
            self._facts = self.each(self.services, _facts, "report its version")
        if not (claims := self.claims):
            return self._facts
        identities = self.noted(self.services, claims.identity, "say which server it is")
        return {name: (*facts, identities.get(name, "")) for name, facts in self._facts.items()}

    def keep(self, space: Space, services: Collection[str]) -> None:
        """Have a space outlive this machine's processes, on servers that others use too."""
        if claims := self.claims:
            self.noted(services, lambda board: claims.keep(board, space.id), "keep a namespace")

    def sweep(self) -> None:
        """Remove the spaces of dead processes, and what machines left that are gone.

        Raises:
            IsolationFailed: a server refused. The others were removed all the same.
        """
        try:
            self.sweep_own()
        finally:
            self.sweep_machines()

    def sweep_own(self, given_up: str = "") -> None:
        """Remove the spaces of dead processes of this machine, as far as this environment has their services.

        Args:
            given_up: the id of a space that goes whatever machine made it, unless that one lives elsewhere.

        Raises:
            IsolationFailed: a server refused. The others were removed all the same.
        """
        if given_up and self._lives_elsewhere(owner_of(given_up)):
            given_up = ""
        failed: TritonError | None = None
        for identifier, held, lease in self.ledger.abandoned(given_up):
            here = [name for name in lease.services if name in self.services]
            try:
                self._drop(Space(identifier), here, was_kept=True)
            except TritonError as error:
                failed = error
                held.release()
                continue
            except BaseException:
                held.release()
                raise
            if len(here) == len(lease.services):
                self.ledger.give_back(identifier, held)
            else:
                held.release()  # to be ended by a process that has the other services
        if failed:
            raise failed

    def sweep_machines(self) -> None:
        """Remove what machines left on the servers whose claims have expired, and what this one does not know any more.

        Raises:
            IsolationFailed: a server refused. The others were removed all the same.
        """
        if (claims := self.claims) is None:
            return
        failed: TritonError | None = None
        seen = self._seen(claims)
        ownerless = claims.ownerless(seen, self._known())
        for identifier, services in ownerless.items():
            try:
                # What went before took its time, in which other machines may have written notes.
                if claims.is_ownerless(identifier, self._seen_of(identifier, services), self._known()):
                    self._remove_ownerless(identifier, services)
            except TritonError as error:
                failed = error
        self.tidy(self._seen(claims) if ownerless else seen)
        if failed:
            raise failed

    def expired(self) -> Mapping[str, tuple[str, ...]]:
        """The spaces that look as if they had no owner, with their services. Removes nothing.

        Raises:
            IsolationFailed: a server does not answer.
        """
        return self.claims.expired(self._seen(self.claims), self._known()) if self.claims else {}

    def remove_expired(self, identifier: str, services: Collection[str]) -> None:
        """Remove one of these, unless it has an owner. That takes as long as a machine has to say that it lives.

        Args:
            services: that have something of it.

        Raises:
            IsolationFailed: a server refused.
        """
        if (claims := self.claims) is None:
            return
        while not claims.is_ownerless(identifier, seen := self._seen_of(identifier, services), self._known()):
            if identifier not in claims.expired(seen, self._known()):
                return
            self.tidy()
            time.sleep(_LOOK_INTERVAL)
        self._remove_ownerless(identifier, services)

    def _lives_elsewhere(self, machine: str) -> bool:
        if (claims := self.claims) is None or machine in ("", claims.machine):
            return False
        return any(each.lives(machine) for each in self._seen(claims).values())

    def _remove_ownerless(self, identifier: str, services: Collection[str]) -> None:
        # None where another process of this machine is at it.
        if held := self.ledger.take(identifier, services):
            self.remove(Space(identifier), services, held)

    def _known(self) -> frozenset[str]:
        return frozenset(space.id for space in self.ledger.known())

    def _seen(self, claims: Claims) -> Mapping[str, Seen]:
        def see(isolation: Isolation[Any]) -> Seen | None:
            return Seen.of(isolation, board) if (board := self.board_of(isolation.name)) else None

        found = self.each(self.services, see, "list what is on it")
        return {name: each for name, each in found.items() if each}

    def _seen_of(self, identifier: str, services: Collection[str]) -> Mapping[str, Seen]:
        def see(isolation: Isolation[Any]) -> Seen:
            return Seen.of_one(identifier, self.boards[isolation.name])

        return self.each(services, see, "say whose a namespace is")

    def tidy(self, looked: Mapping[str, Seen] | None = None) -> None:
        """Remove the notes that are about nothing any longer, and note which machines are unknown or look dead.

        Args:
            looked: what was there just now; asked for by default.

        Raises:
            IsolationFailed: a server refused.
        """
        if (claims := self.claims) is None:
            return
        seen = self._seen(claims) if looked is None else looked

        def tidy(isolation: Isolation[Any]) -> None:
            board, each = self.boards[isolation.name], seen[isolation.name]
            claims.adopt(each, board)
            claims.suspect(each, board)
            board.remove(*claims.over(isolation.name, each))
            # Of this machine, what a process that was killed was building.
            for key in (key for key in each.notes if key.startswith(LOCKS) and key.endswith(f"/{claims.machine}")):
                if held := self.ledger.unmade(key.split("/")[1]):
                    try:
                        board.remove(key)
                    finally:
                        held.release()

        self.each(list(seen), tidy, "forget what is over")

    def _make(
        self, identifier: str, services: Collection[str], source: FrozenSpace | None, is_new: bool
    ) -> tuple[Space, Held]:
        def create(isolation: Isolation[Any]) -> None:
            self.attended(isolation.name)
            self._copy(isolation, space, source, lambda origin: isolation.create(space, origin, is_new=is_new))

        space = Space(identifier)
        held = self._taken(identifier, services)
        try:
            self.each(services, create, "make a namespace")
        except BaseException as error:
            if _timed_out(error):
                held.release()  # it would be waited for once more: the next sweep removes it
                raise
            try:
                self.remove(space, services, held)
            except Exception as another:
                held.release()  # the next sweep tries again
                if not isinstance(another, ServiceDied):
                    error.add_note(f"What was made of {identifier} could not be removed: {another}")
            raise
        return space, held

    def _copy(
        self,
        isolation: Isolation[Any],
        space: Space,
        source: FrozenSpace | None,
        act: Callable[[Space | None], None],
        *,
        is_used: bool = False,
    ) -> None:
        """Make a copy, and see that it has all of its source.

        Args:
            space: becomes the copy.
            source: to be copied.
            act: makes it, called with what is to be copied: nothing where a copy would be empty anyway.
            is_used: whether clients may write to the copy already, so that it may hold something else.
        """
        record = source.records.get(isolation.name) if source else ""
        if source is None or record == "":
            act(None)
        elif record is None:
            act(source.space)
        else:
            try:
                act(source.space)
            except Exception:
                isolation.verify(source.space, record)  # what is lost is the cause, and says more
                raise
            if is_used:
                isolation.verify(source.space, record)
            else:
                isolation.verify_copy(space, source.space, record, is_new=True)

    def _drop(self, space: Space, services: Collection[str], *, was_kept: bool) -> None:
        def drop(isolation: Isolation[Any]) -> None:
            isolation.drop(space)
            if was_kept and (board := self.board_of(isolation.name)):
                board.remove(KEPT + space.id)

        self.each(services, drop, "remove a namespace")

    def _taken(self, identifier: str, services: Collection[str]) -> Held:
        deadline = time.monotonic() + _PATIENCE
        while (held := self.ledger.take(identifier, services)) is None:
            if self.ledger.is_kept(identifier):
                raise UsageError(
                    f"The namespace {identifier} is kept, so its name is taken.",
                    where=str(self.ledger.path),
                    hint="take another name, or remove it with: python -m triton_env prune --kept",
                )
            if time.monotonic() > deadline:
                raise UsageError(
                    f"The namespace {identifier} is in use.",
                    where=f"environment {self.environment.id}",
                    hint="take another name, or none: env.namespace() makes one up",
                )
            time.sleep(_PATIENCE_INTERVAL)
        return held


def _timed_out(error: BaseException) -> bool:
    """Whether a server has not answered in time. Each client has an error of its own for that."""
    cause = error.__cause__ if isinstance(error, IsolationFailed) else None
    return cause is not None and "Timeout" in type(cause).__name__


def _facts(isolation: Isolation[Any]) -> tuple[str, ...]:
    return isolation.server_version(), *isolation.template_facts()
