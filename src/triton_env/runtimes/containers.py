"""The Docker runtime of a session: containers by Testcontainers on a network of their own."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, ClassVar

import docker.errors
from docker import version as docker_sdk_version
from docker.types import EndpointConfig, Mount
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ContainerStatusWaitStrategy
from testcontainers.core.waiting_utils import WaitStrategy, WaitStrategyTarget

from triton_env.ending import BEGIN_ANEW, Ending, container_words
from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    PortTaken,
    ServiceExited,
    TritonError,
)
from triton_env.model import ContainerRecipe, Endpoint, Placement, Port, Probe, Program, ServiceRecipe, Storage
from triton_env.readiness import DeadlineExceeded, wait_until_ready
from triton_env.redaction import redacted
from triton_env.runtimes import failures
from triton_env.runtimes.archives import archive_of
from triton_env.runtimes.base import Report
from triton_env.runtimes.engine import Engine, explanation
from triton_env.runtimes.execution import in_container
from triton_env.runtimes.lifeline import Lifeline
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, Owner
from triton_env.runtimes.ports import free_port, listener_on
from triton_env.runtimes.remains import FAILURES, remove_all, sweep
from triton_env.runtimes.ryuk import ensure_ryuk, with_session_label
from triton_env.runtimes.starts import Starts
from triton_env.settings import Settings
from triton_env.timeline import Phase

_log = logging.getLogger(__name__)

_PORT_TRIES = 10
"""How often to pick other ports when somebody else was quicker."""
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
        self._network_lock = threading.Lock()
        self._starts = Starts()
        # Beside the services, not before them: Ryuk takes a second to start.
        self._ryuk = threading.Thread(target=ensure_ryuk, args=(self._engine,), daemon=True)
        self._sweeper = threading.Thread(
            target=sweep, args=(self._engine, self._starts.cancelled.is_set), name="triton-sweep", daemon=True
        )
        lifeline: Lifeline | None = None
        try:
            with self._engine.translated("tell where this process runs"):
                self.addresses = self._engine.addresses(settings)
            self._owner = Owner.this_process(environment)
            # Before there is anything to remove. It starts within milliseconds, and gets ready beside the services.
            self._lifeline = lifeline = Lifeline(self._engine.url, self._engine.client.api.api_version, environment)
            self._ryuk.start()
            self._sweeper.start()
        except BaseException:
            if lifeline:
                lifeline.end()
            if self._ryuk.ident:
                self._ryuk.join(_RYUK_TIMEOUT)
            self._engine.close()
            raise

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        self._check_reach(recipe)
        report(Phase.PULL, "")
        volumes = self._engine.ensure_image(
            recipe.container.image,
            recipe.container.image_variable,
            self._settings,
            lambda words: report(Phase.PULL, words),
            self._starts.cancelled,
        )
        # From here on there is something to remove. A pull is not waited for by `stop`.
        with self._starts.one(recipe):
            for tries_left in reversed(range(_PORT_TRIES)):
                report(Phase.CREATE, "")
                ports = self._host_ports(recipe)
                placement = self._placement(recipe, ports)
                container = self._container(recipe, volumes, ports, functools.partial(probe, placement))
                try:
                    with self._engine.translated(f"start the container for {recipe.title}", container.name):
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
                    container.stop()
                else:
                    # Whoever has the environment may start containers by Testcontainers, which asks for Ryuk without a
                    # lock: a second one of its name would be refused. Most often it is there long before the service.
                    self._ryuk.join(_RYUK_TIMEOUT)
                    self._ready[recipe.name] = placement
                    report(Phase.READY, "")
                    return placement
        raise AssertionError("unreachable: the last try returns or raises")

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        container = self._containers.get(service)
        return redacted(container.log_tail(lines, since), self._starts.secrets) if container else ""

    def log_position(self, service: str) -> float:
        return time.time()

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        container = self._containers.get(service)
        if container is None or service not in self._ready or not look or self._starts.cancelled.is_set():
            return None
        return self._engine.ending(
            container.name,
            self._ready[service],
            where=f"container {container.name}, image {container.image}",
            hint=BEGIN_ANEW,
        )

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        container = self._containers[service]
        return in_container(self._engine.url, container.name, container.recipe, argv, environment)

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
        still_starting = self._starts.call_off()
        try:
            self._ryuk.join(_IN_FLIGHT_TIMEOUT)
            # Twice, where services are still starting: what goes in the first round ends the requests that their
            # starts wait for; what these had created by then goes in the second.
            problems = self._remove_everything()
            self._starts.wait(_IN_FLIGHT_TIMEOUT)
            if still_starting or problems:
                problems = self._remove_everything()
            self._sweeper.join(_SWEEP_TIMEOUT)
        finally:
            for container in self._containers.values():
                container.get_docker_client().client.close()
            self._engine.close()
        if problems:
            self._lifeline.leave()
            raise CleanupFailed(
                f"Containers or networks of the environment {self._environment} may be left behind.",
                where=self._engine.url,
                cause="; ".join(problems),
                hint=f"docker rm -fv $(docker ps -aq --filter label={ENVIRONMENT_LABEL}={self._environment})",
            )
        self._lifeline.end()

    def _remove_everything(self) -> list[str]:
        """Remove what the engine has with our label (not what we remember); return what went wrong."""
        try:
            _, problems = remove_all(self._engine.client.api, f"{ENVIRONMENT_LABEL}={self._environment}")
        except FAILURES as error:
            return [explanation(error)]
        return problems

    def _host_ports(self, recipe: ServiceRecipe) -> dict[Port, int]:
        if self._settings.triton_ports == "fixed":
            return {port: port.fixed for port in recipe.ports}
        return {port: free_port(self.addresses.bind) for port in recipe.ports}

    def _placement(self, recipe: ServiceRecipe, ports: Mapping[Port, int]) -> Placement:
        return Placement(
            endpoints={port.name: Endpoint(self.addresses.host, number) for port, number in ports.items()},
            internal={port.name: Endpoint(recipe.container.alias, port.number) for port in recipe.ports},
        )

    def _container(
        self,
        recipe: ServiceRecipe,
        volumes: tuple[str, ...],
        ports: Mapping[Port, int],
        probe: Callable[[], None],
    ) -> "ServiceContainer":
        container = ServiceContainer(
            recipe,
            volumes,
            {str(port.number): (self.addresses.bind, number) for port, number in ports.items()},
            self.addresses.name,
            name=f"triton-{self._environment}-{recipe.name}",
            network=self._ensure_network(),
            labels=self._owner.labels(recipe.name),
        )
        container.waiting_for(
            ReadinessProbe(probe, recipe, self._settings.triton_poll_interval, self._starts.cancelled)
        )
        self._containers[recipe.name] = container
        return container

    def _ensure_network(self) -> Network:
        with self._network_lock:
            if self._network is None:
                network = Network(docker_network_kw={"labels": self._owner.labels()})
                network.name = f"triton-network-{self._environment}"
                with self._engine.translated("create a network", network.name):
                    self._network = network.create()
            return self._network

    def _port_taken(self, recipe: ServiceRecipe, ports: Mapping[Port, int]) -> PortTaken:
        holders = {number: self._engine.publisher_of(number) or listener_on(number) for number in ports.values()}
        return failures.port_taken(recipe, self.addresses.bind, holders, instead=failures.RANDOM_PORTS)


class ServiceContainer(DockerContainer):
    """A container that runs one service.

    It differs from its base in what that cannot express: ports on one host address, labelled storage for every path
    that the image declares as a volume, and a start that leaves images and Ryuk to the runtime, which handles them
    once and without a race.
    """

    def __init__(
        self,
        recipe: ServiceRecipe,
        volumes: tuple[str, ...],
        published: Mapping[str, tuple[str, int]],
        host_name: str,
        *,
        name: str,
        network: Network,
        labels: dict[str, str],
    ) -> None:
        container = recipe.container
        super().__init__(
            container.image,
            env={**container.environment, **_host_variable(container, host_name)},
            network=network,
            network_aliases=[container.alias],
        )
        # Without Testcontainers' prefix: the name has it already, as it was looked up and pulled.
        self.image = container.image
        self.name = name
        self.recipe = recipe
        self._published = dict(published)
        self._labels = labels
        self._paths = tuple(dict.fromkeys((*volumes, *container.data_paths)))

    def start(self, on_boot: Callable[[], None] = lambda: None) -> "ServiceContainer":
        """Create and start the container and wait for it. `on_boot` is called between the two."""
        client = self.get_docker_client()
        self._container = client.create(self.image, **self._options())
        if files := self.recipe.container.files:
            # Not mounted: the engine may be on another machine, or see other files than this process.
            self._container.put_archive("/", archive_of(files))
        on_boot()
        client.start(self._container)
        assert self._wait_strategy is not None
        self._wait_strategy.wait_until_ready(self)
        return self

    def _options(self) -> dict[str, Any]:
        container = self.recipe.container
        assert self._network is not None
        options: dict[str, Any] = {
            "name": self.name,
            "command": list(container.command) or None,
            "environment": self.env,
            "ports": self._published,
            "labels": self._labels,
            "cpu_shares": container.cpu_shares,
            "network": self._network.name,
            "networking_config": {
                self._network.name: EndpointConfig(docker_sdk_version.__version__, aliases=self._network_aliases)
            },
        }
        if container.storage is Storage.MEMORY:
            options["tmpfs"] = dict.fromkeys(self._paths, "")
        else:
            # No source: a volume of this container alone, removed with it.
            labels = with_session_label(self._labels)
            options["mounts"] = [Mount(path, None, type="volume", labels=labels) for path in self._paths]
        return options

    def log_tail(self, lines: int, since: float | None = None) -> str:
        """The last lines of both streams, from a time on; empty if there is no container any more."""
        if self._container is None:
            return ""
        try:
            return self._container.logs(tail=lines, since=since).decode(errors="replace")
        except docker.errors.DockerException:
            return ""

    def check_alive(self) -> None:
        """Raise `ServiceExited` if the container has ended."""
        assert self._container is not None
        try:
            self._container.reload()
        except docker.errors.NotFound as error:
            raise ServiceExited(
                f"The container of {self.recipe.title} was removed from outside while it started.",
                where=self.name,
            ) from error
        state = self._container.attrs["State"]
        if state["Status"] not in ("exited", "dead"):
            return
        cause = container_words(state["ExitCode"], out_of_memory=bool(state.get("OOMKilled")))
        raise failures.service_exited(
            self.recipe,
            where=f"container {self.name}, image {self.image}",
            cause=f"{cause} {state.get('Error') or ''}".strip(),
            log=self.log_tail(failures.LOG_LINES),
            hint=f"check {self.recipe.container.image_variable} and the settings of {self.recipe.title}",
        )


def _host_variable(container: ContainerRecipe, name: str) -> dict[str, str]:
    return {container.host_variable: name} if container.host_variable and name else {}


class ReadinessProbe(WaitStrategy):
    """Waits until the container runs and a client did real work, or the container has ended."""

    def __init__(
        self,
        probe: Callable[[], None],
        recipe: ServiceRecipe,
        interval: float,
        cancelled: threading.Event,
    ) -> None:
        super().__init__()
        self._probe = probe
        self._recipe = recipe
        self._cancelled = cancelled
        # Both: Testcontainers derives one from the other only through its global configuration.
        self._startup_timeout = recipe.timeout
        self._poll_interval = interval

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        assert isinstance(container, ServiceContainer)
        status = ContainerStatusWaitStrategy()
        status._startup_timeout, status._poll_interval = (
            self._startup_timeout,
            self._poll_interval,
        )
        try:
            status.wait_until_ready(container)
        except TimeoutError:
            container.check_alive()
            raise
        try:
            wait_until_ready(
                self._probe,
                timeout=self._startup_timeout,
                interval=self._poll_interval,
                check_alive=container.check_alive,
                cancelled=self._cancelled,
            )
        except DeadlineExceeded as error:
            raise failures.service_not_ready(
                self._recipe,
                error,
                where=f"container {container.name}, image {container.image}, status {container.status}",
                log=container.log_tail(failures.LOG_LINES),
            ) from error.last_error
