"""How much processor and memory a server uses that is a process of this machine."""

import time
from contextlib import suppress

import psutil

from triton_env.core.model import Placement
from triton_env.core.usage import Usage

_SPAN = 0.5
"""Seconds between two looks at the processor's counters."""


def usage_at(placement: Placement) -> Usage | None:
    """What the server uses that listens there; None where this user may not see its process. Takes `_SPAN`."""
    port = next(iter(placement.endpoints.values())).port
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return usage_of(connection.pid)
    return None


def usage_of(pid: int) -> Usage | None:
    """What a server and its children use; None where it does not run. Takes `_SPAN`."""
    try:
        server = psutil.Process(pid)
        family = [server, *server.children(recursive=True)]
    except psutil.Error:
        return None
    before = _seconds(family)
    time.sleep(_SPAN)
    used = sum(max(0.0, seconds - before[pid]) for pid, seconds in _seconds(family).items() if pid in before)
    memory, shared = 0, 0
    for each in family:
        with suppress(psutil.Error):
            found = each.memory_info()
            # What they share is counted once.
            part = getattr(found, "shared", 0)
            memory, shared = memory + found.rss - part, max(shared, part)
    return Usage(used / _SPAN * 100, memory + shared, None)


def _seconds(family: list[psutil.Process]) -> dict[int, float]:
    found: dict[int, float] = {}
    for each in family:
        with suppress(psutil.Error):
            times_ = each.cpu_times()
            found[each.pid] = times_.user + times_.system
    return found
