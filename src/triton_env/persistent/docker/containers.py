"""What the engine has of a persistent project: its containers and volumes, and whose they are."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from triton_env.core.ending import container_words, state_of, times
from triton_env.core.model import Endpoint, Placement, ServiceRecipe
from triton_env.core.readiness import DeadlineExceeded, Explain, wait_until_ready
from triton_env.errors import ProjectTaken, ServiceExited
from triton_env.persistent.compose_file import OUR_LABEL, is_same_stack
from triton_env.persistent.docker.compose import FILE_LABEL, PROJECT_LABEL, SERVICE_LABEL, VOLUME_LABEL
from triton_env.persistent.instance import Instance
from triton_env.runtimes import failures
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_socket import Absent

_END_TIMEOUT = 2
"""Seconds to wait for the next end of a container that the engine has just started again."""
_END_INTERVAL = 0.02
_RESTART_PAUSE = 0.1
"""Seconds that the engine waits at least before it starts a container again that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectContainer(Instance):
    """A container of the project, as the engine describes it.

    Attributes:
        service: the service's name in the compose file.
        published: host port by container port, for those that are published.
        environment: its variables, which hold secrets.
        file: the compose file that it was made from, or several with commas between.
        ended: when it ended last; None where it never did.
    """

    service: str
    published: Mapping[int, int]
    environment: Mapping[str, str] = field(repr=False)
    file: str
    ended: datetime | None = None

    def placement(self, recipe: ServiceRecipe, host: str) -> Placement:
        """Where its service answers, seen from a machine on which published ports are those of `host`."""
        ports = self.published
        return Placement(
            endpoints={port.name: Endpoint(host, ports[port.number]) for port in recipe.ports if port.number in ports},
            internal={port.name: Endpoint(recipe.container.alias, port.number) for port in recipe.ports},
        )


