"""The embedded runtime: the services as processes of this machine, without Docker."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from triton_env.core import model, shortages, spare
from triton_env.core.ending import Ending, ending_of_stopped, how_to_restart
from triton_env.core.model import Placement, Probe, ServiceRecipe, Storage
from triton_env.core.readiness import DeadlineExceeded, refuses, wait_until_ready
from triton_env.core.redaction import redacted
from triton_env.core.timeline import Phase
from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    ResourceExhausted,
    ServiceExited,
    ServiceNotReady,
    StartCancelled,
    StartFailed,
)
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.access import DATA, LOGS, FolderAccess
from triton_env.runtimes.embedded.account import servers_account
from triton_env.runtimes.embedded.bases import disk_base, memory_base
from triton_env.runtimes.embedded.directory import PrivateDirectory, groups, sweep
from triton_env.runtimes.embedded.host import Host, remove_all
from triton_env.runtimes.embedded.server import PortConflict, Server, log_tail
from triton_env.runtimes.embedded.spawner import CannotRun, Child, Guard, GuardGone
from triton_env.runtimes.ports import free_port, listener_on
from triton_env.runtimes.start_tracker import StartTracker
from triton_env.settings import Settings

_log = logging.getLogger(__name__)

_PORT_TRIES = 10
"""How often to pick other ports when another program was quicker."""
_RESTART_TRIES = 10
"""How often to start a server where another one was."""
_RESTART_INTERVAL = 0.5
"""Seconds between two of these tries."""
_IN_FLIGHT_TIMEOUT = 30
"""Seconds that `stop` waits for starts that it has cancelled."""
_NEWS_TIMEOUT = 2
"""Seconds to wait for the guard's word about a server that no longer listens; it takes some milliseconds."""
_LOOPBACK = "127.0.0.1"


