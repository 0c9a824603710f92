"""The persistent services of all projects on an engine, as its list of containers shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triton_env.core.ending import state_of
from triton_env.persistent.docker.compose import FILE_LABEL, OUR_LABEL, PROJECT_LABEL, SERVICE_LABEL
from triton_env.runtimes.docker.engine import Engine


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """A container of persistent services.

    Attributes:
        name: its name.
        project: whose it is.
        service: the service's name in the compose file.
        state: `running`, `exited`, ...
        file: the compose file that it was made from, or several with commas between.
        published: host port by container port, for those that are published.
    """

    name: str
    project: str
    service: str
    state: str
    file: str
    published: Mapping[int, int]


def projects(engine: Engine) -> dict[str, list[ListedContainer]]:
    """The containers by project, running or not.

    Raises:
        EngineUnreachable, EngineFailed: the engine does not answer.
    """
    found: dict[str, list[ListedContainer]] = {}
    with engine.translated("list the persistent services"):
        # Those of Compose alone: the node of a cluster may have pods of ours on the same engine.
        for listed in engine.ask("/containers/json", all=True, filters={"label": [OUR_LABEL, PROJECT_LABEL]}):
            container = _described(listed)
            found.setdefault(container.project, []).append(container)
    return {project: sorted(found[project], key=lambda each: each.service) for project in sorted(found)}


def _described(listed: Mapping[str, Any]) -> ListedContainer:
    labels = listed.get("Labels") or {}
    ports = listed.get("Ports") or ()
    return ListedContainer(
        name=(listed.get("Names") or [listed["Id"][:12]])[0].lstrip("/"),
        project=labels.get(PROJECT_LABEL, ""),
        service=labels.get(SERVICE_LABEL, ""),
        state=state_of(listed["State"]),
        file=labels.get(FILE_LABEL, ""),
        published={port["PrivatePort"]: port["PublicPort"] for port in ports if port.get("PublicPort")},
    )
