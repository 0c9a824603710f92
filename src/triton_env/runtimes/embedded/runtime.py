"""The embedded runtime: the services as processes of this machine, without Docker."""

import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import psutil

from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    RuntimeUnavailable,
    ServiceExited,
    StartCancelled,
    StartFailed,
)
from triton_env.model import Endpoint, Placement, Probe, ServiceRecipe, Storage
from triton_env.readiness import DeadlineExceeded, wait_until_ready
from triton_env.redaction import redacted
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.account import has_a_name, servers_account
from triton_env.runtimes.embedded.directory import (
    PrivateDirectory,
    disk_base,
    memory_base,
    sweep,
    write_private,
)
from triton_env.runtimes.embedded.spawner import CannotRun, Child, Guard, GuardGone, Program
from triton_env.runtimes.embedded.templates import TemplateCache
from triton_env.runtimes.ports import free_port, listener_on
from triton_env.settings import Settings, process_environment
from triton_env.timeline import Phase

_log = logging.getLogger(__name__)

_PORT_TRIES = 10
"""How often to pick other ports when somebody else was quicker."""
_IN_FLIGHT_TIMEOUT = 30
"""Seconds that `stop` waits for starts that it has called off."""
_LOG_BYTES = 1 << 18
"""How much of the end of a log is looked at for its last lines."""
_LOOPBACK = "127.0.0.1"
_PLACEHOLDER = re.compile(r"\{(python|data|sockets|host)\}|\{(binary|port|file):([^{}]+)\}")
_PASSED_ON = (
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"),
    # Gives a name to a user who has none, in containers that run as any user.
    *("LD_PRELOAD", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP"),
)
"""What programs of this user may need to run. Everything else, such as PGDATA, would only disturb."""


class EmbeddedRuntime:
    """Runs the services of one environment as processes of this machine, which end with this one.

    Args:
        settings: ports, bind address, poll interval.
        environment: the environment's id, which names its directory.
        reason: why this runtime was taken, for people.

    Raises:
        RuntimeUnavailable: it cannot run here.
        InvalidSetting: the settings ask for an address that is not this machine's alone.
    """

    name: ClassVar[str] = "embedded"

    def __init__(self, settings: Settings, environment: str, reason: str = "it was asked for") -> None:
        self.reason = reason
        self._settings = settings
        self._environment = environment
        self._host = _loopback(settings.triton_bind_address)
        self._account = servers_account()
        self._directories: list[PrivateDirectory] = []
        bases = [disk_base()]
        if settings.triton_storage is Storage.MEMORY and (memory := memory_base()):
            bases.append(memory)
        try:
            for base in bases:
                self._directories.append(PrivateDirectory(environment, self._account, base))
            self._disk, self._memory = self._directories[0], self._directories[-1]
            self._logs = self._disk.own_folder("logs")
            self._inputs = self._disk.own_folder("input")
            self._sockets = self._disk.servers_folder("run")
            self._temporary = self._disk.servers_folder("tmp")
            self._guard = Guard(self._directories, self._account, self._logs / "guard.log")
        except RuntimeUnavailable:
            self._remove_directories()
            raise
        self._cache = TemplateCache()
        self._python_is_readable = self._account is None or self._account.can_run_python()
        self._secrets: frozenset[str] = frozenset()
        self._cancelled = threading.Event()
        self._idle = threading.Condition()
        self._starting = 0
        self._sweeper = threading.Thread(target=sweep, name="triton-sweep", daemon=True)
        self._sweeper.start()

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        with self._in_flight(recipe):
            self._secrets |= recipe.secrets
            report(Phase.CREATE, "")
            server = self._server(recipe)
            template = self._make_data(server, report)
            for tries_left in reversed(range(_PORT_TRIES)):
                server.ports = self._ports(recipe)
                report(Phase.BOOT, "")
                server.log_start = server.log.stat().st_size if server.log.exists() else 0
                program = self._program(
                    server, server.resolved(recipe.process.argv), stop_signal=recipe.process.stop_signal
                )
                server.child = self._guard.start(program)
                try:
                    self._wait(server, probe)
                except _PortConflict as conflict:
                    if self._settings.triton_ports == "fixed":
                        holders = {number: listener_on(number) for number in server.ports.values()}
                        raise failures.port_taken(recipe, self._host, holders) from conflict
                    if tries_left == 0:
                        raise conflict.exited from conflict
                    _log.debug("the ports %s of %s are taken", server.ports, recipe.name)
                except ServiceExited:
                    if template is not None:
                        self._cache.discard(template)
                    raise
                else:
                    report(Phase.READY, "")
                    return server.placement
        raise AssertionError("unreachable: the last try returns or raises")

    def logs(self, service: str, lines: int) -> str:
        return redacted(_tail(self._logs / f"{service}.log", lines), self._secrets)

    def stop(self) -> None:
        self._cancelled.set()
        self._guard.end()
        with self._idle:
            self._idle.wait_for(lambda: self._starting == 0, timeout=_IN_FLIGHT_TIMEOUT)
        self._sweeper.join(_IN_FLIGHT_TIMEOUT)
        # The guard did, unless it was killed, or a start that was called off wrote one more file.
        if problems := self._remove_directories():
            paths = " ".join(str(directory.path) for directory in self._directories)
            raise CleanupFailed(
                f"The directories of the environment {self._environment} could not be removed.",
                where=paths,
                cause="\n".join(problems),
                hint=f"rm -rf {paths}",
            )

    def _remove_directories(self) -> list[str]:
        problems: list[str] = []
        for directory in self._directories:
            try:
                directory.remove()
            except OSError as error:
                problems.append(str(error))
        return problems

    def _server(self, recipe: ServiceRecipe) -> "_Server":
        process = recipe.process
        folder = self._disk.servers_folder(recipe.name, process.files)
        storage = self._memory if process.storage is Storage.MEMORY else self._disk
        data = storage.servers_folder(f"{recipe.name}-data")
        return _Server(recipe, folder, data, self._sockets, self._logs / f"{recipe.name}.log", self._host)

    @contextmanager
    def _in_flight(self, recipe: ServiceRecipe) -> Iterator[None]:
        """Count a start, and turn what it meets when everything is taken away from it into `StartCancelled`."""
        with self._idle:
            if self._cancelled.is_set():
                raise StartCancelled("The start was called off.")
            self._starting += 1
        try:
            yield
        except (GuardGone, CannotRun, OSError) as error:
            if self._cancelled.is_set():
                raise StartCancelled("The start was called off.") from error
            raise StartFailed(
                f"{recipe.title} could not be started.",
                where=str(self._disk.path),
                cause=self._explained(error),
                hint=f"{packages.INSTALL} --force-reinstall, or set TRITON_RUNTIME=docker",
            ) from error
        finally:
            with self._idle:
                self._starting -= 1
                self._idle.notify_all()

    def _explained(self, error: BaseException) -> str:
        if isinstance(error, GuardGone):
            return f"the process that guards the servers has ended\n{self.logs('guard', 2)}".strip()
        return str(error)

    def _ports(self, recipe: ServiceRecipe) -> dict[str, int]:
        """A port of this machine for each that the server listens on as a process."""
        fixed = self._settings.triton_ports == "fixed"
        asked = "\n".join(recipe.process.argv)
        return {
            port.name: port.fixed if fixed else free_port(self._host)
            for port in recipe.ports
            if f"{{port:{port.name}}}" in asked
        }

    def _make_data(self, server: "_Server", report: Report) -> Path | None:
        """Fill the server's data directory; returns the template that it is a copy of, if it is one."""
        template = server.recipe.process.template
        if template is None:
            return None
        cached = self._cache.find(server.recipe.name, template)
        initialised = False

        def initialise() -> None:
            nonlocal initialised
            report(Phase.CREATE, "initialising its data directory")
            for number, command in enumerate(template.commands):
                text = write_private(self._inputs / f"{server.recipe.name}-{number}", command.input)
                self._run_to_end(server, command.argv, input=text)
            initialised = True

        def make(path: Path) -> None:
            initialise()
            self._run_to_end(server, (_tar(), "-cf", "-", "-C", str(server.data), "."), output=path)

        try:
            self._cache.get(cached, make, self._cancelled)
        except OSError as error:
            _log.debug("no template cache in %s: %s", self._cache.folder, error)
            if not initialised:
                initialise()
        if initialised:
            return None
        try:
            self._run_to_end(server, (_tar(), "-xf", "-", "-C", str(server.data)), input=cached)
        except ServiceExited:
            self._cache.discard(cached)
            raise
        return cached

    def _run_to_end(self, server: "_Server", argv: tuple[str, ...], **files: Path) -> None:
        resolved = server.resolved(argv)
        status = self._guard.wait(self._guard.start(self._program(server, resolved, **files)))
        if status != 0:
            raise failures.service_exited(
                server.recipe,
                where=f"{Path(resolved[0]).name}, which makes {server.data}",
                cause=_ended(status),
                log=_tail(server.log, failures.LOG_LINES),
                hint=f"df -h {server.data} {self._cache.folder} tells whether there is room"
                if has_a_name(self._account)
                else 'give this user a name: echo "me:x:$(id -u):0::/:" >> /etc/passwd (as root)',
            )

    def _program(self, server: "_Server", resolved: tuple[str, ...], **options: Any) -> Program:
        return Program(
            argv=resolved,
            environment=self._environment_of_servers(),
            log=server.log,
            folder=self._temporary,
            read_all=self._has_to_read_all(resolved),
            **options,
        )

    def _has_to_read_all(self, argv: tuple[str, ...]) -> bool:
        """Whether the servers' user can do nothing with this program unless it may read everything."""
        if self._account is None:
            return False
        if argv[0] == sys.executable:
            return not self._python_is_readable
        return not self._account.can_read(Path(argv[0]))

    def _environment_of_servers(self) -> dict[str, str]:
        ours = process_environment()
        return {
            "PATH": ours.get("PATH", os.defpath),
            "HOME": str(self._temporary),
            "TMPDIR": str(self._temporary),
            "LC_ALL": "C.UTF-8" if sys.platform != "darwin" else "en_US.UTF-8",
            # As in the images, whatever this machine's own is.
            "TZ": "UTC",
            "PYTHONUNBUFFERED": "1",
            **{name: ours[name] for name in _PASSED_ON if name in ours},
        }

    def _wait(self, server: "_Server", probe: Probe) -> None:
        placement = server.placement
        child = server.child
        assert child is not None

        def check_alive() -> None:
            if self._cancelled.is_set():
                raise StartCancelled("The start was called off.")
            if self._guard.is_gone:
                raise GuardGone
            if child.status is not None:
                exited = self._exited(server, child.status)
                taken = "address already in use" in exited.log_tail.lower()
                raise _PortConflict(exited) if taken else exited

        try:
            wait_until_ready(
                lambda: probe(placement),
                timeout=server.recipe.timeout,
                interval=self._settings.triton_poll_interval,
                check_alive=check_alive,
                cancelled=self._cancelled,
            )
        except DeadlineExceeded as error:
            raise failures.service_not_ready(
                server.recipe, error, where=server.where, log=_tail(server.log, failures.LOG_LINES)
            ) from error.last_error
        check_alive()
        if not _listens(child.pid, placement):
            # Somebody else answered. Ours would find the port taken as soon as it got there.
            self._guard.kill(child)
            raise _PortConflict(self._exited(server, child.status or 0))

    def _exited(self, server: "_Server", status: int) -> ServiceExited:
        log = _tail(server.log, failures.LOG_LINES, server.log_start)
        return failures.service_exited(
            server.recipe,
            where=server.where,
            cause=_ended(status),
            log=log,
            hint=f"check the settings of {server.recipe.title}, or set TRITON_RUNTIME=docker",
        )


class _PortConflict(Exception):
    """Somebody else has a port that was picked. `exited` is the error where no other can be tried."""

    def __init__(self, exited: ServiceExited) -> None:
        super().__init__(str(exited))
        self.exited = exited


class _Server:
    """One service: its files, and its process once there is one."""

    def __init__(self, recipe: ServiceRecipe, folder: Path, data: Path, sockets: Path, log: Path, host: str) -> None:
        self.recipe = recipe
        self.data = data
        self.log = log
        self.log_start = 0
        """Where in the log the words of this try begin."""
        self.ports: dict[str, int] = {}
        self.child: Child | None = None
        self._host = host
        self._folder = folder
        self._sockets = sockets

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
        return str(self._folder / name if kind == "file" else packages.program(name))


def _loopback(address: str) -> str:
    if not address:
        return _LOOPBACK
    if not ip_address(address).is_loopback:
        raise InvalidSetting(
            f"The embedded runtime listens on this machine's loopback only, not on {address}.",
            where="TRITON_BIND_ADDRESS",
            hint="leave TRITON_BIND_ADDRESS empty, or set TRITON_RUNTIME=docker",
        )
    return address


def _listens(pid: int, placement: Placement) -> bool:
    """Whether the process `pid`, or one that it started, listens on all these ports; yes where it cannot be told."""
    try:
        process = psutil.Process(pid)
        connections = [
            connection for each in (process, *process.children()) for connection in each.net_connections("tcp")
        ]
    except (psutil.AccessDenied, OSError):
        return True
    except psutil.NoSuchProcess:
        return False
    ports = {connection.laddr[1] for connection in connections if connection.status == psutil.CONN_LISTEN}
    return ports >= {endpoint.port for endpoint in placement.endpoints.values()}


def _tar() -> str:
    return shutil.which("tar") or "/bin/tar"


def _ended(status: int) -> str:
    return f"exit code {status}" if status >= 0 else f"ended by signal {-status}"


def _tail(path: Path, lines: int, start: int = 0) -> str:
    """The last lines of a file, from byte `start` on; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - _LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""
