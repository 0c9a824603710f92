"""What backups and restores know of the claims on a Redis: they leave alone what others have, and the notes of it.

The notes are in the last logical database, which is the user's where the server has 16 or fewer. A server with a single
one has no notes. Nor has one that does not let this user see them: there, no claims were made in its name.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from triton_env.services import Redis
from triton_env.services.base_backup import KnownSpaces
from triton_env.services.names import RESTORE
from triton_env.services.redis.claims import CHANNEL, KEY, NUMBER, WORDS, RedisBoard, notes_of
from triton_env.services.redis.connection import Connection, databases, used_databases
from triton_env.services.redis.names import OWN_NUMBERS

if TYPE_CHECKING:
    import redis

_Answer = TypeVar("_Answer")

_FLUSH: Final = (
    WORDS
    + """
local n, id = ARGV[2], ARGV[3]
local whose = text(n)
if (whose and whose ~= id) or not is_only(n, id) then return 0 end
local notes = n == ARGV[4] and redis.call('DUMP', KEYS[1])
redis.call('SELECT', n)
redis.call('FLUSHDB', 'ASYNC')
if notes then redis.call('RESTORE', KEYS[1], 0, notes) end
return 1
"""
)
_RELEASE: Final = (
    WORDS
    + """
for i = 3, #ARGV do
    if text(ARGV[i]) == ARGV[2] then redis.call('HDEL', KEYS[1], 'number/' .. ARGV[i]) end
end
"""
)


def taken_numbers(service: Redis, spaces: KnownSpaces) -> frozenset[int]:
    """The logical databases that spaces have, of any machine."""

    def noted(client: "redis.Redis", last: int) -> Mapping[str, str]:
        return {key: note.text for key, note in notes_of(client, NUMBER).items()}

    # What a restore has noted is known by its key, and is the user's once that is over.
    found = {
        int(key.removeprefix(NUMBER))
        for key, space in (_with_notes(service, noted) or {}).items()
        if not space.startswith(RESTORE)
    }
    return spaces.taken_slots(service.name) | found


def used_numbers(service: Redis) -> list[int]:
    """The logical databases that hold keys, without that which holds notes alone."""

    def alone(client: "redis.Redis", last: int) -> int | None:
        return last if client.type(KEY) == b"hash" and client.dbsize() == 1 else None

    notes = _with_notes(service, alone)
    return [number for number in used_databases(service) if number != notes]


def holds_notes(service: Redis, number: int) -> bool:
    """Whether notes are in that logical database, beside what is the user's."""

    def is_there(client: "redis.Redis", last: int) -> bool:
        return number == last and client.type(KEY) == b"hash"

    return bool(_with_notes(service, is_there))


def hold(service: Redis, numbers: Collection[int], mark: str) -> RedisBoard | None:
    """Have no machine take those numbers until they are released.

    Args:
        mark: of the restore that does.

    Returns:
        What holds them, to be closed; None where a space has one of them.
    """
    board = RedisBoard(service)
    count = databases(service)
    claimable = range(OWN_NUMBERS.stop if count > OWN_NUMBERS.stop else 1, count - 1)
    try:
        if not (wanted := [number for number in numbers if number in claimable]):
            return board
        # None where this user may not: then no machine claims anything in its name.
        is_held = _with_notes(service, lambda client, last: board.take(wanted, mark))
    except BaseException:
        board.close()
        raise
    if is_held is False:
        board.close()
        return None
    return board


def release(service: Redis, numbers: Collection[int], mark: str) -> None:
    """Give back what a restore has held."""
    _with_notes(service, lambda client, last: client.eval(_RELEASE, 1, KEY, CHANNEL, mark, *map(str, numbers)))


def flush(service: Redis, number: int, mark: str) -> None:
    """Empty a logical database that is the user's or a restore's, but for notes. One that a space has is left alone."""
    done = _with_notes(service, lambda client, last: client.eval(_FLUSH, 1, KEY, CHANNEL, str(number), mark, str(last)))
    if done is None:
        with Connection(service, number) as connection:
            connection.ask("FLUSHDB", "ASYNC")


def _with_notes(service: Redis, act: "Callable[[redis.Redis, int], _Answer]") -> _Answer | None:
    """Do something where the notes are; None where there are none, or this user may not."""
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError, ResponseError
    from redis.retry import Retry

    if (last := databases(service) - 1) == 0:
        return None
    retry = Retry(NoBackoff(), 0)
    with service.client(db=last, protocol=2, decode_responses=False, retry=retry) as client:
        try:
            return act(client, last)
        except NoPermissionError:
            return None
        except ResponseError as error:
            if "cluster mode" not in str(error):
                raise
            return None
