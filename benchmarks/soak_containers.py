"""The containers of `soak.py`: what the engine says of them, killing one, and removing all of a project."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self, cast

from docker.errors import NotFound

from triton_env.persistent.docker.compose import OUR_LABEL
from triton_env.persistent.docker.containers import Project, ProjectContainer
from triton_env.runtimes.docker.engine import Engine
from triton_env.services import SERVICES
from triton_env.settings import Settings

MB = 1e6


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses at a moment.

    Attributes:
        memory: MB as `docker stats` shows it: without the page cache that was not used lately.
        kept: MB that the kernel cannot take back: of the processes, and what they share. Growth shows in these, since
            the page cache grows with every file that is read, until another process needs the memory.
        cpu: percent of one CPU since the sample before; None in the first one.
        tasks: processes and threads.
        health: what its health check says.
        restarts: how often the engine started it again by itself.
        started: when it was started, in ISO form.
    """

    memory: float
    kept: float
    cpu: float | None
    tasks: int
    health: str
    restarts: int
    started: str

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


class Containers:
    """The containers of a persistent project.

    Raises:
        TritonError: the engine cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.project = settings.triton_project
        self.engine = Engine()
        self._project = Project(self.engine, self.project)
        recipes = {name: service.recipe(settings) for name, service in SERVICES.items()}
        self._aliases = {name: recipe.container.alias for name, recipe in recipes.items()}
        self._pool = ThreadPoolExecutor(len(SERVICES), thread_name_prefix="soak-stats")
        self._cpu: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self.engine.close()

    def usages(self) -> dict[str, Usage]:
        """What each service's container uses now; one that does not run is left out.

        Raises:
            TritonError: the engine does not answer.
        """
        containers = self._project.containers()
        there = {
            name: containers[alias]
            for name, alias in self._aliases.items()
            if alias in containers and containers[alias].running
        }
        # At once: an engine takes a second for each.
        answers = self._pool.map(self._stats, (container.id for container in there.values()))
        return {
            name: self._usage(container, stats)
            for (name, container), stats in zip(there.items(), answers, strict=True)
            if stats.get("memory_stats")
        }

    def on_disk(self, service: str) -> float | None:
        """MB of a service's data on disk; None where its container cannot tell."""
        container = self._container(service)
        mounts = self.engine.client.api.inspect_container(container.id)["Mounts"]
        paths = [mount["Destination"] for mount in mounts if mount["Type"] == "volume"]
        with self.engine.translated("measure data on disk", container.name):
            status, answer = self.engine.client.containers.get(container.id).exec_run(["du", "-sk", *paths], user="0")
        output = cast(bytes, answer)
        # 1: a file was removed in the meantime.
        lines = output.decode(errors="replace").splitlines() if status in (0, 1) else []
        sizes = [int(line.split()[0]) for line in lines if line.split()[0].isdigit()]
        return sum(sizes) * 1024 / MB if sizes else None

    def kill(self, service: str) -> None:
        """SIGKILL, as when the machine loses power, and start again: the same container on the same port."""
        container = self._container(service)
        with self.engine.translated("kill and start a container", container.name):
            self.engine.client.api.kill(container.id)
            self.engine.client.api.start(container.id)

    def volumes(self) -> list[str]:
        """The names of the project's volumes on the engine."""
        return list(self._project.volumes().values())

    def remove(self) -> None:
        """Remove the project's containers, network and volumes: what carries its label and ours.

        Raises:
            TritonError: something is left behind.
        """
        api = self.engine.client.api
        ours: dict[str, Any] = {"label": f"{OUR_LABEL}={self.project}"}
        with self.engine.translated("remove the project", f"project {self.project}"):
            for container in api.containers(all=True, filters=ours):
                with suppress(NotFound):
                    api.remove_container(container["Id"], v=True, force=True)
            for network in api.networks(filters=ours):
                with suppress(NotFound):
                    api.remove_network(network["Id"])
            for volume in api.volumes(filters=ours)["Volumes"] or ():
                with suppress(NotFound):
                    api.remove_volume(volume["Name"])

    def _container(self, service: str) -> ProjectContainer:
        return self._project.containers()[self._aliases[service]]

    def _stats(self, container: str) -> Mapping[str, Any]:
        with self.engine.translated("measure a container", f"project {self.project}"):
            try:
                answer: Mapping[str, Any] = self.engine.client.api.stats(container, stream=False, one_shot=True)
            except NotFound:
                return {}
        return answer

    def _usage(self, container: ProjectContainer, stats: Mapping[str, Any]) -> Usage:
        memory = stats["memory_stats"]

        def part(name: str) -> float:
            # The names of version 1 of control groups, and of version 2.
            return float(memory["stats"].get(f"total_{name}", memory["stats"].get(name, 0)))

        return Usage(
            memory=(memory["usage"] - part("inactive_file")) / MB,
            kept=(part("active_anon") + part("inactive_anon") + part("unevictable")) / MB,
            cpu=self._cpu_since(container.id, stats),
            tasks=stats["pids_stats"].get("current", 0),
            health=container.health,
            restarts=container.restarts,
            started=container.started.isoformat() if container.started else "",
        )

    def _cpu_since(self, container: str, stats: Mapping[str, Any]) -> float | None:
        # The engine's clock: an answer may take its time.
        at = datetime.fromisoformat(stats["read"][:26].rstrip("Z") + "+00:00").timestamp()
        used: float = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        before, self._cpu[container] = self._cpu.get(container), (at, used)
        # Less than before: it was started again.
        if before is None or at <= before[0] or used < before[1]:
            return None
        return (used - before[1]) / (at - before[0]) * 100
