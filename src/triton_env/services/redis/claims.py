"""What a Redis keeps of those who make spaces on it: which logical database is whose.

Notes are fields of one hash in the last logical database. That a number is in use is also known by subscriptions of the
process that has it, to channels that nothing is published to: FLUSHALL empties the hash and leaves subscriptions, and
they need no clock. One channel is the number's, another is the number's and the space's: a number with more subscribers
on the first is attended for another space as well.
"""

import logging
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from triton_env.core.forks import not_in_children
from triton_env.services import Redis
from triton_env.services.base_claims import Note, NumberedBoard

if TYPE_CHECKING:
    import redis
    import redis.client

_log = logging.getLogger(__name__)

KEY: Final = "triton_claims"
"""Of the hash."""
NUMBER: Final = "number/"
"""Begins the keys of the notes that say which space has a number."""
CHANNEL: Final = f"{KEY}:"
_TIMEOUT: Final = 30
"""Seconds for one answer."""
_CLOSE_INTERVAL: Final = 0.05
"""Seconds that `close` waits for a thread at a time."""

WORDS: Final = """
local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
local function text(n)
    local note = redis.call('HGET', KEYS[1], 'number/' .. n)
    return note and string.match(note, '^%S+ (.*)$')
end
local function listeners(n) return redis.call('PUBSUB', 'NUMSUB', ARGV[1] .. n)[2] end
local function is_attended(n) return listeners(n) > 0 end
local function is_only(n, id) return listeners(n) <= listeners(n .. ':' .. id) end
local function give(n, id) redis.call('HSET', KEYS[1], 'number/' .. n, now .. ' ' .. id) end
"""
_PUT: Final = WORDS + "redis.call('HSET', KEYS[1], ARGV[2], now .. ' ' .. ARGV[3])"
_TAKE: Final = (
    WORDS
    + """
for i = 3, #ARGV do if text(ARGV[i]) or is_attended(ARGV[i]) then return 0 end end
for i = 3, #ARGV do give(ARGV[i], ARGV[2]) end
return 1
"""
)
_RENEW: Final = (
    WORDS
    + """
local lost = {}
for i = 2, #ARGV, 2 do
    local n, id = ARGV[i], ARGV[i + 1]
    if not text(n) and is_only(n, id) then give(n, id) end
    if text(n) ~= id then lost[#lost + 1] = tonumber(n) end
end
return lost
"""
)
_EMPTY: Final = (
    WORDS
    + """
local id, n, is_mine, goes = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
if not text(n) and is_only(n, id) then give(n, id) end
if text(n) ~= id or (not is_mine and is_attended(n)) then return 0 end
if goes then redis.call('HDEL', KEYS[1], 'number/' .. n) end
redis.call('SELECT', n)
redis.call('FLUSHDB', 'ASYNC')
return 1
"""
)
"""Empties a logical database if it is that space's, in one step, so that the number cannot be taken in between."""


