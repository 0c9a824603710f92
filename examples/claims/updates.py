"""Redis: job updates over pub/sub while the work goes on, and a result kept for some minutes."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import redis

from claims.totals import Totals, total

PREFIX = "claims-walkthrough:"
CACHE_SECONDS = 600
_WAIT_SECONDS = 30
"""How long to wait for a subscription, or for an update on its way."""


@dataclass(frozen=True)
class Update:
    """One message about a job."""

    number: int
    """1 for the first of a run."""
    job: str
    state: str
    totals: Totals | None = None
    """What this step has added to the store, where it has."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Update":
        fields = json.loads(text)
        totals = fields.pop("totals")
        return cls(**fields, totals=Totals(**totals) if totals else None)


class Publisher:
    """Publishes numbered updates on the channel of one run."""

    def __init__(self, client: "redis.Redis", run: str) -> None:
        self._client = client
        self.channel = f"{PREFIX}jobs:{run}"
        self.published = 0

    def publish(self, job: str, state: str, totals: Totals | None = None) -> None:
        self.published += 1
        self._client.publish(self.channel, Update(self.published, job, state, totals).to_json())


class Subscriber:
    """Collects the updates of one run in a thread of its own, from the moment that the block begins."""

    def __init__(self, client: "redis.Redis", channel: str) -> None:
        self._client = client
        self._channel = channel
        self._updates: list[Update] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, name="job-updates", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        # What is published before Redis has confirmed the subscription would be lost.
        if not self._subscribed.wait(_WAIT_SECONDS) or self._error:
            raise ConnectionError(f"no subscription to {self._channel}: {self._error or 'no answer'}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(_WAIT_SECONDS)

    @property
    def updates(self) -> list[Update]:
        """What has arrived so far, in the order in which it arrived."""
        with self._changed:
            return list(self._updates)

    def wait_for(self, count: int) -> list[Update]:
        """Wait until `count` updates are here or it is clear that they do not come, and return those that are."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._updates) >= count or self._error, timeout=_WAIT_SECONDS)
            return list(self._updates)

    def _listen(self) -> None:
        try:
            with self._client.pubsub() as pubsub:
                pubsub.subscribe(self._channel)
                while not self._stop.is_set():
                    message = pubsub.get_message(timeout=0.1)
                    if message and message["type"] == "subscribe":
                        self._subscribed.set()
                    elif message and message["type"] == "message":
                        with self._changed:
                            self._updates.append(Update.from_json(message["data"]))
                            self._changed.notify_all()
        except Exception as error:  # whatever it is, the caller that waits has to learn of it
            with self._changed:
                self._error = error
                self._changed.notify_all()
            self._subscribed.set()


def announced(updates: list[Update]) -> Totals:
    """The sum of all that the updates say has been stored."""
    return total(update.totals for update in updates if update.totals)


def gaps(updates: list[Update], published: int) -> str:
    """What is wrong with the updates where `published` were sent; empty where all came, once each and in order."""
    numbers = [update.number for update in updates]
    expected = list(range(1, published + 1))
    if numbers == expected:
        return ""
    missing = sorted(set(expected) - set(numbers))
    if missing:
        return f"{len(missing)} of {published} updates did not arrive, the first is {missing[0]}"
    return "updates arrived twice or out of order"


class Cache:
    """A result that is computed once and then kept for `CACHE_SECONDS`."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self.hits = 0

    def forget(self, name: str) -> None:
        self._client.delete(PREFIX + name)

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """The kept result of that name, or what `compute` returns (anything that JSON can hold)."""
        kept = self._client.get(PREFIX + name)
        if kept is not None:
            self.hits += 1
            return json.loads(kept)
        text = json.dumps(compute())
        self._client.set(PREFIX + name, text, ex=CACHE_SECONDS)
        return json.loads(text)

    def seconds_left(self, name: str) -> int:
        """Until the result goes; -1 where it would stay for ever, -2 where there is none."""
        return int(self._client.ttl(PREFIX + name))
