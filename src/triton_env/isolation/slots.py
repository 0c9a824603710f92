"""Slots: the numbered places that spaces have in a service, such as the logical databases of a server.

A folder for each service, in it a symbolic link for each space that has some: the link has the name of the space, and
leads to "16:17", the numbers from 16 up to 17. So it appears with its content.
"""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from triton_env.services.base_isolation import Space
from triton_env.state import locks
from triton_env.state.folders import make_private


class SlotFolder:
    """See `triton_env.services.base_isolation.Slots`, whose methods these are.

    Args:
        path: the folder of one service, which may not exist.
        turn: the file whose lock is held while slots are given out.
    """

    def __init__(self, path: Path, turn: Path) -> None:
        self._path = path
        self._turn = turn

    def of(self, space: Space) -> range:
        """Those of a space; none where it has none."""
        try:
            return _numbers(self._path / space.id)
        except FileNotFoundError:
            return range(0)

    def taken(self) -> frozenset[int]:
        """Those that spaces have."""
        return frozenset(self.held())

    def held(self) -> dict[int, str]:
        """By their numbers, the ids of the spaces that have them."""
        return {number: name for name, numbers in self._all() for number in numbers}

    def claim(
        self,
        space: Space,
        among: range,
        count: int = 1,
        *,
        avoided: Callable[[], Collection[int]] = tuple,
        take: Callable[[range], bool] = lambda block: True,
    ) -> range:
        """Give a space slots that are free, one after the other; none where too few are.

        Args:
            take: has the last word on whether they are.
        """
        make_private(self._path)
        with locks.locked(self._turn):
            taken = self.taken() | set(avoided())
            for start in range(0, len(among) - count + 1, count):
                block = among[start : start + count]
                if taken.isdisjoint(block) and take(block):
                    (self._path / space.id).symlink_to(f"{block.start}:{block.stop}")
                    return block
        return range(0)

    def _all(self) -> Iterator[tuple[str, range]]:
        with suppress(FileNotFoundError):
            for name in os.listdir(self._path):
                with suppress(FileNotFoundError):  # just given back
                    yield name, _numbers(self._path / name)


def slots_of(folder: Path, service: str) -> SlotFolder:
    """The slots of a service in the folder of an environment, which may not exist."""
    return SlotFolder(folder / "slots" / service, folder / "turn")


def free_slots(folder: Path, identifier: str) -> None:
    """Give back what a space has of all services."""
    # Not by a pattern: a link that leads to no file does not count as being there.
    for service in (folder / "slots").iterdir():
        (service / identifier).unlink(missing_ok=True)


def _numbers(path: Path) -> range:
    start, _, stop = os.readlink(path).partition(":")
    return range(int(start), int(stop))
