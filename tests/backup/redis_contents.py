"""A Redis server full of all kinds of keys, and how a client sees them."""

from collections.abc import Callable
from typing import Any

from triton_env import TritonEnvironment

_LARGE = bytes(range(256)) * 2**14
"""4 MiB: more than is read at once."""

NOON = 4_102_444_800_000
"""2100-01-01, in milliseconds: when keys expire."""


def fill_redis(env: TritonEnvironment) -> None:
    """The big ones are of more elements than are read at once, and of more bytes than are written at once."""
    with env.redis.client() as client:
        client.set(b"binary \x00\xff\r\n key", b"\x00\xff\r\nvalue")
        client.set("empty", "")
        client.set("", "a key without a name")
        client.set("expires", "x", pxat=NOON)
        client.set("large", _LARGE)
        client.setbit("bits", 12_345, 1)
        client.pfadd("log", *range(1000))
        client.hset("hash", mapping={b"\x00field": b"\xffvalue", "": "", "n": "1"})
        client.hset("big hash", mapping={f"field {n}": "v" * 500 + str(n) for n in range(2500)})
        client.pexpireat("big hash", NOON)
        client.rpush("list", "b", "a", b"\xff", "", "a")
        client.rpush("big list", *(f"{n}" * 120 for n in range(2500)))
        client.sadd("set", "x", b"\x00", "")
        client.sadd("numbers", *range(500))
        client.zadd("zset", {"a": 1.1, "b": float("inf"), "c": float("-inf"), "d": 0.1 + 0.2, "e": -0.0, "f": 2**53})
        client.zadd("big zset", {f"member {n}" + "m" * 500: n / 3 for n in range(2500)})
        client.geoadd("places", (13.361389, 38.115556, "Palermo"))
        with client.pipeline(transaction=False) as pipeline:
            for n in range(2500):
                pipeline.xadd("stream", {"n": n, b"\xff": b"\x00"}, id=f"{1000 + n}-1")
            pipeline.execute()
        client.xdel("stream", "1005-1")
        client.xgroup_create("stream", "readers", "1010-1")
        client.xgroup_create("stream", "idle", "$")
        client.xreadgroup("readers", "anna", {"stream": ">"}, count=3)
        client.xreadgroup("readers", "bert", {"stream": ">"}, count=2)
        client.xack("stream", "readers", "1011-1")
        client.xgroup_createconsumer("stream", "idle", "stranger")
        client.xadd("no entries", {"a": 1}, id="5-5")
        client.xdel("no entries", "5-5")
        client.xadd("last entry", {"a": 1}, id=f"{2**64 - 1}-{2**64 - 1}")
        client.xgroup_create("last entry", "readers", "0")
        client.xreadgroup("readers", "anna", {"last entry": ">"})
        client.function_load("#!lua name=mine\nredis.register_function('mine', function() return 7 end)")
    with env.redis.client(db=3) as client:
        client.set("third", "3")
        client.mset({f"many {n}": n for n in range(2500)})


def look_at_redis(env: TritonEnvironment) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with env.redis.client() as client:
        found["databases"] = {name: about["keys"] for name, about in client.info("keyspace").items()}
        found["function"] = client.fcall("mine", 0)
    for number in (0, 3):
        with env.redis.client(db=number) as client:
            keys = sorted(client.scan_iter(count=1000))
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.type(key).pexpiretime(key)
            about = pipeline.execute()
            strings = [key for key, kind in zip(keys, about[::2], strict=True) if kind == b"string"]
            # All at once: there are thousands of them.
            values = dict(zip(strings, client.mget(strings), strict=True))
            for key, kind, expiry in zip(keys, about[::2], about[1::2], strict=True):
                value = values[key] if key in values else _VALUES[kind.decode()](client, key)
                found[f"{number} {key!r}"] = (kind, expiry, value)
    return found


def _stream(client: Any, key: bytes) -> Any:
    about = client.xinfo_stream(key)
    counters = {name: about.get(name) for name in ("length", "last-generated-id", "entries-added")}
    groups = []
    for group in client.xinfo_groups(key):
        pending = client.xpending_range(key, group["name"], "-", "+", 100)
        consumers = sorted(consumer["name"] for consumer in client.xinfo_consumers(key, group["name"]))
        waiting = [(one["message_id"], one["consumer"], one["times_delivered"]) for one in pending]
        groups.append((group["name"], group["last-delivered-id"], group["entries-read"], consumers, waiting))
    return counters, client.xrange(key), sorted(groups)


_VALUES: dict[str, Callable[[Any, bytes], Any]] = {
    "hash": lambda client, key: client.hgetall(key),
    "list": lambda client, key: client.lrange(key, 0, -1),
    "set": lambda client, key: client.smembers(key),
    "zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    "stream": _stream,
}
