"""The seam between claims and the services: what a server keeps of those who make spaces on it.

Notes are short texts under keys. Their ages are by the server's clock. They count from its start at the earliest, where
the server says when that was: while it was down, no machine could renew anything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

LOCKS = "lock/"
"""Begins the keys of notes that say who builds something. The name of what is built follows, and the owner."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is written on a server.

    Attributes:
        text: of any length, in any characters.
        age: seconds since it was written, or since the server started where that is less and known.
    """

    text: str
    age: float


class BoardClosed(Exception):
    """A thread goes on with a board that another has closed."""

    def __init__(self) -> None:
        super().__init__("the connections to the server were closed")


class Board(ABC):
    """The notes on one server. All who use the server see the same at the same time.

    Threads may use it at once. Every method raises whatever the client raises where the server does not do it. What
    notes are kept in is made for the first of them, also where a test has just removed it; reading makes nothing.
    """

    rank: ClassVar[int] = 1
    """Of several servers, locks and templates are noted on the one with the lowest rank."""

    @abstractmethod
    def put(self, key: str, text: str) -> None:
        """Write a note, in the place of what is there of that key. It is there as a whole, or as before.

        Args:
            key: ASCII letters, digits, and `_`, `-`, `.`, `/` between them.
        """

    @abstractmethod
    def notes(self, prefix: str) -> Mapping[str, Note]:
        """The notes whose keys begin with something, by their keys."""

    @abstractmethod
    def remove(self, *keys: str) -> None:
        """Remove notes, which need not be there."""

    def attend(self, owner: str) -> None:  # noqa: B027 - for servers with connections that last
        """Have the server know that this owner lives, as long as a connection of this process does.

        Called again and again, so that it is known again where the connection broke.
        """

    def present(self) -> frozenset[str]:
        """The owners that the server knows to live by their connections, whatever its clock says."""
        return frozenset()

    def try_lock(self, name: str, owner: str, is_gone: Callable[[str], bool]) -> bool:
        """Have the right to do something that one owner at a time does; False where another one has it.

        Each who wants it writes a note first and looks then, so of two at least one sees the other. Who sees another
        withdraws. So it takes nothing of a server but that it shows what was written.

        Args:
            name: of what is done.
            is_gone: whether an owner who has a note is dead.
        """
        mine = f"{LOCKS}{name}/{owner}"
        self.put(mine, "")
        found = self.notes(f"{LOCKS}{name}/").keys()
        others = found - {mine}
        # Its own is missing where this process was suspended in between for so long that it was taken for dead.
        if mine not in found or not all(is_gone(key.rpartition("/")[2]) for key in others):
            self.remove(mine)
            return False
        # One that is only suspended sees that it has lost it.
        self.remove(*others)
        return True

    def holds(self, name: str, owner: str) -> bool:
        """Whether an owner still has what `try_lock` gave it."""
        key = f"{LOCKS}{name}/{owner}"
        return key in self.notes(key)

    def unlock(self, name: str, owner: str) -> None:
        """Give it back."""
        self.remove(f"{LOCKS}{name}/{owner}")

    def close(self) -> None:  # noqa: B027 - not all have connections of their own
        """Close its own connections, whatever threads wait for. It makes no others. May be called again."""


class NumberedBoard(Board):
    """That of a server whose spaces have numbers instead of names."""

    @abstractmethod
    def numbers(self) -> Mapping[int, str]:
        """By the numbers that spaces have, their ids."""

    @abstractmethod
    def take(self, numbers: Collection[int], space: str) -> bool:
        """Give a space numbers, all or none; whether they were free.

        A number is free if no note says that a space has it and no process is connected that attends it, as this one
        does from now on.
        """
