"""What a Redis keeps of those who make spaces on it: which logical database is whose.

Notes are fields of one hash in the last logical database. That a number is in use is also known by a subscription of
the process that has it, to a channel that nothing is published to: FLUSHALL empties the hash and leaves subscriptions,
and they need no clock.
"""

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from triton_env.services import Redis
from triton_env.services.base_backup import KnownSpaces
from triton_env.services.base_claims import Note, NumberedBoard
from triton_env.services.base_isolation import owner_of
from triton_env.services.redis.connection import databases

if TYPE_CHECKING:
    import redis
    import redis.client

KEY: Final = "triton_claims"
"""Of the hash."""
_NUMBER: Final = "number/"
_CHANNEL: Final = f"{KEY}:"
_TIMEOUT: Final = 30
"""Seconds for one answer."""

_WORDS: Final = """
local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
local function text(n)
    local note = redis.call('HGET', KEYS[1], 'number/' .. n)
    return note and string.match(note, '^%S+ (.*)$')
end
local function is_attended(n) return redis.call('PUBSUB', 'NUMSUB', ARGV[1] .. n)[2] > 0 end
local function give(n, id) redis.call('HSET', KEYS[1], 'number/' .. n, now .. ' ' .. id) end
"""
_PUT: Final = _WORDS + "redis.call('HSET', KEYS[1], ARGV[2], now .. ' ' .. ARGV[3])"
_TAKE: Final = (
    _WORDS
    + """
for i = 3, #ARGV do if text(ARGV[i]) or is_attended(ARGV[i]) then return 0 end end
for i = 3, #ARGV do give(ARGV[i], ARGV[2]) end
return 1
"""
)
_RENEW: Final = (
    _WORDS
    + """
if not text(ARGV[3]) then give(ARGV[3], ARGV[2]) end
return text(ARGV[3]) == ARGV[2] and 1 or 0
"""
)
_EMPTY: Final = (
    _WORDS
    + """
local id, n, is_mine, goes, is_old = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1', ARGV[6] == '1'
local whose = text(n)
if not whose and (is_mine or (is_old and not is_attended(n))) then whose = id; give(n, id) end
if whose ~= id or (not is_mine and is_attended(n)) then return 0 end
if goes then redis.call('HDEL', KEYS[1], 'number/' .. n) end
redis.call('SELECT', n)
redis.call('FLUSHDB', 'ASYNC')
return 1
"""
)
"""Empties a logical database if it is that space's, in one step: nobody can take the number in between."""


