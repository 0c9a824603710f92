"""The container of one service of a session, by Testcontainers, and the wait until it is ready."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import docker.errors
from docker import version as docker_sdk_version
from docker.types import EndpointConfig, Mount
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ContainerStatusWaitStrategy
from testcontainers.core.waiting_utils import WaitStrategy, WaitStrategyTarget

from triton_env.core.ending import container_words, state_of
from triton_env.core.model import ContainerRecipe, ServiceRecipe, Storage
from triton_env.core.readiness import DeadlineExceeded, wait_until_ready
from triton_env.errors import (
    ServiceExited,
)
from triton_env.runtimes import failures
from triton_env.runtimes.docker.archives import archive_of
from triton_env.runtimes.docker.ryuk import with_session_label
from triton_env.runtimes.docker.transport import FAILURES

_STOP_GRACE = 10
"""Seconds that a server gets to end by itself, as the engine has it."""


class ServiceContainer(DockerContainer):
    """A container that runs one service.

    It differs from its base in what that cannot express: ports on one host address, labelled storage for every path
    that the image declares as a volume, and a start that leaves images and Ryuk to the runtime, which handles them
    once and without a race. And all of them use one client of the engine, with our errors.
    """

    def __init__(
        self,
        client: DockerClient,
        sdk_options: Mapping[str, Any],
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
            dict(sdk_options),
            env={**container.environment, **_host_variable(container, host_name)},
            network=network,
            network_aliases=[container.alias],
        )
        self._docker.client.close()
        self._docker = client
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

    def restart(self) -> None:
        """End what runs in the container, start it again, and wait for it. Its ports stay the same."""
        assert self._container is not None
        assert self._wait_strategy is not None
        self._container.reload()
        if self._container.status == "paused":
            self._container.unpause()
        self._container.restart(timeout=_STOP_GRACE)
        self._wait_strategy.wait_until_ready(self)

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

    def remove(self) -> None:
        """Remove the container, where it was created."""
        if self._container is not None:
            self._container.remove(force=True, v=True)

    def log_tail(self, lines: int, since: float | None = None) -> str:
        """The last lines of both streams, from a time on; empty if the container is gone."""
        if self._container is None:
            return ""
        try:
            return self._container.logs(tail=lines, since=since).decode(errors="replace")
        except docker.errors.APIError:
            return ""

    def last_words(self) -> str:
        """What it wrote last, for an error that is about something else than the engine."""
        with suppress(*FAILURES):
            return self.log_tail(failures.LOG_LINES)
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
        if state_of(state["Status"]) not in ("exited", "dead"):
            return
        cause = container_words(state["ExitCode"], out_of_memory=bool(state.get("OOMKilled")))
        raise failures.service_exited(
            self.recipe,
            where=f"container {self.name}, image {self.image}",
            cause=f"{cause} {state.get('Error') or ''}".strip(),
            log=self.last_words(),
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
                log=container.last_words(),
            ) from error.last_error
