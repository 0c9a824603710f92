"""The persistent runtime without Docker: processes under the project's supervisor, found running or started."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.core.timeline import Phase
from triton_env.errors import CleanupFailed, InvalidSetting, TritonError
from triton_env.persistent.embedded import data
from triton_env.persistent.embedded.instances import ProjectProcess, ending_of
from triton_env.persistent.embedded.stack import EmbeddedStack
from triton_env.persistent.fitting import explain_login_failure
from triton_env.persistent.stamps import Stamp, last_checkout
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.access import FolderAccess
from triton_env.runtimes.ports import is_listened_on, listener_on
from triton_env.runtimes.start_tracker import StartTracker

_OTHER_PROJECT = "run under another project name, which has ports of its own: --project NAME"
_IN_FLIGHT_TIMEOUT = 120
"""Seconds that `stop` waits for starts that it has cancelled."""


class PersistentProcesses:
    """Attaches to the project's services that run, and starts the others.

    Args:
        stack: the services of the project; `stop` closes it.
        recipes: the services that will be started, of the form that keeps data.
        apply: whether running services that differ from the settings are replaced; else they are left as they are.
        say: called where the data was last used from another checkout.

    Raises:
        RuntimeUnavailable: they cannot run here.
        ProjectTaken: the project is that of another checkout.
    """

    name: ClassVar[str] = "embedded"

    def __init__(
        self, stack: EmbeddedStack, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]
    ) -> None:
        self.reason = stack.reason
        self._stack = stack
        self._say = say
        self._apply = apply
        self._leases = stack.leases
        self._recipes = {recipe.name: recipe for recipe in recipes}
        self._orders = {recipe.name: stack.order(recipe) for recipe in recipes}
        try:
            with self._leases.turn():
                # Before the look: the last user of what is found running does not stop it any more.
                self._leases.take()
                self._processes = self._running()
            if wanted := self._lacking(self._processes):
                packages.check([self._recipes[name] for name in wanted])
        except BaseException:
            self._leases.release()
            raise
        self._starting = threading.Lock()
        self._outcome: BaseException | None = None
        self._is_up = not wanted
        self._wanted = wanted
        self._began: tuple[str, ...] = ()
        """What was started here and had not run before."""
        self._fresh: set[str] = set()
        """What was started here, also in the place of another."""
        self._stamps: dict[str, Stamp] = {}
        self._keep = False
        self._starts = StartTracker()

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        recipe = self._recipes[recipe.name]
        with self._starts.track(recipe):
            if recipe.name in self._wanted:
                report(Phase.CREATE, recipe.process.of_machine)
                self._start_all()
            else:
                self._check_settings(recipe.name, self._processes[recipe.name])
            report(Phase.BOOT, "")
            process = self._processes[recipe.name]
            is_fresh = recipe.name in self._fresh
            placement = self._stack.placement(recipe.name, process)
            self._stack.wait_for(
                recipe,
                process,
                partial(probe, placement),
                cancelled=self._starts.cancelled,
                explain=lambda error: self._explained(recipe, error),
            )
            report(Phase.READY, "" if is_fresh else "it was running")
            return placement

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        self._stack.restart((recipe.name,), lambda name, seconds: None)

    def access(self, service: str) -> FolderAccess:
        return self._stack.access(service)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return redacted(self.access(service).logs(lines, since), self._starts.secrets)

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        placement = self._processes[service].placement()
        return self.access(service).program(self._recipes[service], placement, argv, environment)

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        if service not in self._processes or not look or self._starts.cancelled.is_set():
            return None
        now = self._stack.instances().get(service)
        if now is None:
            before = self._processes[service]
            return Ending(before.where, "python -m triton_env up, which starts it again", reason="it was stopped")
        return ending_of(now, self._stack.project)

    def note(self, service: str, version: str) -> None:
        """Note beside a service's data what it is made with, once a client got in with the settings.

        Args:
            service: the service's name.
            version: what the server said of its version.
        """
        order, process, folder = self._orders[service], self._processes[service], self._stack.folder
        stamp = Stamp(service, version, process.image, "", order.checkout, facts=order.facts)
        data.write_stamp(folder, stamp, folder.data(service))

    def keep(self) -> None:
        """Have `stop` leave running what was started."""
        self._keep = True

    def stop(self) -> None:
        self._starts.cancel()
        try:
            self._starts.wait(_IN_FLIGHT_TIMEOUT)
            if self._began and not self._keep:
                with self._leases.turn():
                    # Others may have attached, and go on using them.
                    if not self._leases.others():
                        self._stack.supervisor.stop(self._began)
                self._began = ()
        except TritonError as error:
            raise CleanupFailed(
                f"Services of the project {self._stack.project} may still run.",
                where=error.where,
                cause=error.cause or error.what,
                hint="python -m triton_env down",
            ) from error
        finally:
            self._leases.release()
            self._stack.close()

    def _running(self) -> dict[str, ProjectProcess]:
        """Those that run, or are about to be started again by the supervisor."""
        return {name: each for name, each in self._stack.instances().items() if not each.reason}

    def _lacking(self, running: Mapping[str, ProjectProcess]) -> tuple[str, ...]:
        return tuple(
            name
            for name, order in self._orders.items()
            # One that is about to be started again is not waited for: that may take a minute.
            if name not in running or not running[name].running or (self._apply and running[name].order != order.digest)
        )

    def _start_all(self) -> None:
        """Start all that is wanted, at the first call; later ones wait for it and fail as it did."""
        with self._starting:
            if self._is_up:
                return
            if self._outcome is None:
                try:
                    # One at a time: two processes may want to start the same services.
                    with self._leases.turn():
                        self._start_lacking()
                    self._is_up = True
                    return
                except BaseException as error:
                    self._outcome = error
            raise self._outcome

    def _start_lacking(self) -> None:
        if not self._stack.supervisor.is_alive:
            # They have the ports still.
            self._stack.folder.wait_for_servers()
        running = self._running()
        lacking = [name for name in self._lacking(running) if name in self._wanted]
        for name in lacking:
            if name in running and not self._apply:
                self._check_settings(name, running[name])
            self._check_ports(name)
            if stamp := data.check(self._stack.folder, self._recipes[name]):
                self._stamps[name] = stamp
        checkout = self._stack.checkout
        if checkout and (other := last_checkout(self._stamps.values(), checkout)):
            self._say(f"the data of the project {self._stack.project} was last used from {other}")
        if lacking:
            self._stack.folder.make()
            self._began = tuple(name for name in lacking if name not in running)
            self._fresh = set(lacking)
            self._stack.supervisor.start([self._orders[name] for name in lacking])
        self._processes |= self._running()

    def _check_ports(self, name: str) -> None:
        """Say who has a port before a server fails for it.

        Raises:
            PortTaken: naming the process.
        """
        taken = [port for port in self._orders[name].ports.values() if is_listened_on(self._stack.host, port)]
        # After that look: it may have been started again just before.
        now = self._running().get(name)
        own = set(now.ports.values()) if now and now.running else set()
        for port in taken:
            if port not in own:
                holders = {port: listener_on(port, self._stack.host)}
                raise failures.port_taken(self._recipes[name], self._stack.host, holders, instead=_OTHER_PROJECT)

    def _explained(self, recipe: ServiceRecipe, error: BaseException) -> TritonError | None:
        stamp, folder = self._stamps.get(recipe.name), self._stack.folder
        return explain_login_failure(recipe, error, stamp, where=str(folder.data(recipe.name)))

    def _check_settings(self, name: str, process: ProjectProcess) -> None:
        """Raise `InvalidSetting` if a service runs with other names or passwords than the settings have."""
        for setting, value in self._orders[name].given.items():
            if process.given.get(setting, value) != value:
                variable = setting.upper()
                raise InvalidSetting(
                    f"{self._recipes[name].title} runs with another {variable} than the settings have.",
                    where=process.where,
                    hint=f"python -m triton_env up applies the settings; or set {variable} as it was",
                )
