"""How much processor, memory and disk a container uses."""

import time
from collections.abc import Mapping
from typing import Any

from triton_env.core.usage import Reading, Usage
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_socket import Absent
from triton_env.runtimes.docker.execution import size_in

_SPAN = 0.5
"""Seconds between two looks at the processor's counters. The engine itself would take between one and two."""
_NANO = 1e9
_COMPARING = ("btrfs", "fuse-overlayfs", "vfs", "zfs")
"""Storage drivers with which the engine finds what a container has written by a look at all of its files, for seconds:
https://github.com/moby/moby/blob/master/daemon/graphdriver/fsdiff.go"""


def usage_of(engine: Engine, container: str) -> Usage | None:
    """What a container uses; None where it does not run, or where the engine does not report it. Takes about `_SPAN`.

    Raises:
        TritonError: the engine failed.
    """
    before = reading_of(engine, container)
    if before is None:
        return None
    time.sleep(_SPAN)
    after = reading_of(engine, container)
    return after.since(before) if after else None


def reading_of(engine: Engine, container: str) -> Reading | None:
    """What is seen of a container; None where it does not run, or where the engine does not report it.

    Args:
        container: its id or name.

    Raises:
        TritonError: the engine failed.
    """
    with engine.translated("report what a container uses"):
        try:
            # A sample without the one before it, for which the engine would have to wait.
            found = engine.ask(f"/containers/{container}/stats", **{"stream": False, "one-shot": True})
        except Absent:
            return None
    memory, cpu = found.get("memory_stats") or {}, found["cpu_stats"]
    if "usage" not in memory:
        return None
    # What the machine's processors have been, at work or not: a clock that was read with the counter.
    clock = cpu.get("system_cpu_usage", 0) / cpu.get("online_cpus", 1) / _NANO
    used = {0: cpu["cpu_usage"]["total_usage"] / _NANO}
    return Reading(clock, used, memory["usage"] - _cache(memory), memory.get("limit", 0))


def _cache(memory: Mapping[str, Any]) -> int:
    """Pages of files that were not used lately, which `docker stats` leaves out too: of cgroup v2, then v1."""
    details = memory.get("stats") or {}
    cache = int(details.get("inactive_file", details.get("total_inactive_file", 0)))
    return cache if cache < memory["usage"] else 0


def disk_of(engine: Engine, container: str) -> int | None:
    """What the files of a container take in bytes, those in its volumes included; None where that is not known.

    Where the engine would compare all files with those of the image, that is what is in volumes and in memory alone.

    Args:
        container: its name or id.

    Raises:
        TritonError: the engine failed.
    """
    with engine.translated("report what the files of a container take", container):
        try:
            found = engine.ask(f"/containers/{container}/json")
            is_running, layer = bool(found["State"]["Running"]), None
            if found.get("Driver") not in _COMPARING:
                layer = engine.ask(f"/containers/{container}/json", size=True).get("SizeRw")
            elif is_running:
                layer = 0
        except Absent:
            return None
        if layer is None:
            return None
        volumes = [mount["Destination"] for mount in found.get("Mounts") or () if mount.get("Type") == "volume"]
        folders = [*volumes, *(found.get("HostConfig", {}).get("Tmpfs") or ())]
        # The engine would add up all volumes that it has.
        inside = size_in(engine, container, folders) if folders and is_running else 0
    return None if inside is None else int(layer) + inside
