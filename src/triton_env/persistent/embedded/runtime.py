"""The persistent runtime without Docker: processes under the project's supervisor, found running or started."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.timeline import Phase
from triton_env.errors import TritonError
from triton_env.persistent.embedded import data
from triton_env.persistent.embedded.instances import ProjectProcess, ending_of
from triton_env.persistent.embedded.stack import EmbeddedStack
from triton_env.persistent.fitting import check_given, explain_login_failure
from triton_env.persistent.runtime import OTHER_PROJECT, LastingRuntime, Once
from triton_env.persistent.stamps import Stamp, last_checkout
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.access import FolderAccess
from triton_env.runtimes.ports import is_listened_on, listener_on


class PersistentProcesses(LastingRuntime[EmbeddedStack]):
    """See `LastingRuntime`.

    Args:
        recipes: of the form that keeps data.
        say: called where the data was last used from another checkout.

    Raises:
        RuntimeUnavailable: they cannot run here.
        ProjectTaken: the project is that of another checkout.
    """

    name: ClassVar[str] = "embedded"

    def __init__(
        self, stack: EmbeddedStack, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]
    ) -> None:
        super().__init__(stack, recipes, apply=apply)
        self._say = say
        self._orders = {recipe.name: stack.order(recipe) for recipe in recipes}
        with self._first_look():
            self._processes = self._running()
            self._wanted = self._lacking(self._processes)
            packages.check([self._recipes[name] for name in self._wanted])
        self._fresh: set[str] = set()
        """What was started here, also in the place of another."""
        self._stamps: dict[str, Stamp] = {}
        self._start_all = Once(self._start_lacking)

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

    def access(self, service: str) -> FolderAccess:
        return self._stack.access(service)

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
        order, process, folder = self._orders[service], self._processes[service], self._stack.folder
        stamp = Stamp(service, version, process.image, "", order.checkout, facts=order.facts)
        data.write_stamp(folder, stamp, folder.data(service))

    def _stop_began(self) -> None:
        self._stack.supervisor.stop(self._began)

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

    def _start_lacking(self) -> None:
        # One at a time: two processes may want to start the same services.
        with self._leases.turn():
            self._start_in_turn()

    def _start_in_turn(self) -> None:
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
                raise failures.port_taken(self._recipes[name], self._stack.host, holders, instead=OTHER_PROJECT)

    def _explained(self, recipe: ServiceRecipe, error: BaseException) -> TritonError | None:
        stamp, folder = self._stamps.get(recipe.name), self._stack.folder
        return explain_login_failure(recipe, error, stamp, where=str(folder.data(recipe.name)))

    def _check_settings(self, name: str, process: ProjectProcess) -> None:
        """Raise `InvalidSetting` if a service runs with other names or passwords than the settings have."""
        wanted, given = (
            {key.upper(): value for key, value in each.given.items()} for each in (self._orders[name], process)
        )
        check_given(self._recipes[name], self._stack.settings, wanted, given, where=process.where)
