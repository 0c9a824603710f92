"""Where it is noted which templates are finished: in the environment's folder, or on its servers for all machines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from triton_env.errors import TritonError
from triton_env.isolation.claims import KEPT, Claims
from triton_env.isolation.ledger import FrozenSpace, SpaceLedger
from triton_env.isolation.reads import Variant, Variants
from triton_env.services.base_claims import Board, Note
from triton_env.services.base_isolation import owner_of
from triton_env.state import store

_Answer = TypeVar("_Answer")

UNUSED_FOR: Final = 7 * 24 * 3600
"""Seconds after which a template goes that no process has begun to use."""
_TEMPLATES: Final = "template/"
_VARIANTS: Final = "variants/"


class TurnLost(Exception):
    """Another machine may build the template by now: this process was suspended, or cut off from the server."""


class Shelf(Protocol):
    """The finished templates of an environment."""

    def making(self, what: str) -> AbstractContextManager[None]:
        """In its block, one at a time makes what goes by this name; others wait."""

    def template(self, digest: str) -> FrozenSpace | None:
        """The template of that digest, if it is finished."""

    def publish(self, digest: str, finished: FrozenSpace, turn: str) -> None:
        """From now on others find it.

        Args:
            turn: what the builder is `making`.

        Raises:
            TurnLost: it is not its turn any longer.
        """

    def use(self, digest: str, finished: FrozenSpace) -> None:
        """Note that it is in use these days."""

    def unused(self) -> Mapping[str, FrozenSpace]:
        """Those that were not used for long."""

    def forget(self, digest: str) -> None:
        """Remove what is noted of it."""

    def variants(self, key: str) -> Variants:
        """The templates that differ in nothing but what their builds have read."""

    def note_variants(self, key: str, variants: Variants) -> None:
        """Note these in the place of those before."""


class LocalShelf:
    """That in the folder; see `Shelf`."""

    def __init__(self, ledger: SpaceLedger) -> None:
        self._ledger = ledger
        self.making = ledger.making
        self.template = ledger.template
        self.forget = ledger.forget_template

    def publish(self, digest: str, finished: FrozenSpace, turn: str) -> None:
        """See `Shelf.publish`."""
        self._ledger.publish_template(digest, finished)

    def use(self, digest: str, finished: FrozenSpace) -> None:
        """See `Shelf.use`."""
        self._ledger.use_template(digest)

    def unused(self) -> Mapping[str, FrozenSpace]:
        """See `Shelf.unused`."""
        return self._ledger.unused_templates(UNUSED_FOR)

    def variants(self, key: str) -> Variants:
        """See `Shelf.variants`."""
        return store.found(self._ledger.variants_path(key), Variants) or Variants()

    def note_variants(self, key: str, variants: Variants) -> None:
        """See `Shelf.note_variants`."""
        store.write(self._ledger.variants_path(key), variants)


class SharedShelf:
    """That on one of the servers; see `Shelf`. The folder has a copy of what this machine has used.

    Args:
        ask: does something with the notes on that server, given what it is for an error to say.
        everywhere: does something with the notes on the servers of these services.
    """

    def __init__(
        self,
        ledger: SpaceLedger,
        claims: Claims,
        ask: Callable[[Callable[[Board], Any], str], Any],
        everywhere: Callable[[tuple[str, ...], Callable[[Board], Any], str], Any],
    ) -> None:
        self._ledger = ledger
        self._claims = claims
        self._ask = ask
        self._everywhere = everywhere

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """See `Shelf.making`."""
        with self._ledger.making(what):
            while not self._ask(lambda board: self._claims.lock(board, what), "lock a template"):
                self._claims.pause()
            try:
                yield
            finally:
                with suppress(TritonError):  # the server is gone, and the lock with it or in due time
                    self._ask(lambda board: board.unlock(what, self._claims.machine), "unlock a template")

    def template(self, digest: str) -> FrozenSpace | None:
        """See `Shelf.template`."""
        return self._templates(digest).get(digest)

    def publish(self, digest: str, finished: FrozenSpace, turn: str) -> None:
        """See `Shelf.publish`."""
        self.use(digest, finished)

        def publish(board: Board) -> bool:
            if not board.holds(turn, self._claims.machine):
                return False
            board.put(_TEMPLATES + digest, store.text_of(finished))
            return True

        if not self._ask(publish, "publish a template"):
            self._ledger.forget_template(digest)
            raise TurnLost(digest)

    def use(self, digest: str, finished: FrozenSpace) -> None:
        """See `Shelf.use`."""
        self._everywhere(
            finished.services,
            lambda board: self._claims.keep(board, finished.space.id, UNUSED_FOR),
            "note that a template is used",
        )
        self._ledger.publish_template(digest, finished)

    def unused(self) -> Mapping[str, FrozenSpace]:
        """See `Shelf.unused`. Those of which a server has nothing are not known in the folder any longer either."""
        there = self._templates("")
        # Versions that knew of one machine alone have noted theirs in the folder only.
        old: dict[str, FrozenSpace] = {}
        for digest, finished in self._ledger.templates().items():
            if not owner_of(finished.space.id):
                old[digest] = finished
            elif there.get(digest) != finished:
                self._ledger.forget_template(digest)
                self._ledger.free_slots(finished.space.id)
        kept: Mapping[str, Note] = self._ask(lambda board: board.notes(KEPT), "list templates")
        return old | {digest: each for digest, each in there.items() if _is_over(kept.get(KEPT + each.space.id))}

    def forget(self, digest: str) -> None:
        """See `Shelf.forget`."""
        self._ledger.forget_template(digest)
        self._ask(lambda board: board.remove(_TEMPLATES + digest), "forget a template")

    def variants(self, key: str) -> Variants:
        """See `Shelf.variants`."""
        note = self._ask(lambda board: board.notes(_VARIANTS + key), "look for a template").get(_VARIANTS + key)
        with suppress(ValueError):
            if note:
                return store.of_text(note.text, Variants)
        return Variants()

    def note_variants(self, key: str, variants: Variants) -> None:
        """See `Shelf.note_variants`."""
        text = store.text_of(replace(variants, known=tuple(map(_without_stamps, variants.known))))
        self._ask(lambda board: board.put(_VARIANTS + key, text), "note a template")

    def _templates(self, prefix: str) -> dict[str, FrozenSpace]:
        notes = self._ask(lambda board: board.notes(_TEMPLATES + prefix), "look for a template")
        found: dict[str, FrozenSpace] = {}
        for key, note in notes.items():
            with suppress(ValueError):  # another version's
                found[key.removeprefix(_TEMPLATES)] = store.of_text(note.text, FrozenSpace)
        return found


def _is_over(note: Note | None) -> bool:
    return note is None or note.age > float(note.text)


def _without_stamps(variant: Variant) -> Variant:
    """What the system says of a file means something on one machine only."""
    reads = tuple(replace(read, stamp=None) for read in variant.reads.reads)
    return replace(variant, reads=replace(variant.reads, reads=reads))
