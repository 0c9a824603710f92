"""The persistent services of a project: looked at, stopped, restarted, removed, and used by programs."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from triton_env.backup.journal import Place
from triton_env.core.model import Program
from triton_env.core.setting_types import SecretStr
from triton_env.core.threads import in_thread
from triton_env.errors import CleanupFailed, NotOffered, StartCancelled, TritonError
from triton_env.persistent.compose import SERVICE_LABEL, VOLUME_LABEL, Compose
from triton_env.persistent.compose_file import OUR_LABEL, used_file
from triton_env.persistent.containers import Project, ProjectContainer
from triton_env.persistent.settings import persistent_settings
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.runtimes.docker.address import AddressPlan
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.usage import usage_of
from triton_env.runtimes.docker.watch import while_engine_answers
from triton_env.services import SERVICES, Service
from triton_env.settings import Settings
from triton_env.state.leases import Leases
from triton_env.status import ServiceStatus, UnfinishedRestore, look_at, lost_restore, unfinished_restore

_SIZE_TIMEOUT = 2.0
_TURN_TIMEOUT = 120
"""Seconds to wait for another process that starts or stops services of the project."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What the engine has of a project, in each case names by ids; for volumes these are the same."""

    containers: Mapping[str, str]
    networks: Mapping[str, str]
    volumes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.containers or self.networks or self.volumes)


def not_persistent(titles: Sequence[str], project: str) -> NotOffered:
    """The error that services have no data that stays, as far as their recipes say."""
    return NotOffered(
        f"{' and '.join(titles)} cannot be persistent: nothing is known of data that stays.",
        where=f"project {project}",
        hint="start a session: python -m triton_env serve, TritonEnvironment()",
    )


def check_offered(names: Iterable[str], project: str) -> None:
    """See that services can be persistent.

    Raises:
        NotOffered: one cannot.
    """
    own = tuple(SERVICES)
    if unable := [SERVICES[name].title for name in names if name not in own]:
        raise not_persistent(unable, project)


