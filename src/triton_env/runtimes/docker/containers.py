"""The Docker runtime of a session: containers by Testcontainers on a network of their own."""

import functools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import ClassVar

from testcontainers.core.network import Network

from triton_env.core.ending import Ending, how_to_restart
from triton_env.core.model import Endpoint, Placement, Port, Probe, Program, ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread
from triton_env.core.timeline import Phase
from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    PortTaken,
    StartCancelled,
    TritonError,
)
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_errors import explanation
from triton_env.runtimes.docker.given_up import GivenUp, forget, remember
from triton_env.runtimes.docker.leftovers import remove_all, sweep
from triton_env.runtimes.docker.pulling import ensure_image
from triton_env.runtimes.docker.reaper_client import ReaperHandle
from triton_env.runtimes.docker.ryuk import ensure_ryuk
from triton_env.runtimes.docker.service_container import ReadinessProbe, ServiceContainer
from triton_env.runtimes.docker.transport import FAILURES
from triton_env.runtimes.docker.watch import Watch
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, Owner
from triton_env.runtimes.ports import free_port, listener_on
from triton_env.runtimes.start_tracker import StartTracker
from triton_env.settings import Settings

_log = logging.getLogger(__name__)

_PORT_TRIES = 10
"""How often to pick other ports when another program was quicker."""
_STOP_TIMEOUT = 120
"""Seconds that `stop` takes at most, with all that it waits for, where the engine answers; it needs one or two."""
_IN_FLIGHT_TIMEOUT = 60
"""Seconds that `stop` waits for requests that are on their way to the engine."""
_RYUK_TIMEOUT = 20
"""Seconds that a start waits for Ryuk, where it is used; it takes one or two."""
_SWEEP_TIMEOUT = 10
"""Seconds that `stop` waits for the removal of what others left; the next start goes on with it."""


