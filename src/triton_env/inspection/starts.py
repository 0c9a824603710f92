"""Starts that are under way: as environments of their own, or as what happens to the services of a project."""

from collections.abc import Sequence
from datetime import UTC, datetime

from triton_env.core.forms import suits
from triton_env.core.timeline import Phase
from triton_env.inspection.data import EnvironmentEntry, ServiceEntry
from triton_env.inspection.owners import owner_of
from triton_env.services.selection import title_of
from triton_env.state.starting import Stage, Starting


def with_starts(environments: Sequence[EnvironmentEntry], starts: Sequence[Starting]) -> list[EnvironmentEntry]:
    """What runs, and what is starting: before the persistent services."""
    found = list(environments)
    for start in starts:
        entry = _of(start)
        same = [number for number, each in enumerate(found) if (each.id, each.mode) == (entry.id, entry.mode)]
        # One that is listed is ready, unless it is that of a project, some of whose services may run already.
        if same and not entry.is_persistent:
            continue
        if at := [number for number in same if suits(found[number].runtime, start.runtime)]:
            found[at[0]] = _merged(found[at[0]], start)
        else:
            last = next((number for number, each in enumerate(found) if each.is_persistent), len(found))
            found.insert(len(found) if entry.is_persistent else last, entry)
    return found


def _of(start: Starting) -> EnvironmentEntry:
    return EnvironmentEntry(
        id=start.id,
        mode=start.mode,
        runtime=start.runtime,
        reason="",
        started=None,
        owner=owner_of(start.pid, start.held_by, start.project),
        users=(),
        is_offered=False,
        services=tuple(_service(name, stage) for name, stage in start.stages.items()),
        spaces=(),
        timeline=(),
        starting_since=datetime.fromtimestamp(start.began, UTC),
    )


def _merged(entry: EnvironmentEntry, start: Starting) -> EnvironmentEntry:
    """The services of a project with the stages of a start of some of them."""
    there = {service.name for service in entry.services}
    services = tuple(
        service.model_copy(update={"stage": stage.words})
        if (stage := start.stages.get(service.name)) and stage.phase is not Phase.READY
        else service
        for service in entry.services
    )
    missing = tuple(_service(name, stage) for name, stage in start.stages.items() if name not in there)
    since = datetime.fromtimestamp(start.began, UTC)
    return entry.model_copy(update={"services": services + missing, "starting_since": since})


def _service(name: str, stage: Stage) -> ServiceEntry:
    is_ready = stage.phase is Phase.READY
    return ServiceEntry(
        name=name,
        title=title_of(name),
        state="ready" if is_ready else "failed" if stage.phase is Phase.FAILED else "starting",
        host=None,
        ports={},
        url=None,
        container=None,
        stage=None if is_ready else stage.words,
    )