class EmbeddedRuntime:
    """Runs the services of one environment as processes of this machine, which end with this one.

    Args:
        settings: ports, bind address, poll interval.
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
        self._address = loopback(settings.triton_bind_address)
        self._account = servers_account(taken=groups())
        self._directories: list[PrivateDirectory] = []
        guard: Guard | None = None
        bases = [disk_base(self._account)]
        if settings.triton_storage is Storage.MEMORY and (memory := memory_base()):
            bases.append(memory)
        try:
            for base in bases:
                self._directories.append(PrivateDirectory(environment, self._account, base))
            self._disk, self._memory = self._directories[0], self._directories[-1]
            self._logs = self._disk.own_folder(LOGS)
            self._host = Host(self._directories, self._account, self._logs / "guard.log")
            self._guard = guard = self._host.guard
            self._sweeper = threading.Thread(target=sweep, name="triton-sweep", daemon=True)
            self._sweeper.start()
        except BaseException as error:
            with spare.released():
                if guard:
                    guard.end()
                for problem in remove_all(self._directories):
                    error.add_note(problem)
            raise
        self._starts = StartTracker()
        self._servers: dict[str, Server] = {}

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        with self._starts.track(recipe), self._explained_failures(recipe):
            report(Phase.CREATE, recipe.process.of_machine)
            server = self._server(recipe)
            given = self._host.given(recipe)
            data = self._host.data_directory(server, self._storage(recipe), self._starts.cancelled)
            is_copy = data.fill(report)
            try:
                return self._booted(server, probe, report, given)
            except (ServiceExited, ServiceNotReady) as error:
                # One that this start has made is nothing for others either.
                is_gone = data.template is not None and self._host.cache.discard(
                    data.template, f"{recipe.title} did not start with {'a copy of it' if is_copy else 'it'}"
                )
                if not self._host.bytecode.discard(recipe) and not is_copy:
                    raise
                _log.debug("%s", error)
            # Once again, with nothing in it that an earlier process has made.
            if server.child is not None:
                self._guard.kill(server.child)
            data.empty()
            data.fill(report, use_cache=is_gone)
            return self._booted(server, probe, report, given)

    def _booted(self, server: Server, probe: Probe, report: Report, given: Path | None) -> Placement:
        """Start the process of a server, and wait until it is ready; on other ports where some are taken."""
        recipe = server.recipe
        for tries_left in reversed(range(_PORT_TRIES)):
            server.ports = self._ports(recipe)
            report(Phase.BOOT, "")
            try:
                self._run(server, probe, given)
            except PortConflict as conflict:
                if self._settings.triton_ports == "fixed":
                    holders = {number: listener_on(number) for number in server.ports.values()}
                    raise failures.port_taken(
                        recipe, self._address, holders, instead=failures.RANDOM_PORTS
                    ) from conflict
                if tries_left == 0:
                    raise conflict.exited from conflict
                _log.debug("the ports %s of %s are taken", server.ports, recipe.name)
            else:
                self._servers[recipe.name] = server
                self._host.bytecode.keep(recipe, self._host.inputs)
                report(Phase.READY, "")
                return server.placement
        raise AssertionError("unreachable: the last try returns or raises")

    def _run(self, server: Server, probe: Probe, given: Path | None) -> None:
        """Start the process of a server on its ports, and wait until it is ready."""
        server.log_start = server.log.stat().st_size if server.log.exists() else 0
        server.child = self._guard.start(self._host.command(server, given))
        self._wait(server, probe)

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        with self._starts.track(recipe), self._explained_failures(recipe):
            server = self._servers[recipe.name]
            assert server.child is not None
            self._guard.kill(server.child)
            given = self._host.inputs / recipe.name if recipe.process.input else None
            for tries_left in reversed(range(_RESTART_TRIES)):
                try:
                    self._run(server, probe, given)
                    return
                except (PortConflict, ServiceExited) as error:
                    # What a server that was killed has left, such as processes of its own, takes a moment to end.
                    if not tries_left:
                        raise error.exited if isinstance(error, PortConflict) else error from None
                    self._starts.cancelled.wait(_RESTART_INTERVAL)

    def access(self, service: str) -> FolderAccess:
        return FolderAccess(self._disk.path, service)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return redacted(self.access(service).logs(lines, since), self._starts.secrets)

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> model.Program:
        server = self._servers[service]
        return self.access(service).program(server.recipe, server.placement, argv, environment)

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        server = self._servers.get(service)
        if server is None or server.child is None or self._starts.cancelled.is_set():
            return None
        hint = how_to_restart(service)
        ending = server.ending(self._guard, hint)
        if ending is None and look:
            ending = ending_of_stopped((server.child.pid,), where=server.where)
        if ending is None and look and refuses(server.placement):
            # Ports are closed before the end of their process is known.
            self._guard.wait_briefly(server.child, _NEWS_TIMEOUT)
            ending = server.ending(self._guard, hint) or Ending(
                server.where, hint, reason="it no longer listens, though its process has not ended"
            )
        return ending

    def stop(self) -> None:
        self._starts.cancel()
        self._guard.end()
        self._starts.wait(_IN_FLIGHT_TIMEOUT)
        self._host.end()
        self._sweeper.join(_IN_FLIGHT_TIMEOUT)
        # The guard did, unless it was killed, or a start that was cancelled wrote one more file.
        if problems := remove_all(self._directories):
            paths = " ".join(str(directory.path) for directory in self._directories)
            raise CleanupFailed(
                f"The directories of the environment {self._environment} could not be removed.",
                where=paths,
                cause="\n".join(problems),
                hint=f"rm -rf {paths}",
            )

    def _server(self, recipe: ServiceRecipe) -> Server:
        data = self._storage(recipe).servers_folder(f"{recipe.name}-{DATA}")
        return self._host.server(recipe, data, self.access(recipe.name).log, self._address)

    def _storage(self, recipe: ServiceRecipe) -> PrivateDirectory:
        return self._memory if recipe.process.storage is Storage.MEMORY else self._disk

    @contextmanager
    def _explained_failures(self, recipe: ServiceRecipe) -> Iterator[None]:
        """Turn what a start meets when everything is taken away from it into `StartCancelled`."""
        try:
            yield
        except (GuardGone, CannotRun, OSError) as error:
            if self._starts.cancelled.is_set():
                raise StartCancelled("The start was cancelled.") from error
            what = f"{recipe.title} could not be started."
            if exhausted := self._exhausted(what, error):
                raise exhausted from error
            raise StartFailed(
                what,
                where=str(self._disk.path),
                cause=self._explained(error),
                hint=f"{packages.install((recipe,))} --force-reinstall, or set TRITON_RUNTIME=docker",
            ) from error

    def _exhausted(self, what: str, error: GuardGone | CannotRun | OSError) -> ResourceExhausted | None:
        """What had run out when the guard ended or could not start a program, or when a file could not be written."""
        place, cause = str(self._disk.path), self._explained(error)
        if isinstance(error, GuardGone):
            return shortages.in_log(what, cause, self.logs("guard", failures.LOG_LINES), place)
        if isinstance(error, CannotRun):
            return shortages.of_number(error.number, what, cause, place)
        return shortages.exhausted(error, what)

    def _explained(self, error: BaseException) -> str:
        if isinstance(error, GuardGone):
            return f"the process that guards the servers has ended\n{self.logs('guard', 2)}".strip()
        return str(error)

    def _ports(self, recipe: ServiceRecipe) -> dict[str, int]:
        """A port of this machine for each that the server listens on as a process."""
        fixed = self._settings.triton_ports == "fixed"
        return {
            port.name: port.fixed if fixed else free_port(self._address)
            for port in recipe.ports
            if recipe.process.has_port(port.name)
        }

    def _wait(self, server: Server, probe: Probe) -> None:
        placement = server.placement
        child = server.child
        assert child is not None

        def check_alive() -> None:
            if self._starts.cancelled.is_set():
                raise StartCancelled("The start was cancelled.")
            if self._guard.is_gone:
                raise GuardGone
            server.check_alive()

        try:
            wait_until_ready(
                lambda: probe(placement),
                timeout=server.recipe.timeout,
                interval=self._settings.triton_poll_interval,
                check_alive=check_alive,
                cancelled=self._starts.cancelled,
            )
        except DeadlineExceeded as error:
            if error.refused:
                self._check_that_it_listens(server, child)
            raise failures.service_not_ready(
                server.recipe,
                error,
                where=server.where,
                log=log_tail(server.log, failures.LOG_LINES),
                place=str(server.data),
            ) from error.last_error
        check_alive()
        self._check_that_it_listens(server, child)

    def _check_that_it_listens(self, server: Server, child: Child) -> None:
        """Raise `PortConflict` if another program answered: the server would find its port taken once it got there."""
        if not server.listens():
            self._guard.kill(child)
            raise PortConflict(server.exited())


def loopback(address: str) -> str:
    """The address on which servers listen.

    Args:
        address: TRITON_BIND_ADDRESS; may be empty.

    Raises:
        InvalidSetting: it is not of this machine alone.
    """
    if not address:
        return _LOOPBACK
    if not ip_address(address).is_loopback:
        raise InvalidSetting(
            f"The embedded runtime listens on this machine's loopback only, not on {address}.",
            where="TRITON_BIND_ADDRESS",
            hint="leave TRITON_BIND_ADDRESS empty, or set TRITON_RUNTIME=docker",
        )
    return address
