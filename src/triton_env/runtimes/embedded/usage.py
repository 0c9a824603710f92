"""How much processor and memory a server uses that is a process of this machine."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from triton_env.core.model import Placement
from triton_env.core.usage import Reading, Usage

_SPAN = 0.5
"""Seconds between two looks at the processor's counters."""


def usage_at(placement: Placement) -> Usage | None:
    """What the server uses that listens there; None where this user may not see its process. Takes `_SPAN`."""
    pid = listener_at(next(iter(placement.endpoints.values())).port)
    return usage_of(pid) if pid else None


def listener_at(port: int) -> int | None:
    """The process that listens on a port; None where this user may not see one."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return connection.pid
    return None


def usage_of(pid: int) -> Usage | None:
    """What a server and its children use; None where it does not run. Takes `_SPAN`."""
    before = reading_of(pid)
    if before is None:
        return None
    time.sleep(_SPAN)
    after = reading_of(pid)
    return after.since(before) if after else None


def reading_of(pid: int) -> Reading | None:
    """What is seen of a server and its children; None where it does not run."""
    try:
        server = psutil.Process(pid)
        family = [server, *_descendants(server)]
    except psutil.Error:
        return None
    at, seconds, memory, shared = time.monotonic(), dict[int, float](), 0, 0
    for each in family:
        with suppress(psutil.Error), each.oneshot():
            times, found = each.cpu_times(), each.memory_info()
            seconds[each.pid] = times.user + times.system
            # What they share is counted once.
            part = getattr(found, "shared", 0)
            memory, shared = memory + found.rss - part, max(shared, part)
    return Reading(at, seconds, memory + shared, None) if seconds else None


def _descendants(server: psutil.Process) -> list[psutil.Process]:
    """The children of a process, theirs, and so on.

    Raises:
        psutil.Error: it is gone.
    """
    if not Path("/proc/thread-self/children").exists():
        return server.children(recursive=True)
    # Where the kernel has a list of them, the processes of the whole machine need not be looked at.
    found: list[psutil.Process] = []
    for pid in _children(server.pid):
        with suppress(psutil.Error):
            child = psutil.Process(pid)
            found += (child, *_descendants(child))
    return found


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):  # a thread that has ended
                yield from map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
