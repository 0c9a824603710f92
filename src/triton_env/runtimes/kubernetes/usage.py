"""How much processor and memory a pod uses, by the files of its control group: not every cluster has metrics."""

import re
from collections.abc import Mapping
from typing import Final

from triton_env.core.usage import Reading, Usage
from triton_env.errors import TritonError
from triton_env.runtimes.kubernetes import pods
from triton_env.runtimes.kubernetes.access import PodAccess

_SPAN: Final = 0.5
"""Seconds between two looks at the processor's counters."""
_ROOT: Final = "/sys/fs/cgroup"
# https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/
_FILES: Final = (
    "/proc/uptime",
    *(f"{_ROOT}/{name}" for name in ("cpu.stat", "memory.current", "memory.max", "memory.stat")),
    *(f"{_ROOT}/cpuacct/{name}" for name in ("cpuacct.usage",)),
    *(f"{_ROOT}/memory/{name}" for name in ("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat")),
)
_MARK: Final = "=="
_SCRIPT: Final = (
    f'look() {{ for file in {" ".join(_FILES)}; do echo "{_MARK} $file"; cat "$file" 2>/dev/null; done; }}; '
    f'look; sleep {_SPAN}; echo "{_MARK}{_MARK}"; look'
)
_NANO: Final = 1e9
_MICRO: Final = 1e6
_NO_LIMIT: Final = 1 << 60
"""What the older files have as a limit where there is none is about the largest number that they can have."""


def usage_of(access: PodAccess) -> Usage | None:
    """What a pod uses; None where it does not run, or does not show it. Takes about `_SPAN`, and a request."""
    words = ("exec", access.pod, "--container", pods.CONTAINER, "--", "sh", "-c", _SCRIPT)
    try:
        text = access.cluster.run(*words, what=f"see what {access.pod} uses")
    except TritonError:
        return None
    before, _, after = text.partition(f"{_MARK}{_MARK}\n")
    first, second = reading(before), reading(after)
    return second.since(first) if first and second else None


def reading(text: str) -> Reading | None:
    """What the files say that the script has printed; None where they are not there."""
    parts = re.split(rf"^{_MARK} (.*)\n", text, flags=re.MULTILINE)
    found = {path: content for path, content in zip(parts[1::2], parts[2::2], strict=True) if content.strip()}
    at = found.get("/proc/uptime", "").split()
    used, memory = _cpu_seconds(found), _memory(found)
    if not at or used is None or memory is None:
        return None
    return Reading(float(at[0]), {0: used}, *memory)


def _cpu_seconds(found: Mapping[str, str]) -> float | None:
    if (micro := _fields(found.get(f"{_ROOT}/cpu.stat", "")).get("usage_usec")) is not None:
        return micro / _MICRO
    nano = found.get(f"{_ROOT}/cpuacct/cpuacct.usage")
    return int(nano) / _NANO if nano else None


def _memory(found: Mapping[str, str]) -> tuple[int, int | None] | None:
    """What is used, without what the kernel could give back at once, and the limit."""
    for used, limit, details, cache in (
        ("memory.current", "memory.max", "memory.stat", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        if text := found.get(f"{_ROOT}/{used}"):
            most = found.get(f"{_ROOT}/{limit}", "max").strip()
            idle = _fields(found.get(f"{_ROOT}/{details}", "")).get(cache, 0)
            return int(text) - idle, int(most) if most.isdigit() and int(most) < _NO_LIMIT else None
    return None


def _fields(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}
