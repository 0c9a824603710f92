"""The persistent services of all projects, wherever they run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from triton_env.core.settings_group import Role, SettingsGroup
from triton_env.errors import RuntimeUnavailable, TritonError
from triton_env.inspection.asking import Asker, asked_environment
from triton_env.inspection.data import EnvironmentEntry, Owner, ServiceEntry
from triton_env.inspection.owners import owner_of
from triton_env.inspection.sessions import spans_in
from triton_env.inspection.spaces import spaces_of
from triton_env.persistent import starts
from triton_env.persistent.embedded.projects import projects as embedded_projects
from triton_env.persistent.kubernetes.projects import projects as cluster_projects
from triton_env.persistent.kubernetes.projects import settings_in
from triton_env.runtimes.choice import quick_problem
from triton_env.services import SERVICES
from triton_env.services.selection import known_name, title_of
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.persistent.docker.projects import ListedContainer
    from triton_env.persistent.embedded.orders import Noted
    from triton_env.persistent.kubernetes.orders import Order as Forwarded


@dataclass(frozen=True, slots=True)
class Project:
    """The persistent services of a project, as they are listed.

    Attributes:
        entry: that of the list.
        settings: those that lead to them.
    """

    entry: EnvironmentEntry
    settings: Settings


def here(settings: Settings) -> Iterator[Project]:
    """The projects of which processes of this machine run the servers, or forward their ports from a cluster."""
    for project, noted in embedded_projects(settings).items():
        each = settings.updated(triton_runtime="embedded", triton_project=project)
        services = (_of_process(name, service) for name, service in noted.services.items())
        owner = owner_of(noted.pid, "up", noted.checkout)
        yield _project(each, services, started=noted.started, owner=owner)
    for forwarder in cluster_projects(settings).values():
        ports = map(_of_forwarded, forwarder.services.values())
        owner = owner_of(forwarder.pid, "up", "")
        yield _project(settings_in(forwarder, settings), ports, started=forwarder.started, owner=owner)


def on_engine(settings: Settings) -> tuple[tuple[Project, ...], str]:
    """The projects that have containers, and why they are not known; empty where they are."""
    if problem := quick_problem():
        return (), problem
    from triton_env.persistent.docker.projects import projects
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = Engine()
    except RuntimeUnavailable as error:
        return (), error.what.rstrip(".")
    try:
        found = projects(engine)
    except TritonError as error:
        return (), error.what.rstrip(".")
    finally:
        engine.close()
    docker = settings.updated(triton_runtime="docker")
    return tuple(
        _project(docker.updated(triton_project=project), map(_of_container, containers))
        for project, containers in found.items()
    ), ""


def asked_project(project: Project, asker: Asker, *, show_secrets: bool = False) -> EnvironmentEntry:
    """The persistent services of a project, with what their servers answer.

    Raises:
        TritonError: they cannot be asked from here.
    """
    from triton_env.persistent.choice import open_stack

    with open_stack(project.settings, any_checkout=True) as stack:
        asked = asker.ask(project.entry, stack.running(), stack.access, stack.status)
        return asked_environment(project.entry, asked, project.settings, show_secrets=show_secrets)


def _project(
    settings: Settings, services: Iterable[ServiceEntry], *, started: float | None = None, owner: Owner | None = None
) -> Project:
    project = settings.triton_project
    entry = EnvironmentEntry(
        id=project,
        mode="persistent",
        runtime=settings.triton_runtime,
        reason="",
        started=None if started is None else datetime.fromtimestamp(started, UTC),
        owner=owner,
        users=(),
        is_offered=False,
        services=tuple(sorted(services, key=_place)),
        spaces=spaces_of(project, settings),
        timeline=spans_in(starts.last(settings, settings.triton_runtime)),
    )
    return Project(entry, settings)


def _of_process(name: str, noted: "Noted") -> ServiceEntry:
    return ServiceEntry(
        name=name,
        title=noted.title,
        state="running" if noted.exit_code is None else "restarting",
        host=noted.host,
        ports=noted.ports,
        url=None,
        container=None,
        pid=noted.pid if noted.exit_code is None else None,
    )


def _of_forwarded(order: "Forwarded") -> ServiceEntry:
    return ServiceEntry(
        name=order.service,
        title=order.title,
        state="running",
        host=order.address,
        ports=order.ports,
        url=None,
        container=order.pod,
    )


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


def _place(service: ServiceEntry) -> int:
    """Where people read it among the services."""
    names = list(SERVICES)
    return names.index(service.name) if service.name in names else len(names)
