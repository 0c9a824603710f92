"""What environments have on a Docker engine: found by its labels, and removed with its owner or after that one's death.

Run as a module by the reaper of an environment whose engine is not reached over a Unix socket:

    python -m triton_env.runtimes.docker.leftovers LABEL OWNER
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import docker
import docker.errors

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_errors import explanation
from triton_env.runtimes.docker.given_up import all_given_up, liveness_of
from triton_env.runtimes.docker.reaper_cleanup import hurry_when_asked, until_quiet
from triton_env.runtimes.docker.transport import FAILURES
from triton_env.runtimes.owner import LABEL, Owner, OwnerLiveness, OwnerState
from triton_env.settings import Settings

_log = logging.getLogger(__name__)

CONTAINER, NETWORK, VOLUME = KINDS = ("container", "network", "volume")
"""In the order in which they can be removed."""

_OF_A_CLUSTER = "io.kubernetes.pod.uid"
"""A label of containers that the node of a cluster has on this engine: they have those of their pods, and go with
them."""


@dataclass(frozen=True, slots=True)
class OwnedResource:
    """A container, network or volume of ours.

    Attributes:
        kind: one of `KINDS`.
        id: by which the engine knows it.
        name: for people.
        labels: all that it has.
    """

    kind: str
    id: str
    name: str
    labels: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EngineLeftover:
    """A resource with its owner, None where the labels name none, and what became of that one."""

    resource: OwnedResource
    owner: Owner | None
    liveness: OwnerLiveness


def find_owned(api: docker.APIClient, label: str) -> Iterator[OwnedResource]:
    """What carries a label: `key`, or `key=value`.

    The engine is asked for each kind when it is its turn. So what goes with a container is no longer found once
    that has been removed.

    Raises:
        EngineUnreachable, EngineFailed: the engine does not answer.
    """
    filters = {"label": label}
    for container in api.containers(all=True, filters=filters):
        if _OF_A_CLUSTER in (container.get("Labels") or {}):
            continue
        name = (container.get("Names") or [container["Id"][:12]])[0].lstrip("/")
        yield OwnedResource(CONTAINER, container["Id"], name, container.get("Labels") or {})
    for network in api.networks(filters=filters):
        yield OwnedResource(NETWORK, network["Id"], network["Name"], network.get("Labels") or {})
    for volume in api.volumes(filters=filters).get("Volumes") or []:
        yield OwnedResource(VOLUME, volume["Name"], volume["Name"], volume.get("Labels") or {})


def remove(api: docker.APIClient, resource: OwnedResource) -> str:
    """Remove it; returns why that failed, and nothing where it is gone or about to be."""
    try:
        match resource.kind:
            case "container":
                # With the volumes that belong to it alone; those that were given a name stay.
                api.remove_container(resource.id, v=True, force=True)
            case "network":
                api.remove_network(resource.id)
            case _:
                api.remove_volume(resource.id, force=True)
    except docker.errors.NotFound:
        return ""
    except FAILURES as error:
        words = explanation(error)
        return "" if "already in progress" in words else words
    return ""


def remove_all(api: docker.APIClient, label: str) -> tuple[bool, list[str]]:
    """Remove all that carries a label; returns whether there was anything, and what went wrong.

    Raises:
        EngineUnreachable, EngineFailed: the engine does not answer.
    """
    problems: list[str] = []
    found = False
    waiting: list[OwnedResource] = []
    for resource in find_owned(api, label):
        # All of one kind at once.
        if waiting and waiting[-1].kind != resource.kind:
            problems += _removed_together(api, waiting)
            waiting = []
        waiting.append(resource)
        found = True
    problems += _removed_together(api, waiting)
    return found, problems


def find_leftovers(engine: Engine, settings: Settings) -> list[EngineLeftover]:
    """All that environments have on an engine, of the living and the dead, in the order in which it can be removed.

    Args:
        settings: where it is noted what living owners have given up.

    Raises:
        EngineUnreachable, EngineFailed: the engine does not answer.
    """
    here = Owner.this_process("")
    given_up = all_given_up(settings)
    found = []
    for resource in find_owned(engine.client.api, LABEL):
        owner = Owner.of_labels(resource.labels)
        liveness = (
            liveness_of(owner, here, given_up)
            if owner
            else OwnerLiveness(OwnerState.UNKNOWN, "its labels name no owner")
        )
        found.append(EngineLeftover(resource, owner, liveness))
    return found


def sweep(engine: Engine, settings: Settings, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Remove what is left of owners that are dead for certain, or have given it up. Failures are left to the next one
    who looks.

    Args:
        settings: where it is noted what living owners have given up.
        cancelled: asked before each removal whether to leave the rest.
    """
    try:
        dead = [each for each in find_leftovers(engine, settings) if each.liveness.state is OwnerState.DEAD]
    except FAILURES as error:
        _log.debug("what dead owners left was not looked for: %s", error)
        return
    for each in dead:
        if cancelled():
            return
        problem = remove(engine.client.api, each.resource)
        _log.debug(
            "%s %s, since %s: %s", each.resource.kind, each.resource.name, each.liveness.why, problem or "removed"
        )


def _removed_together(api: docker.APIClient, items: Sequence[OwnedResource]) -> list[str]:
    """Remove these at once; returns what went wrong."""
    problems: list[str] = []

    def run(item: OwnedResource) -> None:
        if problem := remove(api, item):
            problems.append(problem)

    threads = []
    for item in items:
        thread = threading.Thread(target=run, args=(item,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is on its way out and starts no more threads
            run(item)
        else:
            threads.append(thread)
    for thread in threads:
        thread.join()
    return problems


def _remove_once(label: str) -> bool:
    engine = Engine()
    try:
        found, problems = remove_all(engine.client.api, label)
        return found or bool(problems)
    finally:
        engine.close()


def main() -> None:
    """Remove what carries the label, as a dead owner would have."""
    label, quiet, owner = sys.argv[1:]
    hurry_when_asked()
    until_quiet(lambda: _remove_once(label), (RuntimeUnavailable, *FAILURES), float(quiet), int(owner))


if __name__ == "__main__":
    main()