class DockerRuntime:
    """Runs the services of one environment as containers of a Docker engine.

    Args:
        settings: pull policy, bind address, poll interval.
        environment: the environment's id, which names and labels everything.
        reason: why this runtime was taken, for people.

    Raises:
        RuntimeUnavailable: the engine cannot be used; the subclass and message say why.
    """

    name: ClassVar[str] = "docker"

    def __init__(self, settings: Settings, environment: str, reason: str = "it was asked for") -> None:
        self.reason = reason
        self._settings = settings
        self._environment = environment
        self._engine = Engine()
        self._containers: dict[str, ServiceContainer] = {}
        self._ready: dict[str, Placement] = {}
        self._network: Network | None = None
        self._network_name = ""
        """Known once it is asked for: where the answer is lost, it may be there."""
        self._network_lock = threading.Lock()
        self._starts = StartTracker()
        self._stopping = threading.Lock()
        self._is_removed = False
        self._is_given_up = False
        # Beside the services, not before them: Ryuk takes a second to start.
        self._ryuk = threading.Thread(target=ensure_ryuk, args=(self._engine,), daemon=True)
        self._sweeper = threading.Thread(
            target=sweep, args=(self._engine, settings, self._starts.cancelled.is_set), name="triton-sweep", daemon=True
        )
        reaper: ReaperHandle | None = None
        try:
            with self._engine.translated("say where this process runs"):
                self.addresses = self._engine.addresses(settings)
            self._owner = Owner.this_process(environment)
            # Before there is anything to remove. It starts within milliseconds, and gets ready beside the services.
            self._reaper = reaper = ReaperHandle(self._engine.url, self._engine.client.api.api_version, environment)
            self._ryuk.start()
            self._sweeper.start()
        except BaseException:
            if reaper:
                reaper.end()
            if self._ryuk.ident:
                self._ryuk.join(_RYUK_TIMEOUT)
            self._engine.close()
            raise

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        self._check_reach(recipe)
        report(Phase.PULL, "")
        volumes = ensure_image(
            self._engine,
            recipe.container.image,
            recipe.container.image_variable,
            self._settings,
            lambda words: report(Phase.PULL, words),
            self._starts.cancelled,
        )
        # From here on there is something to remove. A pull is not waited for by `stop`.
        with self._starts.track(recipe):
            for tries_left in reversed(range(_PORT_TRIES)):
                report(Phase.CREATE, "")
                ports = self._host_ports(recipe)
                name = self.access(recipe.name).container
                container: ServiceContainer | None = None
                try:
                    placement = self._placement(recipe, ports)
                    with self._engine.translated(f"create a container for {recipe.title}", name):
                        container = self._container(recipe, name, volumes, ports, functools.partial(probe, placement))
                    with self._engine.translated(f"start the container for {recipe.title}", name):
                        container.start(lambda: report(Phase.BOOT, ""))
                except TritonError as error:
                    taken = failures.is_port_conflict(error.cause)
                    if taken and self._settings.triton_ports == "fixed":
                        raise self._port_taken(recipe, ports) from error
                    if not taken or tries_left == 0:
                        raise
                    _log.debug(
                        "the engine refused the ports %s of %s: %s",
                        ports,
                        recipe.name,
                        error.cause,
                    )
                    if container:
                        with self._engine.translated(f"remove the container for {recipe.title}", name):
                            container.remove()
                else:
                    # The user of the environment may start containers by Testcontainers, which asks for Ryuk without a
                    # lock: a second one of its name would be refused. Most often it is there long before the service.
                    self._ryuk.join(_RYUK_TIMEOUT)
                    self._ready[recipe.name] = placement
                    report(Phase.READY, "")
                    return placement
        raise AssertionError("unreachable: the last try returns or raises")

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        container, placement = self._containers[recipe.name], self._ready[recipe.name]
        try:
            with (
                self._starts.track(recipe),
                self._engine.translated(f"restart the container of {recipe.title}", container.name),
            ):
                container.waiting_for(self._readiness(recipe, functools.partial(probe, placement)))
                container.restart()
        except TritonError as error:
            # It has been removed since.
            if self._starts.cancelled.is_set():
                raise StartCancelled("The restart was cancelled.") from error
            raise

    def access(self, service: str) -> ContainerAccess:
        return ContainerAccess.of_session(self._engine.way, self._environment, service)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        container = self._containers.get(service)
        if container is None:
            return ""
        with self._engine.translated("read a log", container.name):
            return redacted(container.log_tail(lines, since), self._starts.secrets)

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        container = self._containers.get(service)
        if container is None or service not in self._ready or not look or self._starts.cancelled.is_set():
            return None
        return self._engine.ending(
            container.name,
            self._ready[service],
            where=f"container {container.name}, image {container.image}",
            hint=how_to_restart(service),
        )

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        return self.access(service).program(self._containers[service].recipe, self._ready[service], argv, environment)

    def _check_reach(self, recipe: ServiceRecipe) -> None:
        """See that others cannot connect to a server whose password they know, or that has none."""
        variable, address = recipe.known_password, self.addresses.bind
        if variable and not ip_address(address).is_loopback:
            raise InvalidSetting(
                f"{recipe.title} would be open to others: {variable} is empty or the default, and ports are published "
                f"on {address}.",
                where="TRITON_PASSWORDS=fixed",
                cause=self.addresses.reason,
                hint=f"set {variable} to a password of your own, or TRITON_PASSWORDS=random",
            )

    def stop(self) -> None:
        with self._stopping:
            if self._is_removed:
                return
            still_starting = self._starts.cancel()
            removal = in_thread(self._remove, still_starting)
            if given_up := Watch(self._engine.ping, _STOP_TIMEOUT, again=self._is_given_up).wait(removal):
                self._is_given_up = True
                # The thread goes on with what it waits for, and so may this process.
                problems = [given_up]
            else:
                problems = removal.result()
            self._engine.close()
            if problems:
                raise self._not_removed("; ".join(dict.fromkeys(problems)))
            self._is_removed = True
            forget(self._settings, self._environment)
            self._reaper.end()

    def _remove(self, still_starting: bool) -> list[str]:
        """Remove everything; return what went wrong."""
        self._ryuk.join(_IN_FLIGHT_TIMEOUT)
        # Twice, where services are still starting: what goes in the first round ends the requests that their starts
        # wait for; what these had created by then goes in the second.
        problems = self._remove_once()
        self._starts.wait(_IN_FLIGHT_TIMEOUT)
        if still_starting or problems:
            problems = self._remove_once()
        self._sweeper.join(_SWEEP_TIMEOUT)
        return problems

    def _remove_once(self) -> list[str]:
        """Remove what the engine has with our label (not what we remember); return what went wrong."""
        try:
            _, problems = remove_all(self._engine.client.api, f"{ENVIRONMENT_LABEL}={self._environment}")
        except FAILURES as error:
            return [explanation(error)]
        return problems

    def _not_removed(self, cause: str) -> CleanupFailed:
        """Have others remove what is left, and say so."""
        remember(self._settings, GivenUp(self._owner, self._engine.url, cause))
        self._reaper.leave()
        names = [container.name for container in self._containers.values()]
        names += [self._network_name] if self._network_name else []
        left = f": {', '.join(names)}" if names else ""
        return CleanupFailed(
            f"Containers or networks of the environment {self._environment} may be left behind{left}.",
            where=self._engine.url,
            cause=cause,
            hint="a process in the background, the next stop() and the end of this process try again; so does, once"
            " the engine answers: python -m triton_env prune",
        )

    def _host_ports(self, recipe: ServiceRecipe) -> dict[Port, int]:
        if self._settings.triton_ports == "fixed":
            return {port: port.fixed for port in recipe.ports}
        return {port: free_port(self.addresses.bind) for port in recipe.ports}

    def _placement(self, recipe: ServiceRecipe, ports: Mapping[Port, int]) -> Placement:
        same = self._settings.triton_ports == "fixed"
        reached = self._engine.reach(self.addresses, ports.values(), same=same)
        return Placement(
            endpoints={port.name: Endpoint(self.addresses.host, reached[number]) for port, number in ports.items()},
            internal={port.name: Endpoint(recipe.container.alias, port.number) for port in recipe.ports},
        )

    def _container(
        self,
        recipe: ServiceRecipe,
        name: str,
        volumes: tuple[str, ...],
        ports: Mapping[Port, int],
        probe: Callable[[], None],
    ) -> ServiceContainer:
        container = ServiceContainer(
            self._engine.testcontainers,
            self._engine.sdk_options,
            recipe,
            volumes,
            {str(port.number): (self.addresses.bind, number) for port, number in ports.items()},
            self.addresses.name,
            name=name,
            network=self._ensure_network(),
            labels=self._owner.labels(recipe.name),
        )
        container.waiting_for(self._readiness(recipe, probe))
        self._containers[recipe.name] = container
        return container

    def _readiness(self, recipe: ServiceRecipe, probe: Callable[[], None]) -> ReadinessProbe:
        return ReadinessProbe(probe, recipe, self._settings.triton_poll_interval, self._starts.cancelled)

    def _ensure_network(self) -> Network:
        with self._network_lock:
            if self._network is None:
                self._network_name = name = f"triton-network-{self._environment}"
                with self._engine.translated("create a network", name):
                    network = Network(self._engine.sdk_options, {"labels": self._owner.labels()})
                    network._docker.client.close()
                    network._docker = self._engine.testcontainers
                    network.name = name
                    self._network = network.create()
            return self._network

    def _port_taken(self, recipe: ServiceRecipe, ports: Mapping[Port, int]) -> PortTaken:
        holders = {number: self._engine.publisher_of(number) or listener_on(number) for number in ports.values()}
        return failures.port_taken(recipe, self.addresses.bind, holders, instead=failures.RANDOM_PORTS)
