"""What runs: every environment of this user as data. `ps` and what else shows environments are views of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from triton_env.core.readiness import listens
from triton_env.core.settings_group import Role, SettingsGroup
from triton_env.core.threads import in_thread
from triton_env.errors import InvalidSetting, RuntimeUnavailable, TritonError
from triton_env.isolation.state import listed
from triton_env.persistent.embedded.projects import projects as embedded_projects
from triton_env.runtimes.choice import ENGINE_TIMEOUT, quick_problem
from triton_env.services import SERVICES
from triton_env.services.selection import known_name, title_of
from triton_env.settings import Settings
from triton_env.settings.project_folders import project_root
from triton_env.sharing.key import settings_from_data
from triton_env.sharing.users import users_of
from triton_env.state.registry import Record, Registry

if TYPE_CHECKING:
    from triton_env._startup import Startup
    from triton_env.persistent.docker.projects import ListedContainer
    from triton_env.persistent.embedded.orders import Noted, Noteds

HIDDEN = "***"
"""What stands for a password."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True)


class Owner(_Data):
    """The process to which an environment belongs: it ends with it.

    Attributes:
        pid: its id.
        held_by: what it is: `serve`, `run`, `reuse` (the keeper of a shared environment), `up` (the supervisor of
            persistent services without Docker), or `python`.
        command: its command line, in one string; empty where that is not known.
        project: the root of the project in which it was started; outside of projects the folder.
    """

    pid: int
    held_by: str
    command: str
    project: str


class ServiceEntry(_Data):
    """A service of an environment.

    Attributes:
        name: its name.
        title: its name for people.
        state: `running` where it listens, `silent` where it does not; of a container that does not run, what the engine
            calls its state.
        host: where it is reached from here; None where it is not.
        ports: by protocol.
        url: for clients, with `***` for the password; None where it does not run.
        container: the name of its container; None where it has none.
    """

    name: str
    title: str
    state: str
    host: str | None
    ports: Mapping[str, int]
    url: str | None
    container: str | None


class SpaceEntry(_Data):
    """A part of an environment besides its own: a namespace, also one that the pool has ready, a template, a snapshot.

    Attributes:
        kind: what it is.
        name: its id, the name of the snapshot, or the digest of the template.
        services: that have something of it.
        pid: of the process that made it; None where that is not known.
        is_kept: whether it outlives its process.
        changed: when it was made; a template when it was last used.
    """

    kind: Literal["namespace", "template", "snapshot"]
    name: str
    services: tuple[str, ...]
    pid: int | None
    is_kept: bool
    changed: datetime


class EnvironmentEntry(_Data):
    """An environment of this user.

    Attributes:
        id: its id; of persistent services their project.
        mode: whether it is one process's own, shared, persistent, or leads to servers that others run.
        runtime: where it runs.
        reason: why that runtime was chosen; completes the sentence "since ...". Empty where that is not known.
        started: when it was ready; None where it is not, or that is not known.
        owner: the process that has it; None for persistent services on Docker, which no process owns.
        users: the ids of the processes that use it besides its owner.
        is_offered: whether commands of its project use it unasked.
        services: what it has.
        spaces: its namespaces, templates and snapshots.
    """

    id: str
    mode: Literal["session", "shared", "persistent", "external"]
    runtime: str
    reason: str
    started: datetime | None
    owner: Owner | None
    users: tuple[int, ...]
    is_offered: bool
    services: tuple[ServiceEntry, ...]
    spaces: tuple[SpaceEntry, ...]


class Inspection(_Data):
    """What runs.

    Attributes:
        version: of this form. A later one may have more fields; another version has others.
        environments: the oldest first, persistent services last.
        engine_problem: why no Docker engine was asked for persistent services; None where one was.
    """

    version: Literal[1] = 1
    environments: tuple[EnvironmentEntry, ...]
    engine_problem: str | None


def inspect(settings: Settings) -> Inspection:
    """Look at everything that this user has running. No service is asked more than whether it listens.

    Raises:
        InvalidSetting: the state folder cannot be used.
    """
    records = Registry.of(settings).running()
    # All at once: what is on a machine or an engine that does not answer takes as long as it may.
    asked = in_thread(_persistent, settings)
    sessions = [in_thread(_of_record, record, settings) for record in records]
    try:
        persistent, problem = asked.result(ENGINE_TIMEOUT)
    except TimeoutError:
        persistent, problem = (), f"no engine answers within {ENGINE_TIMEOUT:g} s"
    processes = [_of_supervisor(name, noted, settings) for name, noted in embedded_projects(settings).items()]
    found = (*(session.result() for session in sessions), *processes, *persistent)
    return Inspection(environments=found, engine_problem=problem or None)


