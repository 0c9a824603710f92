"""Servers in containers that live and answer nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from docker.models.containers import Container


@contextmanager
def held_up(*containers: Container) -> Iterator[None]:
    """Stop the servers of containers, which have an init, by a signal.

    Not by pausing containers that have a health check: the engine waits for ever for a program that was just being
    started in one.
    """
    stopped = [pid for container in containers for pid in _processes(container)]
    _send(signal.SIGSTOP, stopped)
    try:
        yield
    finally:
        _send(signal.SIGCONT, stopped)


def _processes(container: Container) -> set[int]:
    """Every process of the server. What is run beside it later is not among them."""
    # Not the first one of the list: it is sorted by process ids, which begin again from time to time.
    init = container.attrs["State"]["Pid"]
    listed = {int(row[1]) for row in container.top(ps_args="-eo user,pid")["Processes"]}
    assert init in listed
    return listed - {init}


def _send(number: signal.Signals, processes: list[int]) -> None:
    for pid in processes:
        # One of them may be the engine's own health check, which ends by itself or by its timeout.
        with suppress(ProcessLookupError):
            os.kill(pid, number)
