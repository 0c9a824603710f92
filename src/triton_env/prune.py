"""What dead owners left, on the engine and on this machine: found, and removed on request."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from triton_env.backup.journal import Place, command_to_settle, places
from triton_env.core.forms import Form, forms_for
from triton_env.core.model import Endpoint, Placement
from triton_env.core.printable import in_one_line
from triton_env.core.readiness import check_listening
from triton_env.errors import RestoreUnfinished, RuntimeUnavailable, TritonError
from triton_env.isolation import state
from triton_env.modes.arguments import Arguments
from triton_env.modes.external import External
from triton_env.persistent.choice import open_stack
from triton_env.runtimes.choice import quick_problem
from triton_env.runtimes.embedded import directory
from triton_env.runtimes.embedded.bases import projects_folder
from triton_env.runtimes.owner import OwnerState
from triton_env.services import SERVICES, Service
from triton_env.services.base_isolation import owner_of
from triton_env.settings import Settings
from triton_env.state import samples
from triton_env.state.folders import private_folder
from triton_env.state.registry import Registry

if TYPE_CHECKING:
    from triton_env.isolation.machines import Servers
    from triton_env.runtimes.docker.engine import Engine
    from triton_env.runtimes.docker.leftovers import EngineLeftover
    from triton_env.runtimes.kubernetes.leftovers import ClusterLeftover

_OWNER_GONE = "the process that made it is gone"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that a dead owner left, or perhaps did; or that a living one has given up.

    Attributes:
        what: restore, container, network, volume, environment (in a cluster, or on an engine that was not looked at),
            directory, servers, record, shared environment, namespace, namespaces, samples or files.
        name: its name or path.
        environment: the environment's id.
        pid: of its owner; None where that is not known.
        host: the name of the owner's machine; empty where that is not known.
        project: the folder in which the owner worked; empty where that is not known.
        why: why its owner counts as dead, or why it stays.
        stays: whether it is left alone.
    """

    what: str
    name: str
    environment: str
    why: str
    stays: bool
    pid: int | None = None
    host: str = ""
    project: str = ""
    _remove: Callable[[], str] = field(default=lambda: "", repr=False, compare=False)

    def remove(self) -> str:
        """Remove it, unless it stays; returns why that failed, which is empty where it did not."""
        return "" if self.stays else self._remove()


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found.

    Attributes:
        leftovers: in the order in which they can be removed.
        engine_problem: why no Docker engine was looked at; empty where one was.
    """

    leftovers: tuple[Leftover, ...]
    engine_problem: str


@contextmanager
def look(settings: Settings, *, kept: bool = False) -> Iterator[Findings]:
    """Look for what dead owners left. What is found can be removed until the block ends.

    Args:
        kept: whether namespaces that were kept on purpose go too.

    Raises:
        InvalidSetting: the state folder cannot be used.
    """
    with _shared_servers(settings) as servers:
        yield from _look(settings, kept, servers)


def _look(settings: Settings, kept: bool, servers: "Servers | None") -> Iterator[Findings]:
    here = (
        *_in_cluster(settings),
        *_restores(settings),
        *_directories(),
        *_supervisors(settings),
        *_records(settings),
        *_shared(settings),
        *_samples(settings),
        *_namespaces(settings, kept, servers),
        *(_of_machines(servers) if servers else ()),
    )
    if problem := quick_problem():
        yield Findings((*_given_up(settings), *here), problem)
        return
    # Loads the Docker SDK, which nothing above needs.
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = Engine()
    except RuntimeUnavailable as error:
        words = f"{error.what.rstrip('.')} ({error.cause})" if error.cause else error.what.rstrip(".")
        yield Findings((*_given_up(settings), *here), " ".join(words.split()))
        return
    try:
        with engine.translated("list what environments left"):
            on_engine = (
                *_on_engine(engine, settings),
                *_given_up(settings, engine.url),
                *_copies(engine, settings),
            )
        yield Findings((*on_engine, *here), "")
    finally:
        engine.close()


@contextmanager
def _shared_servers(settings: Settings) -> Iterator["Servers | None"]:
    """The external servers or the running persistent services that the settings lead to; None where namespaces are not
    allowed there, or nothing runs."""
    if settings.triton_namespaces != "everywhere":
        yield None
        return
    from triton_env.isolation.machines import Servers

    services: Mapping[str, Service] = {}
    with suppress(RuntimeUnavailable):
        if Form.EXTERNAL in forms_for(settings.triton_runtime):
            mode = External(Arguments(settings, SERVICES.usable(), "external"))
            settings, environment = mode.settings, mode.id
            services = dict(_listening(settings))
        else:
            environment = settings.triton_project
            with open_stack(settings) as stack:
                services = stack.running()
    services = {name: each for name, each in services.items() if each.parts.isolation}
    if not services:
        yield None
        return
    servers = Servers(settings, environment, services)
    try:
        yield servers
    finally:
        servers.close()


def _listening(settings: Settings) -> Iterator[tuple[str, Service]]:
    for name in SERVICES.usable():
        recipe = SERVICES[name].recipe(settings.with_group(SERVICES[name].settings_group))
        placement = Placement({port.name: Endpoint(recipe.external.host, port.fixed) for port in recipe.ports})
        if recipe.external.host and _listens(str(next(iter(placement.endpoints.values())))):
            yield name, SERVICES[name](settings.with_group(SERVICES[name].settings_group), placement)


def _on_engine(engine: "Engine", settings: Settings) -> Iterator[Leftover]:
    from triton_env.runtimes.docker.leftovers import find_leftovers, remove

    for each in find_leftovers(engine, settings):
        if each.liveness.state is not OwnerState.LIVES:
            goes = each.liveness.state in (OwnerState.DEAD, OwnerState.PROBABLY_DEAD)
            removal = partial(remove, engine.client.api, each.resource)
            yield _owned(each.resource.kind, each.resource.name, each, not goes, removal)


def _in_cluster(settings: Settings) -> Iterator[Leftover]:
    """What environments have in a cluster, where the settings lead to one."""
    if Form.POD not in forms_for(settings.triton_runtime) and not settings.triton_k8s_context:
        return
    from triton_env.runtimes.kubernetes.cluster import cluster_of
    from triton_env.runtimes.kubernetes.leftovers import find_leftovers, remove

    try:
        cluster = cluster_of(settings)
        found = find_leftovers(cluster)
    except TritonError as error:
        place = settings.triton_k8s_context or "the cluster"
        yield Leftover("environment", place, "", f"it was not looked at: {in_one_line(error)}", True)
        return
    for each in found:
        if each.liveness.state is not OwnerState.LIVES:
            goes = each.liveness.state in (OwnerState.DEAD, OwnerState.PROBABLY_DEAD)
            name = f"{each.lease} in {cluster.title}"
            yield _owned("environment", name, each, not goes, partial(remove, cluster, each), each.environment)


def _given_up(settings: Settings, engine: str = "") -> Iterator[Leftover]:
    """What living owners could not remove from other engines than this one."""
    from triton_env.runtimes.docker.given_up import all_given_up

    for environment, each in all_given_up(settings).items():
        if each.engine != engine:
            owner = each.owner
            why = f"process {owner.pid} runs, and has given up what it has on that engine: {each.cause}"
            yield Leftover("environment", each.engine, environment, why, True, owner.pid, owner.host, owner.project)


def _owned(
    what: str,
    name: str,
    each: "EngineLeftover | ClusterLeftover",
    stays: bool,
    remove: Callable[[], str],
    environment: str = "",
) -> Leftover:
    owner = each.owner
    return Leftover(
        what,
        name,
        owner.environment if owner else environment,
        each.liveness.why,
        stays,
        owner.pid if owner else None,
        owner.host if owner else "",
        owner.project if owner else "",
        remove,
    )


def _restores(settings: Settings) -> Iterator[Leftover]:
    for place in places(settings):
        if place.is_held():
            continue
        try:
            entry = place.read()
        except RestoreUnfinished as error:
            yield Leftover("restore", str(place.path), place.environment, f"{error.what} {error.cause}", stays=True)
            continue
        if entry is None:
            continue
        why = entry.summary()
        remove: Callable[[], str] | None = partial(_problem_of_restore, settings, place)
        if not place.lasting:
            if any(_listens(address) for address in entry.addresses.values()):
                why, remove = f"{why}; the next restore there does it", None
            else:
                why, remove = "its servers are gone", partial(_problem_of, place.forget, entry.pending)
        elif not entry.is_persistent:
            why, remove = f"{why}; the next environment on these servers does it", None
        yield Leftover(
            "restore",
            entry.mark,
            place.environment,
            why,
            stays=remove is None,
            pid=entry.pid,
            _remove=remove or (lambda: ""),
        )


def _problem_of_restore(settings: Settings, place: Place) -> str:
    """Finish a restore into persistent services, or take it back; why that failed."""
    from triton_env.persistent.choice import open_stack

    try:
        with open_stack(settings.updated(triton_project=place.environment)) as services:
            if services.settle_restore(lambda words: None):
                return ""
        return f"not all of its services run; {command_to_settle(place)} starts them and does it"
    except TritonError as error:
        return in_one_line(error)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        check_listening(host, int(port))
    except OSError:
        return False
    return True


def _copies(engine: "Engine", settings: Settings) -> Iterator[Leftover]:
    """The files of persistent services that versions of triton-env brought which are no longer in use."""
    from triton_env.persistent.compose_file import remove, unused
    from triton_env.persistent.docker.compose import FILE_LABEL

    in_use = [
        path
        for container in engine.client.api.containers(all=True)
        for path in (
            *(mount.get("Source", "") for mount in container.get("Mounts") or ()),
            *(container.get("Labels") or {}).get(FILE_LABEL, "").split(","),
        )
        if path
    ]
    for path in unused(settings, in_use):
        why = "no container uses it, and no version has for a month"
        yield Leftover("files", str(path), "", why, stays=False, _remove=partial(_problem_of, remove, path))


def _directories() -> Iterator[Leftover]:
    for path in directory.abandoned():
        environment = directory.environment_of(path)
        remove = partial(_problem_of, directory.removed_if_abandoned, path)
        yield Leftover("directory", str(path), environment, _OWNER_GONE, stays=False, _remove=remove)


def _supervisors(settings: Settings) -> Iterator[Leftover]:
    """What supervisors of persistent services left that were killed. The data stays."""
    from triton_env.persistent.embedded.control import Supervisor
    from triton_env.persistent.embedded.folder import ProjectFolder

    for path in sorted(projects_folder(settings.triton_data_dir).glob("*")):
        supervisor = Supervisor(ProjectFolder(path))
        if supervisor.has_left_something:
            why = "its supervisor has ended, by force or with the machine; the data stays"
            remove = partial(_problem_of, supervisor.forget)
            yield Leftover("servers", str(path), path.name, why, stays=False, _remove=remove)


def _records(settings: Settings) -> Iterator[Leftover]:
    if not private_folder(settings, "environments").is_dir():
        return
    registry = Registry.of(settings)
    for identifier, record in registry.dead():
        yield Leftover(
            "record",
            f"{identifier}.json",
            identifier,
            _OWNER_GONE,
            stays=False,
            pid=record.pid if record else None,
            project=record.project if record else "",
            _remove=partial(_problem_of, registry.running),
        )


def _samples(settings: Settings) -> Iterator[Leftover]:
    if not private_folder(settings, samples.FOLDER).is_dir():
        return
    from triton_env.inspection.persistent import here

    living = _living(settings) | {project.entry.key for project in here(settings)}
    for environment, path in samples.left(settings, living):
        why = "its environment has ended, or is shown by no dashboard"
        yield Leftover("samples", str(path), environment, why, stays=False, _remove=partial(samples.remove, path))


def _living(settings: Settings) -> frozenset[str]:
    """The ids of the environments that run. Where none ever did, no folder is made to find that out."""
    is_there = private_folder(settings, "environments").is_dir()
    return Registry.of(settings).living() if is_there else frozenset()


def _shared(settings: Settings) -> Iterator[Leftover]:
    if not private_folder(settings, "shared").is_dir():
        return
    from triton_env.sharing.shared_registry import SharedRegistry

    registry = SharedRegistry(settings)
    for instance in registry.dead():
        remove = partial(_problem_of, registry.sweep)
        why = "the process that kept it is gone"
        yield Leftover("shared environment", str(instance.folder), instance.id, why, stays=False, _remove=remove)


def _namespaces(settings: Settings, kept: bool, servers: "Servers | None") -> Iterator[Leftover]:
    for left in state.left_over(settings):
        can_be_reached = servers is not None and servers.environment == left.environment
        has_kept = not left.space and state.has_kept(left.path)
        if (left.is_kept or has_kept) and not kept:
            why, stays = "kept on purpose; --kept removes it", True
        elif left.is_kept:
            why, stays = "kept, and given up now", False
        elif left.space and can_be_reached:
            why, stays = _OWNER_GONE, False
        elif left.space:
            why, stays = "the next process that makes namespaces there removes it", True
        else:
            why, stays = _OWNER_GONE, False
        name = left.space or str(left.path)
        what = "namespace" if left.space else "namespaces"
        remove = partial(_problem_of, partial(state.remove, left, kept=kept))
        if servers is not None and can_be_reached and left.space:
            remove = partial(servers.remove_own, left, kept=kept)
        yield Leftover(what, name, left.environment, why, stays, _remove=remove)


def _of_machines(servers: "Servers") -> Iterator[Leftover]:
    """What other machines left on the servers that the settings lead to."""
    why = "its machine has not renewed its claim to it"
    for identifier in servers.expired():
        remove = partial(servers.remove, identifier)
        host = owner_of(identifier)
        yield Leftover("namespace", identifier, servers.environment, why, stays=False, host=host, _remove=remove)
    if servers.problem:
        yield Leftover("namespaces", servers.environment, servers.environment, servers.problem, stays=True)


def _problem_of(action: Callable[..., object], *arguments: object) -> str:
    try:
        action(*arguments)
    except FileNotFoundError:  # another process was quicker
        return ""
    except OSError as error:
        return str(error)
    return ""
