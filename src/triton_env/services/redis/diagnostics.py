"""What Redis can say about a test that failed: its slow commands since it began."""

from typing import Any

from triton_env.services.base_diagnostics import LINES, Diagnostics, table, text
from triton_env.services.redis.service import Redis


class RedisDiagnostics(Diagnostics[Redis]):
    """The commands that took long."""

    title = "SLOWLOG"

    def answer(self, since: float) -> str:
        with self._service.client(
            decode_responses=True,
            encoding_errors="replace",
            socket_connect_timeout=self._timeout,
            socket_timeout=self._timeout,
        ) as client:
            slow: Any = client.slowlog_get(LINES // 2)
            # Its clock is the server's own, in whole seconds.
            rows = [
                (entry["id"], f"{entry['duration'] / 1000:.1f}", text(entry["command"]))
                for entry in slow
                if entry["start_time"] >= int(since)
            ]
            return table(("id", "ms", "command"), rows[::-1])
