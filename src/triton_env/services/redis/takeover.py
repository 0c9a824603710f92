"""How a restore of Redis is finished or taken back: logical databases are swapped."""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triton_env.errors import RestoreFailed
from triton_env.services import Redis
from triton_env.services.base_backup import Note, plan_from
from triton_env.services.redis.claimed import flush, release
from triton_env.services.redis.claims import KEY as CLAIMS_KEY
from triton_env.services.redis.connection import KEY, Command, Connection, databases


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore does to a Redis.

    Attributes:
        mark: is in the key of each logical database that the restore uses, and names its connections.
        staged: by the number in the end, as text since JSON has no other keys, that into which it is loaded.
        in_place: the numbers that are loaded in their place, since they are empty and too few others are.
        emptied: the numbers of which the backup has nothing.
        functions: what FUNCTION DUMP gave before, in base64; None where the server knows no functions.
    """

    mark: str
    staged: Mapping[str, int] = field(default_factory=dict)
    in_place: Sequence[int] = ()
    emptied: Sequence[int] = ()
    functions: str | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Numbers in the end, and those into which they are loaded."""
        return [(int(number), target) for number, target in self.staged.items()]

    @property
    def numbers(self) -> set[int]:
        """All that are swapped or loaded into."""
        return {number for pair in self.pairs for number in pair} | set(self.in_place)

    def new(self, number: int) -> str:
        """What the key says where that number is loaded."""
        return f"{self.mark} new {number}"

    def old(self, number: int) -> str:
        """What the key says where that is what the number held before."""
        return f"{self.mark} old {number}"


class RedisTakeover:
    """See `Takeover`.

    Args:
        plan: what `RedisRestorer.plan` gave.
    """

    def __init__(self, service: Redis, plan: Plan) -> None:
        self._service = service
        self._plan = plan

    def swap(self, functions: Sequence[bytes] | None) -> None:
        """Change all over in one transaction.

        Args:
            functions: the code of the libraries that are to be there; None where the server knows no functions.

        Raises:
            RestoreFailed: what was loaded is gone, as after FLUSHALL.
        """
        for number, target in (*self._plan.pairs, *((number, number) for number in self._plan.in_place)):
            if self._says(target) != self._plan.new(number):
                raise RestoreFailed(
                    f"What was loaded for the logical database {number} is gone.",
                    where=f"{self._service.host}:{self._service.port}, logical database {target}",
                    cause="something has emptied it since, such as FLUSHALL",
                    hint="try again",
                )
        commands = list(self._swaps("old"))
        for number in self._plan.in_place:
            commands += [("SELECT", number), ("DEL", KEY)]
        if functions is not None:
            commands += [("FUNCTION", "FLUSH"), *(("FUNCTION", "LOAD", code) for code in functions)]
        with Connection(self._service, 0, self._plan.mark) as connection:
            connection.at_once([*commands, ("SELECT", 0)])

    def put_back(self) -> None:
        self._end_connections()
        swapped = [pair for pair in self._plan.pairs if self._says(pair[1]) == self._plan.old(pair[0])]
        with Connection(self._service, 0) as connection:
            if swapped:
                connection.at_once([*self._swaps("new", swapped), ("SELECT", 0)])
            if self._plan.functions is not None:
                connection.ask("FUNCTION", "RESTORE", b64decode(self._plan.functions), "FLUSH")
        for number in self._plan.in_place:
            # The transaction has taken the key away. Before the restore there was nothing in it.
            self._flush(number)

    def discard(self) -> None:
        self._end_connections()
        for number, target in self._plan.pairs:
            if self._says(target) == self._plan.new(number):
                self._flush(target)
        for number in self._plan.in_place:
            if self._says(number) == self._plan.new(number):
                self._flush(number)
        release(self._service, self._plan.numbers, self._plan.mark)

    def finish(self) -> None:
        # A server that was cut off may have lost the transaction, which is on disk within a second.
        lost = [pair for pair in self._plan.pairs if self._says(pair[1]) == self._plan.new(pair[0])]
        if lost:
            with Connection(self._service, 0) as connection:
                connection.at_once([*self._swaps("old", lost), ("SELECT", 0)])
        kept = [target for number, target in self._plan.pairs if self._says(target) == self._plan.old(number)]
        # The keys go last: without any of them, this is another server, or all is done.
        if kept or not self._plan.staged:
            for number in self._plan.emptied:
                self._flush(number)
        for target in kept:
            self._flush(target)
        release(self._service, self._plan.numbers, self._plan.mark)

    def _swaps(self, state: str, pairs: Sequence[tuple[int, int]] | None = None) -> Iterator[Command]:
        last = databases(self._service) - 1
        for number, target in self._plan.pairs if pairs is None else pairs:
            says = self._plan.old(number) if state == "old" else self._plan.new(number)
            yield from (("SELECT", target), ("DEL", KEY), ("SWAPDB", number, target))
            if number == last:
                yield ("MOVE", CLAIMS_KEY, last)  # the notes of machines stay where they look for them
            yield ("SET", KEY, says)

    def _says(self, number: int) -> str:
        with Connection(self._service, number) as connection:
            kind = connection.ask("TYPE", KEY)
            return (connection.ask("GET", KEY) or b"").decode(errors="replace") if kind == b"string" else ""

    def _flush(self, number: int) -> None:
        flush(self._service, number, self._plan.mark)

    def _end_connections(self) -> None:
        """End the connections of the restore: a server goes on with what a killed client has sent."""
        with Connection(self._service, 0) as connection:
            for line in connection.ask("CLIENT", "LIST").decode(errors="replace").splitlines():
                about = dict(word.partition("=")[::2] for word in line.split())
                if about.get("name") == self._plan.mark:
                    connection.ask("CLIENT", "KILL", "ID", about["id"], "SKIPME", "yes")


def takeover(service: Redis, plan: Mapping[str, Any], note: Note) -> RedisTakeover:
    """The takeover of a restore by what `RedisRestorer.plan` gave; see `TakeoverOf`."""
    return RedisTakeover(service, plan_from(Plan, plan))
