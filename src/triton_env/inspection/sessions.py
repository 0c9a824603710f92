"""Sessions, shared environments and those of external servers: what is on the list of running environments."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial

from triton_env.core.forms import Form, form_of
from triton_env.core.readiness import listens
from triton_env.core.threads import in_thread
from triton_env.core.timeline import Timeline
from triton_env.inspection.asking import Asker, asked_environment
from triton_env.inspection.data import EnvironmentEntry, ServiceEntry, SpanEntry
from triton_env.inspection.owners import owner_of
from triton_env.inspection.spaces import spaces_of
from triton_env.inspection.urls import url_of
from triton_env.runtimes.access import Access, access_from_data
from triton_env.services import SERVICES, Service
from triton_env.services.selection import title_of
from triton_env.settings import Settings
from triton_env.sharing.key import settings_from_data
from triton_env.sharing.users import users_of
from triton_env.state import restarts
from triton_env.state.registry import Record
from triton_env.status import ServiceStatus, look_at


def of_record(record: Record, settings: Settings, *, show_secrets: bool = False) -> EnvironmentEntry:
    """An environment that is listed.

    Args:
        settings: where this user's state is kept.
    """
    return EnvironmentEntry(
        id=record.id,
        mode=record.mode,
        runtime=record.runtime,
        reason=record.reason,
        started=datetime.fromtimestamp(record.started, UTC),
        owner=owner_of(record.pid, record.held_by, record.project),
        users=users_of(record, settings),
        is_offered=record.is_offered,
        services=tuple(_entries(record, services_of(record), show_secrets=show_secrets)),
        spaces=spaces_of(record.id, settings),
        timeline=spans_in(record.timeline),
    )


def spans_in(timeline: Timeline) -> tuple[SpanEntry, ...]:
    """How a start went, as it is shown."""
    return tuple(
        SpanEntry(service=span.service, phase=span.phase, start=round(span.start, 3), end=round(span.end, 3))
        for span in timeline.spans
    )


def asked_session(
    entry: EnvironmentEntry, record: Record, settings: Settings, asker: Asker, *, show_secrets: bool = False
) -> EnvironmentEntry:
    """An environment that is listed, with what its servers answer.

    Raises:
        TritonError: the engine that has them failed.
    """
    services = services_of(record)
    ways = {name: access_from_data(data) for name, data in record.access.items() if name in services}
    asked = asker.ask(entry, services, ways.get, partial(look_at_session, record, services, ways, settings))
    return asked_environment(entry, asked, settings, show_secrets=show_secrets)


def services_of(record: Record) -> dict[str, Service]:
    """Its services, as far as they are installed here: another distribution may bring one for its owner alone."""
    # External servers are known by the addresses of all, also of those that are not used.
    known = record.services if form_of(record.runtime).is_started_by_us else SERVICES.usable()
    settings = settings_from_data(record.settings, known)
    names = [name for name in record.services if name in SERVICES]
    return {name: SERVICES[name](settings, record.placements[name]) for name in names}


def look_at_session(
    record: Record, services: Mapping[str, Service], ways: Mapping[str, Access], settings: Settings
) -> tuple[ServiceStatus, ...]:
    """Look at the servers of an environment that is listed, and ask each; see `look_at`. Nothing is changed.

    Args:
        services: of it, by name.
        ways: to their logs and programs, by name; empty for external servers.
        settings: where this user's state is kept.

    Raises:
        TritonError: the engine that has them failed.
    """
    names = tuple(services)
    form = form_of(record.runtime)
    if form is not Form.CONTAINER:
        ready: dict[str, datetime] = {}
        if form.is_started_by_us:
            begin = datetime.fromtimestamp(record.started, UTC)
            ready = {name: restarts.last(settings, record.id, name) or begin for name in names}
        measures = {}
        if form is Form.PROCESS:
            from triton_env.runtimes.embedded.usage import usage_at

            measures = {name: partial(usage_at, service.placement) for name, service in services.items()}
        elif form is Form.POD:
            from triton_env.runtimes.kubernetes.access import PodAccess
            from triton_env.runtimes.kubernetes.usage import usage_of as usage_of_pod

            measures = {name: partial(usage_of_pod, way) for name, way in ways.items() if isinstance(way, PodAccess)}
        return look_at({}, services, measures, names, ready)
    from triton_env.persistent.docker.containers import Project
    from triton_env.runtimes.docker.access import ContainerAccess
    from triton_env.runtimes.docker.engine import Engine
    from triton_env.runtimes.docker.usage import usage_of

    engine = Engine()
    try:
        project = Project(engine, "")
        found = {name: project.inspect(way.container) for name, way in ways.items() if isinstance(way, ContainerAccess)}
        containers = {name: container for name, container in found.items() if container and name in services}
        running = {name: services[name] for name, container in containers.items() if container.running}
        usages = {name: partial(usage_of, engine, container.id) for name, container in containers.items()}
        return look_at(containers, running, usages, names)
    finally:
        engine.close()


def _entries(record: Record, services: Mapping[str, Service], *, show_secrets: bool) -> Iterator[ServiceEntry]:
    looks = {name: in_thread(listens, record.placements[name]) for name in record.services}
    for name, look in looks.items():
        placement, access, service = record.placements[name], record.access.get(name) or {}, services.get(name)
        yield ServiceEntry(
            name=name,
            title=title_of(name),
            state="running" if look.result() else "silent",
            host=next(iter(placement.endpoints.values())).host,
            ports={protocol: endpoint.port for protocol, endpoint in placement.endpoints.items()},
            url=url_of(service, show_secrets=show_secrets) if service else None,
            container=access.get("container") or access.get("pod"),
        )