class RedisBoard(NumberedBoard):
    """The notes on one Redis; see `Board`."""

    def __init__(self, service: Redis) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._mine: dict[int, str] = {}
        self._made: redis.Redis | None = None
        self._listener: redis.client.PubSub | None = None
        self._owner = ""

    def put(self, key: str, text: str) -> None:
        with self._lock:
            self._run(_PUT, _CHANNEL, key, text)

    def notes(self, prefix: str) -> Mapping[str, Note]:
        with self._lock:
            return _notes(self._client, prefix)

    def remove(self, *keys: str) -> None:
        if keys:
            with self._lock:
                self._client.hdel(KEY, *keys)

    def attend(self, owner: str) -> None:
        """See `Board.attend`. Also writes down again what FLUSHALL has wiped of this process's numbers."""
        with self._lock:
            self._owner = owner
            self._listen(owner)
            for number, space in self._mine.items():
                self._run(_RENEW, _CHANNEL, space, number)

    def present(self) -> frozenset[str]:
        with self._lock:
            channels: Any = self._client.pubsub_channels(f"{_CHANNEL}[a-z]*")
        return frozenset(each.decode().removeprefix(_CHANNEL) for each in channels)

    def numbers(self) -> Mapping[int, str]:
        return {int(key.removeprefix(_NUMBER)): note.text for key, note in self.notes(_NUMBER).items()}

    def take(self, numbers: Collection[int], space: str) -> bool:
        with self._lock:
            if not self._run(_TAKE, _CHANNEL, space, *numbers):
                return False
            self._mine |= dict.fromkeys(numbers, space)
            self._listen(*numbers)
            # Between the two, FLUSHALL may have wiped the note, and another machine taken the number.
            if all(self._run(_RENEW, _CHANNEL, space, number) for number in numbers):
                return True
            self._let_go(numbers)
            return False

    def has(self, number: int, space: str) -> bool:
        """Whether a space has that number still."""
        with self._lock:
            if self._mine.get(number) == space:
                return bool(self._run(_RENEW, _CHANNEL, space, number))
            note = _notes(self._client, f"{_NUMBER}{number}").get(f"{_NUMBER}{number}")
            return note is not None and note.text == space

    def empty(self, number: int, space: str, *, goes: bool = False) -> bool:
        """Empty a logical database if it is that space's; whether it was.

        It is not where a note says so, or where none does and this process has not attended it all the time. One that
        another process attends is left alone.

        Args:
            goes: whether the space gives it back.
        """
        with self._lock:
            is_mine = self._mine.get(number) == space
            # One that a version made which noted nothing on servers: the folder of this machine says that it has it.
            is_old = not owner_of(space)
            done = bool(self._run(_EMPTY, _CHANNEL, space, number, int(is_mine), int(goes), int(is_old)))
            if goes and is_mine:
                self._let_go([number])
            return done

    def close(self) -> None:
        with self._lock:
            self._forget()
            self._mine.clear()

    @property
    def _client(self) -> "redis.Redis":
        if self._made is None:
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            # A second try of its own could not know whether the first has taken a number.
            self._made = self._service.client(
                db=databases(self._service) - 1,
                protocol=2,
                decode_responses=False,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                client_name="triton-env",
            )
        return self._made

    def _run(self, script: str, *arguments: Any) -> Any:
        return self._client.eval(script, 1, KEY, *arguments)

    def _listen(self, *names: "int | str") -> None:
        """Subscribe; all that was subscribed to before is subscribed to again where the connection broke."""
        from redis.exceptions import RedisError

        wanted = {f"{_CHANNEL}{name}".encode() for name in (*names, *self._mine, *filter(None, [self._owner]))}
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.ping()
                self._subscribe(listener, wanted - listener.channels.keys())
            except (RedisError, OSError):
                listener.close()
                listener = None
        if listener is None:
            listener = self._client.pubsub()  # type: ignore[no-untyped-call]
            try:
                self._subscribe(listener, wanted)
            except BaseException:
                listener.close()
                raise
        self._listener = listener

    def _subscribe(self, listener: "redis.client.PubSub", channels: Collection[bytes]) -> None:
        if channels:
            listener.subscribe(*channels)
        left = len(channels)
        while (message := listener.get_message(timeout=_TIMEOUT if left else 0)) or left:
            if message is None:
                raise TimeoutError("Redis does not confirm a subscription")
            left -= message["type"] == "subscribe"

    def _let_go(self, numbers: Collection[int]) -> None:
        for number in numbers:
            self._mine.pop(number, None)
        if self._listener is not None and numbers:
            self._listener.unsubscribe(*(f"{_CHANNEL}{number}" for number in numbers))  # type: ignore[no-untyped-call]

    def _forget(self) -> None:
        for each in (self._listener, self._made):
            if each is not None:
                with suppress(Exception):
                    each.close()
        self._listener = self._made = None


def taken_numbers(service: Redis, spaces: KnownSpaces) -> frozenset[int]:
    """The logical databases that spaces have, of any machine, and the one in which that is noted."""
    taken, last = spaces.taken_slots(service.name), databases(service) - 1
    with service.client(db=last, protocol=2, decode_responses=False) as client:
        # An application may have a key of that name for something else, or other keys beside it.
        if client.type(KEY) != b"hash":
            return taken
        found = {int(key.removeprefix(_NUMBER)) for key in _notes(client, _NUMBER)}
        return taken | found | ({last} if client.dbsize() == 1 else set())


def _notes(client: "redis.Redis", prefix: str) -> dict[str, Note]:
    pipeline = client.pipeline(transaction=True)
    pipeline.hgetall(KEY)
    pipeline.time()
    pipeline.info("server")
    fields, (seconds, micros), server = pipeline.execute()
    now, uptime = seconds + micros / 1e6, float(server["uptime_in_seconds"])
    found: dict[str, Note] = {}
    for field, value in fields.items():
        key = field.decode()
        if key.startswith(prefix):
            at, _, text = value.decode().partition(" ")
            found[key] = Note(text, min(now - float(at), uptime))
    return found