class Project:
    """The containers and volumes of one project on an engine."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self._label = f"{PROJECT_LABEL}={name}"
        self._engine = engine

    def containers(self) -> dict[str, ProjectContainer]:
        """The project's containers by service name of the compose file, running or not."""
        found: dict[str, ProjectContainer] = {}
        with self._engine.translated("list containers", f"project {self.name}"):
            for listed in self._engine.ask("/containers/json", all=True, filters={"label": [self._label]}):
                try:
                    container = _described(self._engine.ask(f"/containers/{listed['Id']}/json"))
                except Absent:  # it has just been removed
                    continue
                found[container.service] = container
        return found

    def wait_for(
        self,
        recipe: ServiceRecipe,
        container: ProjectContainer,
        probe: Callable[[], None],
        *,
        interval: float,
        cancelled: threading.Event,
        explain: Explain = lambda error: None,
    ) -> None:
        """Wait until the service in a container answers.

        Args:
            recipe: the service's.
            container: as it was when it began to start.
            probe: raises while the service does not answer.
            interval: seconds between two tries.
            cancelled: ends the wait early when set.
            explain: see `wait_until_ready`.

        Raises:
            TritonError: what `explain` returned.
            ServiceExited, ServiceNotReady, StartCancelled: it does not.
        """

        def check_alive() -> None:
            now = self.inspect(container.id)
            if now is None:
                raise ServiceExited(
                    f"The container of {recipe.title} was removed from outside while it started.", where=container.name
                )
            # The engine starts it again by itself, for ever: what ended once is not waited for.
            if now.has_ended or now.restarts > container.restarts:
                raise failures.service_exited(
                    recipe,
                    where=f"container {now.name}, image {now.image}",
                    cause=self._how_it_ended(now),
                    log=self.last_words(container.id),
                    hint=f"check {recipe.container.image_variable} and the settings of {recipe.title}",
                )

        try:
            wait_until_ready(
                probe,
                timeout=recipe.timeout,
                interval=interval,
                check_alive=check_alive,
                cancelled=cancelled,
                explain=explain,
            )
        except DeadlineExceeded as error:
            raise failures.service_not_ready(
                recipe,
                error,
                where=f"container {container.name}, image {container.image}",
                log=self.log_tail(container.id, failures.LOG_LINES),
            ) from error.last_error

    def _how_it_ended(self, container: ProjectContainer) -> str:
        """In words, how a container ended that may run again: only while it does not, the engine has its exit code."""
        deadline = time.monotonic() + _END_TIMEOUT
        while not container.has_ended and time.monotonic() < deadline:
            time.sleep(_END_INTERVAL)
            container = self.inspect(container.id) or container
        how = [container_words(container.exit_code, out_of_memory=container.out_of_memory)] * container.has_ended
        again = [f"the engine has restarted it {times(container.restarts)}"] * bool(container.restarts)
        return "; ".join(how + again)

    def last_words(self, container_id: str) -> str:
        """The end of the log of the run that ended last, without what the next one has written since."""
        text = self.log_tail(container_id, failures.LOG_LINES)
        now = self.inspect(container_id)
        if now is None or not now.running or not now.started:
            return text
        until = now.started.timestamp()
        if now.ended is not None:
            # The next run may have written before the engine has noted its start.
            until = min(until, now.ended.timestamp() + _RESTART_PAUSE)
        # The engine counts the lines before it looks at their times.
        text = self.log_tail(container_id, 100 * failures.LOG_LINES, until=until)
        return "\n".join(text.splitlines()[-failures.LOG_LINES :])

    def inspect(self, container_id: str) -> ProjectContainer | None:
        """A container as it is now; None where it is gone."""
        with self._engine.translated("look at a container", f"project {self.name}"):
            try:
                return _described(self._engine.ask(f"/containers/{container_id}/json"))
            except Absent:
                return None

    def volumes(self) -> dict[str, str]:
        """The project's volumes on the engine: their names there, by their names in the compose file."""
        with self._engine.translated("list volumes", f"project {self.name}"):
            listed = self._engine.ask("/volumes", filters={"label": [self._label]})
        return {
            volume["Labels"][VOLUME_LABEL]: volume["Name"]
            for volume in listed["Volumes"] or ()
            if OUR_LABEL in volume["Labels"]
        }

    def log_tail(self, container_id: str, lines: int, since: float | None = None, until: float | None = None) -> str:
        """The last lines of both streams between two times; empty where the container does not exist."""
        from docker.errors import NotFound

        with self._engine.translated("read a log", f"project {self.name}"):
            try:
                text: bytes = self._engine.client.api.logs(container_id, tail=lines, since=since, until=until)
            except NotFound:
                return ""
        return text.decode(errors="replace")

    def check_ours(self, containers: Iterable[ProjectContainer], file: Path, *, any_checkout: bool = False) -> None:
        """See that the project is that of this compose file, or with `any_checkout` that of any of triton-env's.

        Raises:
            ProjectTaken: another program or another checkout uses the name.
        """
        beside = f"run beside it: --project {self.name}2, or TRITON_PROJECT={self.name}2 in .env"
        for container in containers:
            # Several, where an application of the user's was started along: docker-compose.app.yml.
            files = [Path(name) for name in container.file.split(",") if name]
            if any(is_same_stack(each, file) for each in files):
                continue
            if not container.ours:
                raise ProjectTaken(
                    f"The project name {self.name!r} is in use by something other than triton-env.",
                    where=f"container {container.name}, of {container.file}",
                    hint=beside,
                )
            # A checkout that was moved or removed gives up its project.
            for other in () if any_checkout else filter(_may_exist, files[:1]):
                raise ProjectTaken(
                    f"The persistent services {self.name!r} belong to another checkout.",
                    where=f"container {container.name}, of {container.file}",
                    cause=f"this one is {file}",
                    hint=f"{beside}; or stop those: python -m triton_env down, in {other.parent}",
                )

    def check_folder(self, containers: Iterable[ProjectContainer], file: Path) -> None:
        """See that the project is that of this compose file, or of one in a folder of this user's.

        An engine may be that of several users, or of several machines.

        Raises:
            ProjectTaken: it may be another user's.
        """
        for container in containers:
            other = Path(container.file.partition(",")[0])
            if other == file or (container.file and _is_this_users(other.parent)):
                continue
            raise ProjectTaken(
                f"The data of the persistent services {self.name!r} may be another user's, so it is not destroyed.",
                where=f"container {container.name}, of {container.file or 'an unknown compose file'}",
                cause=f"the folder {other.parent} is not here, or not this user's" if container.file else "",
                hint=f"python -m triton_env reset --project {self.name}, there or where that was moved to",
            )


def _may_exist(file: Path) -> bool:
    try:
        return file.exists()
    except PermissionError:  # in a folder of another user's
        return True


def _is_this_users(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _described(attributes: Mapping[str, Any]) -> ProjectContainer:
    state, config = attributes["State"], attributes["Config"]
    labels = config.get("Labels") or {}
    variables = (variable.partition("=") for variable in config.get("Env") or ())
    return ProjectContainer(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        service=labels.get(SERVICE_LABEL, ""),
        image=config["Image"],
        status=state_of(state["Status"]),
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=state["ExitCode"],
        out_of_memory=bool(state.get("OOMKilled")),
        restarts=attributes.get("RestartCount", 0),
        started=_moment(state["StartedAt"]),
        ended=_moment(state["FinishedAt"]),
        published=_published(attributes["HostConfig"].get("PortBindings") or {}),
        environment={name: value for name, _, value in variables},
        file=labels.get(FILE_LABEL, ""),
        ours=OUR_LABEL in labels,
    )


def _published(bindings: Mapping[str, Any]) -> dict[int, int]:
    return {
        int(port.partition("/")[0]): int(bound[0]["HostPort"])
        for port, bound in bindings.items()
        if bound and bound[0].get("HostPort")
    }


def _moment(text: str) -> datetime | None:
    """A time of the engine's, to the microsecond; None for the year 1, its word for never."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    return moment if moment.year > 1 else None
