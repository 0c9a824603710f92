"""The seam between isolation and the services: what each service can do with spaces, over its own protocol."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from triton_env.errors import TemplateFailed
from triton_env.services.base import Service
from triton_env.services.base_claims import Board

ServiceT = TypeVar("ServiceT", bound=Service)

PREFIX = "triton_"
"""With which the ids of all spaces begin but the environment's own."""
NAMESPACE = f"{PREFIX}ns_"
TEMPLATE = f"{PREFIX}tpl_"
SNAPSHOT = f"{PREFIX}snap_"


@dataclass(frozen=True, slots=True)
class Space:
    """A part of each service that shares nothing with others: a database, a logical database, buckets.

    Attributes:
        id: its name, "triton_ns_3f2a91bc": lower-case letters, digits and underscores, at most 48 characters. Empty
            for the environment's own, which has the names of the settings.
    """

    id: str

    def __post_init__(self) -> None:
        assert not self.id or re.fullmatch(PREFIX + r"[a-z0-9_]{1,41}", self.id), self.id

    @property
    def is_own(self) -> bool:
        """Whether it is the environment's own: what its clients use, and what was there at the start."""
        return not self.id


OWN = Space("")
"""The environment's own space."""
_OWNED = re.compile(f"(?:{NAMESPACE}|{TEMPLATE}|{SNAPSHOT})[a-z0-9_]+_(m[0-9a-f]{{10}})")


def owner_of(identifier: str) -> str:
    """The machine that made a space on servers that others use too, as its id ends with; empty where it has none."""
    found = _OWNED.fullmatch(identifier)
    return found[1] if found else ""


class Slots(Protocol):
    """Numbered places of one service: which space has which is known to all processes that use the environment.

    For servers on which spaces have no names, but numbers. A space gives them back when it is gone from all services;
    isolation sees to that.
    """

    def of(self, space: Space) -> range:
        """Those of a space; none where it has none."""

    def taken(self) -> frozenset[int]:
        """Those that spaces have."""

    def held(self) -> Mapping[int, str]:
        """By the numbers of those that spaces of this machine have by its own account, the ids of these."""

    def claim(
        self, space: Space, among: range, count: int = 1, *, avoided: Callable[[], Collection[int]] = tuple
    ) -> range:
        """Give a space slots that are free, one after the other.

        Args:
            space: that has none.
            among: those to choose from, of which the first `count` are one choice, the next are another, and so on.
            count: how many.
            avoided: those that may not be had, though no space has them; asked while other processes wait.

        Returns:
            The slots; none where too few are free.
        """


class ContentLost(Exception):
    """What a frozen space or a copy of it held is gone: something has wiped it from the server. The text says what.

    Isolation's own: a template is then built again, and a snapshot is refused.
    """


class Beside:
    """What the build of a template makes on a server beside its space, such as roles, which all spaces share.

    Use it in a `with` block around all tries of one build. This one knows of nothing of the kind.
    """

    def made(self) -> tuple[str, ...]:
        """The names of what the build has made so far."""
        return ()

    def are_there(self, names: Collection[str]) -> bool:
        """Whether the server has all of them."""
        return not names

    def make_way(self, error: TemplateFailed) -> bool:
        """Put aside what is left of earlier builds and in the way of this one; whether it is worth another try."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give what was put aside its place again where nothing has taken it."""


class Isolation(ABC, Generic[ServiceT]):
    """What one service does with spaces.

    It keeps connections of its own, made when they are first needed, and may be used by several threads at once.
    Every method raises whatever the client raises where the server does not do it.

    Args:
        service: the environment's, bound to its own space.
    """

    is_lasting = False
    """Whether the server holds data of others, which a snapshot leaves alone."""
    shared_kinds: ClassVar[tuple[str, ...]] = ()
    """The kinds of things that all spaces share, by the words of an error that says that one already exists."""
    how_to_replace: ClassVar[str] = ""
    """What to do where such a thing already exists, such as "make it with CREATE OR REPLACE"."""
    slots: Slots
    """The slots of this service, of which `create` may claim some. Isolation sets them before anything is called."""

    def __init__(self, service: ServiceT) -> None:
        self._service = service

    @property
    def name(self) -> str:
        """The service's name in the API."""
        return self._service.name

    def server_version(self) -> str:
        """The server's version, in the server's words."""
        return self._service.server_version()

    def template_facts(self) -> tuple[str, ...]:
        """What distinguishes templates on this server beside its version, such as the user who owns what is in them."""
        return ()

    def beside(self, *, alone: bool) -> Beside:
        """What the build of a template makes beside its space.

        Args:
            alone: whether no other process uses the server, so that whatever is new is of this build.
        """
        return Beside()

    @abstractmethod
    def bound(self, space: Space) -> ServiceT:
        """The service for clients of that space. Costs nothing: it asks no server."""

    @abstractmethod
    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        """Make a space, as a copy of `source` or as empty as the environment's own is after its start.

        What is left of an earlier space of this id goes first. While it runs, no client writes to `source`. Where that
        is not the environment's own, no client is connected to it either.

        Args:
            space: to be made.
            source: to be copied.
            is_new: whether its id was made up just now, so that nothing can be left of an earlier one. Its slots may
                have been another's.
        """

    @abstractmethod
    def drop(self, space: Space) -> None:
        """Remove a space, also where clients are connected to it. Does nothing if it does not exist."""

    @abstractmethod
    def replace(self, space: Space, source: Space | None) -> None:
        """Make what is in `space` a copy of `source`, or empty (None). `space` may be the environment's own.

        Clients may have to connect again. Where it fails before its last step, `space` is as it was.
        """

    def freeze(self, space: Space) -> None:
        """Make a space that was filled ready to be copied often: no client connects to it any longer."""

    @abstractmethod
    def record(self, space: Space) -> str:
        """What a frozen space holds, in a few words for `verify`; empty where a copy of it is an empty space."""

    @abstractmethod
    def verify(self, source: Space, record: str) -> None:
        """Check that a frozen space holds what it held when it was recorded.

        Raises:
            ContentLost: it does not.
        """

    @abstractmethod
    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        """Check a copy that no client has used yet, and that its source was there until it was complete.

        Args:
            copy: of `source`, or an empty space (None).
            source: a frozen space.
            record: what `source` holds; empty where that is nothing.
            is_new: whether this isolation has made it just now.

        Raises:
            ContentLost: the copy or its source lacks something.
        """

    @abstractmethod
    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        """Bring the server back to what it was after the start, but for the spaces that are kept.

        Args:
            kept: the spaces.
            records: what those of them hold that are frozen.
            idle: those of them that no client uses yet.
        """

    def board(self) -> Board | None:
        """The notes of all who make spaces on the server; None where it keeps none.

        Asked for where machines may share the server, before anything else is called. What `create` and `replace` make
        then, and `drop` removes, is by these notes the space's.
        """
        return None

    def found(self) -> frozenset[str]:
        """The ids of the spaces that the server has something of, as far as it knows; the empty one is never there."""
        return frozenset()

    def break_off(self) -> None:
        """Have fail what other threads wait for: the server is held up, and some clients would wait for ever."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections. May be called again."""