class Stack:
    """The persistent services of the project that the settings name, on one engine. To be closed, best by `with`.

    Attributes:
        settings: those in force.
        project: its name.
        file: the compose file.
        engine: the engine that has them.

    Args:
        settings: which project, and how its services are run.

    Raises:
        InvalidSetting: settings that disagree.
        RuntimeUnavailable: no engine can be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = persistent_settings(settings)
        self.project = self.settings.triton_project
        self._recipes = {name: kind.recipe(self.settings) for name, kind in SERVICES.items()}
        self.file = used_file(self.settings)
        self.engine = Engine()
        self.on_engine = Project(self.engine, self.project)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the engine. May be called again."""
        self.engine.close()

    def found(self) -> dict[str, ProjectContainer]:
        """All containers of the project by their service's name in the compose file, running or not.

        Raises:
            ProjectTaken: the project is that of another checkout or program.
        """
        found = self.on_engine.containers()
        self.on_engine.check_ours(found.values(), self.file)
        return found

    def containers(self) -> dict[str, ProjectContainer]:
        """The containers by service name, running or not.

        Raises:
            ProjectTaken: the project is that of another checkout or program.
        """
        found = self.found()
        names = {recipe.container.alias: name for name, recipe in self._recipes.items()}
        return {names[alias]: container for alias, container in found.items() if alias in names}

    def running(self) -> dict[str, Service]:
        """The services that run, by name, with the names and passwords that they were given."""
        return self._running(self.containers())

    def status(self) -> tuple[ServiceStatus, ...]:
        """Look at every service, and ask those that run; see `look_at`. Nothing is changed."""
        containers = self.containers()
        statuses = look_at(containers, self._running(containers), lambda container: usage_of(self.engine, container.id))
        unfinished = self.unfinished_restore(statuses)
        return tuple(unfinished.seen_in(status) for status in statuses) if unfinished else statuses

    def unfinished_restore(self, statuses: Sequence[ServiceStatus] = ()) -> UnfinishedRestore | None:
        """The restore into these services that was interrupted, or is going on. Nothing is changed.

        Args:
            statuses: of the services, which know also of one whose journal is gone.
        """
        return unfinished_restore(self._journal) or lost_restore(statuses)

    def settle_restore(self, say: Callable[[str], None]) -> bool:
        """Finish the restore that was interrupted, or take it back, in those services that run; whether it is done.

        Raises:
            RestoreUnfinished: a server refused.
            RestoreFailed: another process restores, or makes a backup.
        """
        from triton_env.backup.recovery import settle

        with self._journal.held():
            settle(self._journal, self.running(), say)
        return self._journal.read() is None

    def in_use(self) -> bool:
        """Whether other processes use the services at present, as far as they are of triton-env."""
        with self._turn() as leases:
            return leases.others()

    def down(self) -> None:
        """Stop and remove the containers and the network. Volumes stay.

        Raises:
            ComposeFailed: it could not be done.
        """
        with self._turn():
            self.compose.down()

    def restart(self, names: Sequence[str], on_ready: Callable[[str, float], None]) -> None:
        """Restart services, also those that were stopped, and wait until they answer.

        Args:
            names: of services that have a container.
            on_ready: called with each name and the seconds that it took since its container was started.

        Raises:
            ComposeFailed, StartFailed: a service cannot be restarted or does not become ready.
        """
        with self._turn():
            self.compose.restart([self._recipes[name].container.alias for name in names])
            began = time.monotonic()
            containers = self.containers()
        cancelled = threading.Event()

        def wait_for(name: str) -> None:
            try:
                self.on_engine.wait_for(
                    self._recipes[name],
                    containers[name],
                    self._service(name, containers[name]).ensure_ready,
                    interval=self.settings.triton_poll_interval,
                    cancelled=cancelled,
                )
            except BaseException:
                cancelled.set()
                raise
            on_ready(name, time.monotonic() - began)

        try:
            waits = [in_thread(wait_for, name) for name in names]
            errors = [error for each in waits if (error := each.exception())]
        finally:
            cancelled.set()
        if errors:
            # One that was cancelled failed because of another; that one is to blame.
            raise min(errors, key=lambda error: isinstance(error, StartCancelled))

    def belongings(self, names: Sequence[str] = ()) -> Belongings:
        """What the engine has of the project: of these services, or all of it, which includes the network.

        Everything in it has the label of triton-env with the project's name; nothing else is looked at.

        Raises:
            ProjectTaken: the project is that of another checkout or program.
        """
        self.containers()
        aliases = {self._recipes[name].container.alias for name in names}
        ask = self.engine.ask
        filters = {"label": [f"{OUR_LABEL}={self.project}"]}
        with self.engine.translated("list what belongs to the project", f"project {self.project}"):
            containers = ask("/containers/json", all=True, filters=filters)
            networks = [] if names else ask("/networks", filters=filters)
            volumes = ask("/volumes", filters=filters)["Volumes"] or []
        return Belongings(
            containers={
                # One that is being removed may have lost its name.
                each["Id"]: (each["Names"] or [each["Id"][:12]])[0].lstrip("/")
                for each in containers
                if self._is_ours(each) and (not names or each["Labels"].get(SERVICE_LABEL) in aliases)
            },
            networks={each["Id"]: each["Name"] for each in networks if self._is_ours(each)},
            volumes=tuple(
                sorted(
                    each["Name"]
                    for each in volumes
                    # The compose file names volumes by their service.
                    if self._is_ours(each)
                    and (not names or each["Labels"].get(VOLUME_LABEL, "").partition("_")[0] in aliases)
                )
            ),
        )

    def with_data(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Those of these services (or of all) that have a volume."""
        volumes = {volume.partition("_")[0] for volume in self.on_engine.volumes()}
        return tuple(name for name in names or SERVICES if self._recipes[name].container.alias in volumes)

    def sizes(self, volumes: Sequence[str]) -> dict[str, int]:
        """The sizes of volumes in bytes, for those of which the engine reports it in `_SIZE_TIMEOUT` seconds."""
        try:
            usage: Mapping[str, Any] = in_thread(self.engine.ask, "/system/df").result(_SIZE_TIMEOUT)
        except Exception:  # whatever it is, the list is as good without sizes
            return {}
        sizes = {each["Name"]: (each.get("UsageData") or {}).get("Size", -1) for each in usage.get("Volumes") or ()}
        return {name: sizes[name] for name in volumes if sizes.get(name, -1) >= 0}

    def remove(self, names: Sequence[str] = ()) -> Belongings:
        """Destroy what `belongings` lists, data and all, and return it.

        Raises:
            CleanupFailed: something is still there; all else was removed.
        """
        from triton_env.persistent.volume_files import remove_leftovers

        api = self.engine.client.api
        problems: list[str] = []

        def tried(what: str, action: Callable[..., object], *arguments: object) -> None:
            try:
                with self.engine.translated(f"remove {what}"):
                    action(*arguments)
            except TritonError as error:
                if not _is_gone(error):
                    problems.append(f"{what}: {error.cause}")

        def remove_container(identity: str) -> None:
            # Killed: what a server would save on its way out is removed next. v: its anonymous volumes as well.
            api.remove_container(identity, force=True, v=True)

        with self._turn():
            # Of a process that was killed while it looked into the volumes: the engine would not remove these.
            with self.engine.translated("remove what a killed process left", f"project {self.project}"):
                remove_leftovers(self.engine, self.project)
            belongings = self.belongings(names)
            # Waited for where a signal can end it, and not by the interpreter's end.
            for removal in [
                in_thread(tried, f"container {name}", remove_container, identity)
                for identity, name in belongings.containers.items()
            ]:
                removal.result()
            for identity, name in belongings.networks.items():
                tried(f"network {name}", api.remove_network, identity)
            for name in belongings.volumes:
                tried(f"volume {name}", api.remove_volume, name)
        if not problems:
            # What was to be finished or taken back is gone with the data.
            self._journal.forget(names or tuple(SERVICES))
        if problems:
            raise CleanupFailed(
                f"Not everything of the project {self.project} could be removed.",
                where=f"project {self.project}",
                cause="\n".join(problems),
                hint=f"docker ps --all --filter label={OUR_LABEL}={self.project}",
            )
        return belongings

    def access(self, name: str) -> ContainerAccess:
        """What lets programs at a service that has a container."""
        return ContainerAccess(self.engine.url, self.containers()[name].name)

    def logs(self, names: Sequence[str], *, follow: bool, tail: int | None, color: bool) -> Program:
        """How to show the logs of services (or of all), by Compose. Their secrets are not taken out.

        Args:
            names: of services.
            follow: whether it goes on with what they write from now on.
            tail: how many lines of each at most; None for all.
            color: whether the names of services are coloured.
        """
        words = ["--ansi", "always" if color else "never", "logs"]
        words += ["--follow"] if follow else []
        words += ["--tail", str(tail)] if tail is not None else []
        words += [self._recipes[name].container.alias for name in names]
        argv, environment = self.compose.command(words)
        return Program(tuple(argv), environment)

    def while_engine_answers(self, process: "subprocess.Popen[str]") -> AbstractContextManager[None]:
        """End a program that works at the engine as soon as that hangs.

        Raises:
            EngineUnreachable: it did so.
        """
        return while_engine_answers(process, self.engine.ping, self.engine.url)

    def secrets(self) -> frozenset[str]:
        """What may not appear in messages: the passwords of the settings and those in containers."""
        known = [self.settings, *(self._settings_of(container) for container in self.containers().values())]
        return frozenset().union(*(settings.secrets() for settings in known))

    @cached_property
    def compose(self) -> Compose:
        """Compose, for this project on this engine."""
        addresses = self.addresses
        return Compose(self.settings, self.engine.url, addresses.bind, addresses.name, ping=self.engine.ping)

    @cached_property
    def addresses(self) -> AddressPlan:
        """Where the services are published, and where this process reaches them."""
        with self.engine.translated("say where this process runs"):
            return self.engine.addresses(self.settings)

    @cached_property
    def _journal(self) -> Place:
        return Place(self.settings, self.project, lasting=True)

    @cached_property
    def leases(self) -> Leases:
        """Which processes use the services."""
        return Leases(self.settings, self.project)

    @contextmanager
    def _turn(self) -> Iterator[Leases]:
        leases = self.leases
        with leases.turn(_TURN_TIMEOUT):
            yield leases

    def _running(self, containers: Mapping[str, ProjectContainer]) -> dict[str, Service]:
        return {
            name: self._service(name, containers[name])
            for name in SERVICES
            if name in containers and containers[name].running
        }

    def _service(self, name: str, container: ProjectContainer) -> Service:
        return SERVICES[name](
            self._settings_of(container), container.placement(self._recipes[name], self.addresses.host)
        )

    def _settings_of(self, container: ProjectContainer) -> Settings:
        """The settings with the names and passwords that a container was given."""
        given: dict[str, object] = {}
        for name, value in container.environment.items():
            match getattr(self.settings, name.lower(), None):
                case SecretStr():
                    given[name.lower()] = SecretStr(value)
                case str():
                    given[name.lower()] = value
        return self.settings.updated(**given)

    def _is_ours(self, described: Mapping[str, Any]) -> bool:
        return bool((described.get("Labels") or {}).get(OUR_LABEL) == self.project)


def _is_gone(error: TritonError) -> bool:
    return getattr(getattr(error.__cause__, "response", None), "status_code", None) == 404