def of_startup(startup: "Startup") -> EnvironmentEntry:
    """An environment that this process has or uses; its services are waited for."""
    from triton_env.sharing.listing import record_of

    mode = startup.mode
    record: Record | None = None
    with suppress(InvalidSetting):  # it is not listed where no list can be kept
        record = next((each for each in Registry.of(mode.settings).running() if each.id == mode.id), None)
    if record is None:
        project, asked = str(project_root(Path.cwd())), mode.settings.triton_runtime
        record = record_of(startup, mode.id, held_by="python", is_offered=False, project=project, asked_runtime=asked)
    entry = _of_record(record, mode.settings)
    return entry.model_copy(update={"mode": "persistent", "owner": None}) if mode.is_of_project else entry


def _of_record(record: Record, settings: Settings) -> EnvironmentEntry:
    return EnvironmentEntry(
        id=record.id,
        mode=record.mode,
        runtime=record.runtime,
        reason=record.reason,
        started=datetime.fromtimestamp(record.started, UTC),
        owner=Owner(pid=record.pid, held_by=record.held_by, command=command_of(record.pid), project=record.project),
        users=users_of(record, settings),
        is_offered=record.is_offered,
        services=tuple(_services_of(record)),
        spaces=_spaces_of(record.id, settings),
    )


def _services_of(record: Record) -> Iterator[ServiceEntry]:
    settings = settings_from_data(record.settings, record.services)
    looks = {name: in_thread(listens, record.placements[name]) for name in record.services}
    for name, look in looks.items():
        placement, access = record.placements[name], record.access.get(name) or {}
        # Where another distribution brings it, that may be installed for its owner alone.
        kind = SERVICES.get(name)
        yield ServiceEntry(
            name=name,
            title=title_of(name),
            state="running" if look.result() else "silent",
            host=next(iter(placement.endpoints.values())).host,
            ports={protocol: endpoint.port for protocol, endpoint in placement.endpoints.items()},
            url=without_password(kind(settings, placement).url) if kind else None,
            container=access.get("container"),
        )


def _persistent(settings: Settings) -> tuple[Sequence[EnvironmentEntry], str]:
    """The persistent services of all projects, and why they are not known; empty where they are."""
    if problem := quick_problem():
        return (), problem
    from triton_env.persistent.docker.projects import projects
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = Engine()
    except RuntimeUnavailable as error:
        return (), error.what.rstrip(".")
    try:
        return [_of_project(name, services, settings) for name, services in projects(engine).items()], ""
    except TritonError as error:
        return (), error.what.rstrip(".")
    finally:
        engine.close()


def _of_supervisor(project: str, noted: "Noteds", settings: Settings) -> EnvironmentEntry:
    return EnvironmentEntry(
        id=project,
        mode="persistent",
        runtime="embedded",
        reason="",
        started=datetime.fromtimestamp(noted.started, UTC),
        owner=Owner(pid=noted.pid, held_by="up", command=command_of(noted.pid), project=noted.checkout),
        users=(),
        is_offered=False,
        services=tuple(sorted(map(_of_process, noted.services.items()), key=lambda service: _place(service.name))),
        spaces=_spaces_of(project, settings),
    )


def _of_process(item: "tuple[str, Noted]") -> ServiceEntry:
    name, noted = item
    return ServiceEntry(
        name=name,
        title=noted.title,
        state="running" if noted.exit_code is None else "restarting",
        host=noted.host,
        ports=noted.ports,
        url=None,
        container=None,
    )


def _of_project(project: str, containers: "Sequence[ListedContainer]", settings: Settings) -> EnvironmentEntry:
    return EnvironmentEntry(
        id=project,
        mode="persistent",
        runtime="docker",
        reason="",
        started=None,
        owner=None,
        users=(),
        is_offered=False,
        services=tuple(sorted(map(_of_container, containers), key=lambda service: _place(service.name))),
        spaces=_spaces_of(project, settings),
    )


def _spaces_of(environment: str, settings: Settings) -> tuple[SpaceEntry, ...]:
    return tuple(
        SpaceEntry(
            kind=space.kind,
            name=space.name,
            services=space.services,
            pid=space.pid or None,
            is_kept=space.is_kept,
            changed=datetime.fromtimestamp(space.changed, UTC),
        )
        for space in listed(settings, environment)
    )


def _place(name: str) -> int:
    """Where people read it among the services."""
    names = list(SERVICES)
    return names.index(name) if name in names else len(names)


def _of_container(container: "ListedContainer") -> ServiceEntry:
    name = known_name(container.service)
    group = SERVICES[name].settings_group if name in SERVICES else SettingsGroup
    ports = [group.model_fields[each] for each in group.names_of(Role.PORT)]
    return ServiceEntry(
        name=name,
        title=title_of(name),
        state=container.state,
        host=None,
        ports={
            port.protocol: container.published[port.default] for port in ports if port.default in container.published
        },
        url=None,
        container=container.name,
    )


def command_of(pid: int) -> str:
    """The command line of a process, in one string; empty where it cannot be read."""
    import psutil

    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


def without_password(url: str) -> str:
    """A URL with `***` for its password."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return parts._replace(netloc=f"{name}:{HIDDEN}@{host}").geturl() if at and colon else url
