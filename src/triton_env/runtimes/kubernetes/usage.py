"""How much processor and memory a pod uses, by the files of its control group, sampled in the background.

The metrics of a cluster would be one request for all pods. But not every cluster has them, no Role of ours allows them,
they come half a minute after a pod, and they have no limits.
"""

import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final

from triton_env.core.threads import in_thread
from triton_env.core.usage import Reading, Usage
from triton_env.errors import TritonError
from triton_env.runtimes.kubernetes import pods
from triton_env.runtimes.kubernetes.access import PodAccess

_SPAN: Final = 0.5
"""Seconds between two looks at the processor's counters."""
_INTERVAL: Final = 5.0
"""Seconds for which a sample is taken to be as it was: each is a program in the pod, and a process here."""
_OLD: Final = 60.0
"""Seconds for which one counts where none succeeds."""
_FORGOTTEN: Final = 600.0
"""Seconds after which a pod that was not asked for is forgotten."""
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


@dataclass(slots=True)
class _Sampled:
    """What is known of a pod.

    Attributes:
        usage: the last; None where there is none.
        began: when the last sample was begun, on the monotonic clock.
        task: the sample that is being taken, or was taken last.
    """

    usage: Usage | None = None
    began: float = float("-inf")
    task: "Future[None]" = field(default_factory=Future)


_sampled: dict[PodAccess, _Sampled] = {}
_lock = threading.Lock()


def usage_of(access: PodAccess) -> Usage | None:
    """What a pod used when that was looked at last; None where it does not run, or does not show it.

    The first look is waited for: it takes about a second, and longer where the cluster has much to do. Later ones are
    made in the background, and until they are done, the last one counts.
    """
    with _lock:
        for each in [each for each, one in _sampled.items() if time.monotonic() - one.began > _FORGOTTEN]:
            del _sampled[each]
        known = _sampled.setdefault(access, _Sampled())
        is_idle = known.began == float("-inf") or known.task.done()
        if is_idle and time.monotonic() - known.began > _INTERVAL:
            known.began = time.monotonic()
            known.task = in_thread(_sample, access, known)
        task, usage = known.task, known.usage
    if usage is None:
        task.result()
        usage = known.usage
    return usage


def _sample(access: PodAccess, known: _Sampled) -> None:
    now = time.time()
    if usage := _measured(access):
        known.usage = replace(usage, at=time.time())
    elif known.usage and now - (known.usage.at or 0) > _OLD:
        known.usage = None


def _measured(access: PodAccess) -> Usage | None:
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
