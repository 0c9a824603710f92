"""One service as a process: its files, its command line, and whether it lives."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from triton_env.core.ending import Ending, exit_words
from triton_env.core.model import Endpoint, Placement, ServiceRecipe
from triton_env.errors import ResourceExhausted, ServiceExited
from triton_env.runtimes import failures
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.spawner import Child, Guard

_LOOK_INTERVAL = 0.2
"""Seconds between two looks at a log that is followed."""
_LOG_BYTES = 1 << 18
"""How much of the end of a log is looked at for its last lines."""
_SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/ssl", "/etc/pki"),
    *("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *(
        "/proc/self",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/cpuinfo",
        "/proc/sys",
        "/sys/fs/cgroup",
        "/sys/devices/system",
    ),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)
"""What a program reads of the system: libraries, its clock and names of hosts. No list of users, no other process."""
_PLACEHOLDER = re.compile(r"\{(python|data|sockets|host)\}|\{(binary|port|file):([^{}]+)\}")
"""See `ProcessRecipe`."""


class PortConflict(Exception):
    """Another program has a port that was picked. `exited` is the error where no other can be tried."""

    def __init__(self, exited: ServiceExited | ResourceExhausted) -> None:
        super().__init__(str(exited))
        self.exited = exited


class Server:
    """One service: its files, and its process once there is one."""

    def __init__(
        self,
        recipe: ServiceRecipe,
        folder: Path,
        data: Path,
        sockets: Path,
        log: Path,
        host: str,
        program: Callable[[str], Path] = packages.program,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.log = log
        self.log_start = 0
        """Where in the log the words of this try begin."""
        self.ports: dict[str, int] = {}
        self.child: Child | None = None
        self._kills_before = out_of_memory_kills()
        self._host = host
        self._folder = folder
        self._sockets = sockets
        self._program = program

    @property
    def where(self) -> str:
        """For error messages."""
        return (
            f"process {self.child.pid if self.child else '?'}, {Path(self.resolved(self.recipe.process.argv)[0]).name}"
        )

    @property
    def placement(self) -> Placement:
        uses_sockets = any("{sockets}" in word for word in self.recipe.process.argv)
        return Placement(
            endpoints={name: Endpoint(self._host, number) for name, number in self.ports.items()},
            sockets=self._sockets if uses_sockets else None,
        )

    @property
    def readable(self) -> tuple[str, ...]:
        """The paths below which it has to read, of the system and of Python."""
        libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
        return (*_SYSTEM, *packages.folders(), *filter(None, libraries))

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of its own; its ports are known."""
        variables = self.recipe.process.environment
        return dict(zip(variables, self.resolved(tuple(variables.values())), strict=True))

    def resolved(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """A command line with its placeholders filled in."""
        return tuple(_PLACEHOLDER.sub(self._value, word) for word in argv)

    def _value(self, match: re.Match[str]) -> str:
        plain, kind, name = match.groups()
        if plain:
            values = {"python": sys.executable, "data": self.data, "sockets": self._sockets, "host": self._host}
            return str(values[plain])
        if kind == "port":
            return str(self.ports[name])
        return str(self._folder / name if kind == "file" else self._program(name))

    def check_alive(self) -> None:
        """Raise `ServiceExited` if the process has ended, or `PortConflict` if it did since a port is taken."""
        if self.child is not None and self.child.status is not None:
            exited = self.exited()
            taken = "address already in use" in exited.log_tail.lower()
            raise PortConflict(exited) if taken else exited

    def exited(self) -> ServiceExited | ResourceExhausted:
        """The error about the end of the process."""
        status = self.child.status if self.child else None
        return failures.service_exited(
            self.recipe,
            where=self.where,
            cause=exit_words(status or 0),
            log=log_tail(self.log, failures.LOG_LINES, self.log_start),
            hint=f"check the settings of {self.recipe.title}, or {packages.instead_of(self.recipe)}",
            place=str(self.data),
        )

    def ending(self, guard: Guard, hint: str) -> Ending | None:
        """How the process has ended; None while it runs."""
        child = self.child
        if child is None or (child.status is None and not guard.is_gone):
            return None
        reason = "" if child.status is not None else "the guard of the servers was ended, and the server with it"
        if child.status == -signal.SIGKILL and out_of_memory_kills() > self._kills_before:
            reason = "the kernel has killed processes for lack of memory since the start, so perhaps this one"
        return Ending(where=self.where, hint=hint, status=child.status, at=child.ended, reason=reason)

    def listens(self) -> bool:
        """Whether the process has all its ports; see the function."""
        assert self.child is not None
        return listens(self.child.pid, self.ports.values())


def listens(pid: int, ports: Iterable[int]) -> bool:
    """Whether a process, or one that it started, has all these ports; yes where that is not known."""
    found: set[int] = set()
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children()):
            with suppress(psutil.NoSuchProcess):  # a worker that came and went
                found |= {
                    connection.laddr[1]
                    for connection in each.net_connections("tcp")
                    if connection.status == psutil.CONN_LISTEN
                }
    except psutil.NoSuchProcess:
        return False
    except (psutil.AccessDenied, OSError):
        return True
    return found >= set(ports)


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it booted; 0 where it does not report that."""
    with suppress(OSError), open("/proc/vmstat", encoding="ascii") as file:
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def log_size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def log_tail(path: Path, lines: int, start: int = 0) -> str:
    """The last lines of a file, from byte `start` on; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - _LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""


def log_lines(path: Path, tail: int | None, *, follow: bool) -> Iterator[str]:
    """The last lines of a file (all where `tail` is None), and with `follow` those that come while it is there."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        there = file.read()
        lines = there.splitlines()
        # The last one may still be being written.
        rest = lines.pop() if follow and lines and not there.endswith(b"\n") else b""
        yield from map(_decoded, lines if tail is None else lines[max(0, len(lines) - tail) :])
        while follow and path.exists():
            if path.stat().st_size < file.tell():
                # It was emptied, since it had become too long.
                file.seek(0)
            *lines, rest = (rest + file.read()).split(b"\n")
            yield from map(_decoded, lines)
            time.sleep(_LOOK_INTERVAL)


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace")
