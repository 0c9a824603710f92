"""The persistent services of all projects, on an engine and without one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from triton_env.core.settings_group import Role, SettingsGroup
from triton_env.errors import RuntimeUnavailable, TritonError
from triton_env.inspection.asking import Asker, asked_environment
from triton_env.inspection.data import EnvironmentEntry, ServiceEntry
from triton_env.inspection.owners import owner_of
from triton_env.inspection.spaces import spaces_of
from triton_env.runtimes.choice import quick_problem
from triton_env.services import SERVICES
from triton_env.services.selection import known_name, title_of
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.persistent.docker.projects import ListedContainer
    from triton_env.persistent.embedded.orders import Noted, Noteds
    from triton_env.persistent.kubernetes.orders import Noted as Forwarder
    from triton_env.persistent.kubernetes.orders import Order as Forwarded


def on_engine(settings: Settings) -> tuple[Mapping[str, "Sequence[ListedContainer]"], str]:
    """The containers of all projects, and why they are not known; empty where they are."""
    if problem := quick_problem():
        return {}, problem
    from triton_env.persistent.docker.projects import projects
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = Engine()
    except RuntimeUnavailable as error:
        return {}, error.what.rstrip(".")
    try:
        return projects(engine), ""
    except TritonError as error:
        return {}, error.what.rstrip(".")
    finally:
        engine.close()


def of_containers(project: str, containers: "Sequence[ListedContainer]", settings: Settings) -> EnvironmentEntry:
    """The persistent services of a project on an engine."""
    return EnvironmentEntry(
        id=project,
        mode="persistent",
        runtime="docker",
        reason="",
        started=None,
        owner=None,
        users=(),
        is_offered=False,
        services=tuple(sorted(map(_of_container, containers), key=_place)),
        spaces=spaces_of(project, settings),
        timeline=(),
    )


def of_supervisor(project: str, noted: "Noteds", settings: Settings) -> EnvironmentEntry:
    """The persistent services of a project without Docker."""
    return EnvironmentEntry(
        id=project,
        mode="persistent",
        runtime="embedded",
        reason="",
        started=datetime.fromtimestamp(noted.started, UTC),
        owner=owner_of(noted.pid, "up", noted.checkout),
        users=(),
        is_offered=False,
        services=tuple(sorted((_of_process(name, each) for name, each in noted.services.items()), key=_place)),
        spaces=spaces_of(project, settings),
        timeline=(),
    )


def of_forwarder(noted: "Forwarder", settings: Settings) -> EnvironmentEntry:
    """The persistent services of a project in a cluster."""
    return EnvironmentEntry(
        id=noted.project,
        mode="persistent",
        runtime="kubernetes",
        reason="",
        started=datetime.fromtimestamp(noted.started, UTC),
        owner=owner_of(noted.pid, "up", ""),
        users=(),
        is_offered=False,
        services=tuple(sorted(map(_of_forwarded, noted.services.values()), key=_place)),
        spaces=spaces_of(noted.project, settings),
        timeline=(),
    )


def asked_project(
    entry: EnvironmentEntry, settings: Settings, asker: Asker, *, show_secrets: bool = False
) -> EnvironmentEntry:
    """The persistent services of a project, with what their servers answer.

    Raises:
        TritonError: they cannot be asked from here.
    """
    from triton_env.persistent.choice import open_stack

    its = settings.updated(triton_project=entry.id, triton_runtime=entry.runtime)
    with open_stack(its, any_checkout=True) as stack:
        asked = asker.ask(entry, stack.running(), stack.access, stack.status)
        return asked_environment(entry, asked, settings, show_secrets=show_secrets)


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
