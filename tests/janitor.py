"""Ends and removes what tests have started, where their process ends before it has done so: it was killed, say.

A process of its own that waits for that. It knows processes by a variable that they inherit, and compose projects by
their names. Run as a program, it is given the value of that variable, and reads the names.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

VARIABLE = "STARTED_BY_TESTS"
ALL_IS_WELL = "."
"""In place of a name: nothing is left to do."""
GRACE = 60.0
"""Seconds in which processes may end by themselves, such as those that remove containers of a dead owner."""
PROJECT_LABEL = "com.docker.compose.project"

_names: IO[str] | None = None


def note(project: str) -> None:
    """A compose project of this name is the tests' own."""
    if _names:
        print(project, file=_names, flush=True)


@contextmanager
def watching() -> Iterator[None]:
    """Have the janitor come if this process ends within the block."""
    global _names
    mark = f"{os.getpid()}-{token_hex(4)}"
    janitor = subprocess.Popen(
        [sys.executable, __file__, mark, str(GRACE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    os.environ[VARIABLE] = mark
    _names = janitor.stdin
    try:
        yield
        note(ALL_IS_WELL)
    finally:
        _names = None
        del os.environ[VARIABLE]
        janitor.communicate()


def processes(mark: str) -> list[int]:
    """The ids of processes that have inherited the variable."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{VARIABLE}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def end(mark: str, grace: float) -> None:
    """End these processes."""
    deadline = time.monotonic() + grace
    while (left := processes(mark)) and time.monotonic() < deadline + GRACE:
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)


def remove(project: str) -> None:
    """Remove the containers, networks and volumes of a compose project."""
    import docker
    from docker.errors import NotFound

    client = docker.from_env()
    try:
        filters = {"label": f"{PROJECT_LABEL}={project}"}
        for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
            with suppress(NotFound):
                container.remove(force=True, v=True)
        for each in (*client.networks.list(filters=filters), *client.volumes.list(filters=filters)):
            with suppress(NotFound):
                each.remove()
    finally:
        client.close()


def main(mark: str, grace: float) -> None:
    # Meant for the tests: what it is there for comes afterwards.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    names = sys.stdin.read().split()
    if ALL_IS_WELL in names:
        return
    end(mark, grace)
    for name in dict.fromkeys(names):
        remove(name)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
