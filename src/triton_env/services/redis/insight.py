"""What Redis reports about itself: keys with their types, times to live and sizes, slow commands, clients, messages."""

from collections.abc import Mapping

from triton_env.services.base_insight import Insight, Metric, Panel, Table
from triton_env.services.redis.service import Redis


class RedisInsight(Insight[Redis]):
    """Looks at a Redis server, with commands that only read."""

    metrics = (
        Metric("connections", "Connections", "Connections of clients, without the one that looks."),
        Metric("commands_total", "Commands", "Commands that the server has processed.", "counter"),
        Metric("keyspace_hits_total", "Hits", "Look-ups of keys that were there.", "counter"),
        Metric("keyspace_misses_total", "Misses", "Look-ups of keys that were not there.", "counter"),
        Metric("keys", "Keys", "Keys in all logical databases."),
        Metric("memory_bytes", "Memory", "Memory that the server has allocated.", unit="bytes"),
        Metric("evicted_keys_total", "Evicted", "Keys that were removed because memory ran short.", "counter"),
        Metric("expired_keys_total", "Expired", "Keys whose time to live was over.", "counter"),
    )
    panels = (
        Panel("databases", "Logical databases", "No logical database holds a key."),
        Panel("keys", "Keys", "No key begins like this.", "database/prefix"),
        Panel("value", "Value", "There is no such key, or its value is empty.", "database/key", needs_argument=True),
        Panel("slow", "Slow commands", "No command was slower than slowlog-log-slower-than allows."),
        Panel("clients", "Clients", "No client is connected."),
        Panel("channels", "Channels", "No client has subscribed to a channel."),
        Panel("messages", "Messages", "No message was published.", "channel or pattern", is_stream=True),
        Panel("monitor", "Commands as they come", "No command came.", is_stream=True),
    )

    def _sample(self) -> Mapping[str, float]:
        return {}

    def _table(self, panel: str, argument: str) -> Table:
        return Table((), ())

    def _errors(self) -> tuple[type[Exception], ...]:
        from redis.exceptions import RedisError

        return (RedisError, OSError)
