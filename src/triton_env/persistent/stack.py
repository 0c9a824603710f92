"""The persistent services of a project, whatever runs them: looked at, stopped, restarted, removed, and used."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from triton_env.backup.journal import Place
from triton_env.core.merging import merged
from triton_env.core.model import ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.core.setting_types import SecretStr
from triton_env.core.threads import in_thread
from triton_env.core.usage import Usage
from triton_env.errors import NotOffered, StartCancelled
from triton_env.persistent import starts
from triton_env.persistent.instance import Instance
from triton_env.persistent.settings import persistent_settings
from triton_env.runtimes.access import Access
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.services import SERVICES, Service
from triton_env.settings import Settings
from triton_env.state.leases import Leases
from triton_env.status import ServiceStatus, UnfinishedRestore, look_at, lost_restore, unfinished_restore

if TYPE_CHECKING:
    from triton_env.persistent.runtime import LastingRuntime

_TURN_TIMEOUT = 120
"""Seconds to wait for another process that starts or stops services of the project."""


class Words(NamedTuple):
    """What a kind of thing is called: one, and several of it."""

    one: str
    several: str


@dataclass(frozen=True, slots=True)
class Belongings:
    """What there is of a project.

    Attributes:
        servers: running or not, with their names by ids.
        networks: the same of networks.
        data: what holds data, by name or path.
        server: what such a server is.
        holder: what such data is in.
    """

    servers: Mapping[str, str]
    networks: Mapping[str, str]
    data: tuple[str, ...]
    server: Words
    holder: Words

    def __bool__(self) -> bool:
        return bool(self.servers or self.networks or self.data)


def not_persistent(titles: Sequence[str], project: str) -> NotOffered:
    """The error that services have no data that stays, as far as their recipes say."""
    return NotOffered(
        f"{' and '.join(titles)} cannot be persistent: no data of theirs is known to stay.",
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


class Stack(ABC):
    """The persistent services of the project that the settings name, in one place. To be closed, best by `with`.

    Attributes:
        settings: those in force.
        project: its name.

    Args:
        settings: which project, and how its services are run.
        any_checkout: whether the project may be that of another checkout: it was named by a person who looks at it.

    Raises:
        InvalidSetting: settings that disagree.
        RuntimeUnavailable: they cannot run here.
    """

    runtime: ClassVar[str]
    """Where the services run: "docker", "embedded" or "kubernetes"."""
    reason: str = "persistent services run there"
    """Why they run there; completes the sentence "since ..."."""
    cluster: Cluster | None = None
    """The namespace that has them, where they run in a cluster."""

    def __init__(self, settings: Settings, *, any_checkout: bool = False) -> None:
        self._any_checkout = any_checkout
        self.settings = persistent_settings(settings)
        self.project = self.settings.triton_project
        self._recipes = {name: kind.recipe(self.settings) for name, kind in SERVICES.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - what holds no connection has none to close
        """Close connections. May be called again."""

    _absent = "it has no container"
    """Why a service without a server cannot be used."""

    @property
    @abstractmethod
    def place(self) -> str:
        """In words, what decides how the services run or where their data is."""

    def offered(self) -> tuple[str, ...]:
        """The services that can be persistent in this place."""
        return tuple(SERVICES)

    @abstractmethod
    def open(
        self, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]
    ) -> "LastingRuntime[Self]":
        """The runtime that starts services, or attaches to those that run. Its `stop` closes this.

        Args:
            recipes: the services that will be started.
            apply: whether running services that differ from the settings are replaced; else they are left as they are.
            say: called with what a person should know.

        Raises:
            TritonError: they cannot run here, or are those of another checkout.
        """

    @abstractmethod
    def instances(self) -> Mapping[str, Instance]:
        """The servers by service name, running or not.

        Raises:
            ProjectTaken: the project is that of another checkout or program.
        """

    def running(self) -> dict[str, Service]:
        """The services that run, by name, with the names and passwords that they were given."""
        return self._running(self.instances())

    def status(self) -> tuple[ServiceStatus, ...]:
        """Look at every service, and ask those that run; see `look_at`. Nothing is changed."""
        instances = self.instances()
        names = [name for name in SERVICES if name in instances or name in self.offered()]
        measures = {name: partial(self._usage, instance) for name, instance in instances.items()}
        statuses = look_at(instances, self._running(instances), measures, names, absent=self._absent)
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
        """Stop all services. Their data stays.

        Raises:
            TritonError: it could not be done.
        """
        self._down()
        starts.forget(self.settings, self.runtime)

    @abstractmethod
    def _down(self) -> None: ...

    def restart(self, names: Sequence[str], on_ready: Callable[[str, float], None]) -> None:
        """Restart services, also those that were stopped, and wait until they answer.

        Args:
            names: of services that are among the `instances`.
            on_ready: called with each name and the seconds that it took since its server was started.

        Raises:
            TritonError: a service cannot be restarted or does not become ready.
        """
        with self._turn():
            self._restart(names)
            began = time.monotonic()
            instances = self.instances()
        cancelled = threading.Event()

        def wait_for(name: str) -> None:
            service = self._service(name, instances[name])

            def probe() -> None:
                service.prepare()
                service.ensure_ready()

            try:
                self._wait_for(name, instances[name], probe, cancelled)
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

    @abstractmethod
    def belongings(self, names: Sequence[str] = ()) -> Belongings:
        """What there is of these services, or of the whole project. Nothing else is looked at.

        Raises:
            ProjectTaken: the project is that of another checkout or program.
        """

    @abstractmethod
    def with_data(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Those of these services (or of all) that have data."""

    @abstractmethod
    def sizes(self, data: Sequence[str]) -> dict[str, int]:
        """The sizes of what holds data, in bytes, as far as they are known soon."""

    def remove(self, names: Sequence[str] = ()) -> Belongings:
        """Destroy what `belongings` lists, data and all, and return it.

        Raises:
            CleanupFailed: something is still there; all else was removed.
        """
        with self._turn():
            gone = self._remove(names)
        # What was to be finished or taken back is gone with the data.
        self._journal.forget(names or tuple(SERVICES))
        if not names:
            starts.forget(self.settings, self.runtime)
        return gone

    @abstractmethod
    def access(self, name: str) -> Access:
        """What lets programs at a service that is among the `instances`."""

    def show_logs(
        self, names: Sequence[str], *, follow: bool, tail: int | None, color: bool, show: Callable[[str], None]
    ) -> bool:
        """Show the logs of services (or of all), without their secrets; whether that could be done.

        Args:
            names: of services.
            follow: whether it goes on with what they write from now on.
            tail: how many lines of each at most; None for all.
            color: whether the names of services are coloured.
            show: called with each line, which begins with the service's name and has its line break.
        """
        there = [name for name in self.instances() if not names or name in names]
        width = max(map(len, there), default=0)
        secrets = self.secrets()
        sources: dict[str, Iterator[str]] = {name: self.access(name).lines(tail, follow=follow) for name in there}
        for name, line in merged(sources):
            show(f"{name:<{width}}  | {redacted(line, secrets)}\n")
        return True

    def secrets(self) -> frozenset[str]:
        """What may not appear in messages: the passwords of the settings and those that servers were given."""
        known = [self.settings, *(self.settings_of(instance) for instance in self.instances().values())]
        return frozenset().union(*(settings.secrets() for settings in known))

    @cached_property
    def leases(self) -> Leases:
        """Which processes use the services."""
        return Leases(self.settings, self.project)

    @cached_property
    def _journal(self) -> Place:
        return Place(self.settings, self.project, lasting=True)

    @contextmanager
    def _turn(self) -> Iterator[Leases]:
        leases = self.leases
        with leases.turn(_TURN_TIMEOUT):
            yield leases

    def _running(self, instances: Mapping[str, Instance]) -> dict[str, Service]:
        return {
            name: self._service(name, instances[name])
            for name in SERVICES
            if name in instances and instances[name].running
        }

    @abstractmethod
    def _service(self, name: str, instance: Instance) -> Service:
        """A service as a server has it."""

    def settings_of(self, *instances: Instance) -> Settings:
        """The settings with the names and passwords that servers were given."""
        given: dict[str, object] = {}
        for instance in instances:
            for name, value in self._given(instance).items():
                match getattr(self.settings, name, None):
                    case SecretStr():
                        given[name] = SecretStr(value)
                    case str():
                        given[name] = value
        return self.settings.updated(**given)

    @abstractmethod
    def _given(self, instance: Instance) -> Mapping[str, str]:
        """What a server was given, by the names of settings. There may be more in it."""

    @abstractmethod
    def _usage(self, instance: Instance) -> Usage | None:
        """What a server uses at present; None where that is not known."""

    @abstractmethod
    def _restart(self, names: Sequence[str]) -> None:
        """Restart servers without waiting for them, in the turn of this process."""

    @abstractmethod
    def _wait_for(self, name: str, instance: Instance, probe: Callable[[], None], cancelled: threading.Event) -> None:
        """Wait until the probe of a service that was restarted succeeds; raises where its server ends instead."""

    @abstractmethod
    def _remove(self, names: Sequence[str]) -> Belongings:
        """See `remove`; in the turn of this process."""