class RedisBoard(NumberedBoard):
    """The notes on one Redis; see `Board`.

    Args:
        held: the spaces that this machine has by its own account, by their numbers; also those of other processes.
    """

    def __init__(self, service: Redis, held: Callable[[], Mapping[int, str]] = dict) -> None:
        self._service = service
        self._held = held
        self._lock = threading.Lock()
        self._mine: dict[int, str] = {}
        self._is_closed = False
        self._clients: list[redis.Redis] = []
        self._listener: redis.client.PubSub | None = None
        self._owner = ""

    def put(self, key: str, text: str) -> None:
        with self._lock:
            self._run(_PUT, CHANNEL, key, text)

    def notes(self, prefix: str) -> Mapping[str, Note]:
        with self._lock:
            return notes_of(self._client, prefix)

    def remove(self, *keys: str) -> None:
        if keys:
            with self._lock:
                self._client.hdel(KEY, *keys)

    def attend(self, owner: str) -> None:
        """See `Board.attend`. Also writes down again what FLUSHALL has wiped of this machine's numbers."""
        held = self._held()
        with self._lock:
            self._owner = owner
            # Before it is attended again where the connection broke: another machine may have it by now. And after
            # that, since FLUSHALL and another machine may have come in between.
            self._renew_mine()
            self._listen()
            self._renew_mine()
            # Of processes that have ended, and of versions that noted nothing.
            self._renew({number: space for number, space in held.items() if number not in self._mine})

    def present(self) -> frozenset[str]:
        with self._lock:
            channels: Any = self._client.pubsub_channels(f"{CHANNEL}[a-z]*")
        return frozenset(each.decode().removeprefix(CHANNEL) for each in channels)

    def numbers(self) -> Mapping[int, str]:
        return {int(key.removeprefix(NUMBER)): note.text for key, note in self.notes(NUMBER).items()}

    def take(self, numbers: Collection[int], space: str) -> bool:
        with self._lock:
            if not self._run(_TAKE, CHANNEL, space, *numbers):
                return False
            self._mine |= dict.fromkeys(numbers, space)
            self._listen()
            # Between the two, FLUSHALL may have wiped the note, and another machine taken the number.
            if not self._renew(dict.fromkeys(numbers, space)):
                return True
            self._let_go(numbers)
            return False

    def has(self, number: int, space: str) -> bool:
        """Whether a space has that number still."""
        with self._lock:
            if self._mine.get(number) == space:
                return not self._renew({number: space})
            note = notes_of(self._client, f"{NUMBER}{number}").get(f"{NUMBER}{number}")
            return note is not None and note.text == space

    def empty(self, number: int, space: str, *, goes: bool = False) -> bool:
        """Empty a logical database if it is that space's; whether it was.

        It is not where a note says so, or where none does and it is attended for another space. One that another
        process attends is left alone.

        Args:
            goes: whether the space gives it back.
        """
        with self._lock:
            is_mine = self._mine.get(number) == space
            done = bool(self._run(_EMPTY, CHANNEL, space, number, int(is_mine), int(goes)))
            if goes and is_mine:
                self._let_go([number])
            return done

    def break_off(self) -> None:
        """Have fail what other threads wait for."""
        listener = self._listener  # nothing waits for it: `_listen` puts it aside
        idle = listener.connection if listener else None
        for client in list(self._clients):
            for connection in list(client.connection_pool._in_use_connections):
                if connection is not idle and (stream := connection._sock) is not None:
                    with suppress(OSError):
                        stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._is_closed = True
        while not self._lock.acquire(timeout=_CLOSE_INTERVAL):
            self.break_off()
        try:
            for each in (self._listener, *self._clients):
                if each is not None:
                    with suppress(Exception):
                        each.close()
            self._listener, self._clients = None, []
            self._mine.clear()
        finally:
            self._lock.release()

    @property
    def _client(self) -> "redis.Redis":
        from redis.exceptions import ConnectionError as Broken

        if self._is_closed:
            # A thread that still works knows nothing of it, and must not go on without what was noted.
            raise Broken("this process has closed its claims")
        if not self._clients:
            self._clients.append(self._new(0))
        if len(self._clients) == 1:
            self._clients.append(self._new(_databases(self._clients[0]) - 1))
        return self._clients[-1]

    def _new(self, number: int) -> "redis.Redis":
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # A second try of its own could not know whether the first has taken a number.
        return self._service.client(
            db=number,
            protocol=2,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            client_name="triton-env",
        )

    def _run(self, script: str, *arguments: Any) -> Any:
        return self._client.eval(script, 1, KEY, *arguments)

    def _renew(self, numbers: Mapping[int, str]) -> list[int]:
        """Write down again whose numbers are, where that is missing; those that their spaces do not have."""
        words = [word for pair in numbers.items() for word in pair]
        return list(self._run(_RENEW, CHANNEL, *words)) if words else []

    def _renew_mine(self) -> None:
        if lost := self._renew(self._mine):
            _log.warning(
                "Redis has given the logical databases %s to others, of which it had not heard that this process lives",
                ", ".join(f"{number} ({self._mine[number]})" for number in lost),
            )
            self._let_go(lost)

    def _listen(self) -> None:
        """Subscribe; all that was subscribed to before is subscribed to again where the connection broke."""
        from redis.exceptions import RedisError

        client = self._client
        wanted = {f"{CHANNEL}{self._owner}".encode()} if self._owner else set()
        wanted.update(channel for number, space in self._mine.items() for channel in _channels(number, space))
        listener, self._listener = self._listener, None
        if listener is not None and not listener.subscribed:
            listener.close()  # it would wait for a subscription, not for an answer
            listener = None
        if listener is not None:
            try:
                # Its answer comes after those to all that was sent before: only then is known what is subscribed to.
                listener.ping()
                _await(listener, "pong", 1)
                _subscribe(listener, wanted - listener.channels.keys())
            except (RedisError, OSError):
                listener.close()
                listener = None
        if listener is None:
            listener = client.pubsub()  # type: ignore[no-untyped-call]
            try:
                _subscribe(listener, wanted)
            except BaseException:
                listener.close()
                raise
        if (connection := listener.connection) is not None:
            not_in_children(connection._sock)
        self._listener = listener

    def _let_go(self, numbers: Collection[int]) -> None:
        channels = [
            channel
            for number in numbers
            if (space := self._mine.pop(number, None))
            for channel in _channels(number, space)
        ]
        if self._listener is not None and channels:
            try:
                self._listener.unsubscribe(*channels)  # type: ignore[no-untyped-call]
            except Exception:  # the next one subscribes to what is left
                self._listener.close()
                self._listener = None


def notes_of(client: "redis.Redis", prefix: str) -> dict[str, Note]:
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


def _databases(client: "redis.Redis") -> int:
    found: Any = client.config_get("databases")
    return int(found["databases"])


def _channels(number: int, space: str) -> tuple[bytes, bytes]:
    return f"{CHANNEL}{number}".encode(), f"{CHANNEL}{number}:{space}".encode()


def _subscribe(listener: "redis.client.PubSub", channels: Collection[bytes]) -> None:
    if channels:
        listener.subscribe(*channels)
    _await(listener, "subscribe", len(channels))


def _await(listener: "redis.client.PubSub", kind: str, count: int) -> None:
    while count:
        if (message := listener.get_message(timeout=_TIMEOUT)) is None:
            raise TimeoutError("Redis does not confirm a subscription")
        count -= message["type"] == kind
