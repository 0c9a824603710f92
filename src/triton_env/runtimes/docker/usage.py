"""How much processor and memory a container uses."""

import time
from collections.abc import Mapping
from typing import Any

from triton_env.core.usage import Usage
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_socket import Absent

_SPAN = 0.5
"""Seconds between two looks at the processor's counters. The engine itself would take between one and two."""


def usage_of(engine: Engine, container_id: str) -> Usage | None:
    """What a container uses; None where it does not run, or where the engine does not report it. Takes about `_SPAN`.

    Raises:
        TritonError: the engine failed.
    """
    # A sample without the one before it, for which the engine would have to wait.
    sample = {"stream": False, "one-shot": True}
    with engine.translated("report what a container uses"):
        try:
            first = engine.ask(f"/containers/{container_id}/stats", **sample)
            time.sleep(_SPAN)
            second = engine.ask(f"/containers/{container_id}/stats", **sample)
        except Absent:
            return None
    memory = second.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    return Usage(_cpu_percent(first, second), memory["usage"] - _cache(memory), memory.get("limit", 0))


def _cpu_percent(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    before, now = first["cpu_stats"], second["cpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    return float(used / passed * now.get("online_cpus", 1) * 100) if passed > 0 and used > 0 else 0.0


def _cache(memory: Mapping[str, Any]) -> int:
    """Pages of files that were not used lately, which `docker stats` leaves out too: of cgroup v2, then v1."""
    details = memory.get("stats") or {}
    cache = int(details.get("inactive_file", details.get("total_inactive_file", 0)))
    return cache if cache < memory["usage"] else 0
