"""What can be done to an environment of this user by its id, whatever holds it: restart, stop, reset, save, look."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from triton_env.core.forms import Form, form_of, forms_for
from triton_env.core.redaction import redacted
from triton_env.errors import NotOffered, UsageError
from triton_env.inspection.persistent import here, on_engine
from triton_env.services.selection import check_selected, known_name, title_of
from triton_env.settings import Settings
from triton_env.sharing.attaching import Purpose
from triton_env.sharing.ending import end
from triton_env.sharing.orders import restart
from triton_env.state.registry import Record, Registry
from triton_env.state.starting import Starting, Starts

if TYPE_CHECKING:
    from triton_env.attached import AttachedEnvironment, AttachedProject
    from triton_env.inspection import EnvironmentEntry
    from triton_env.persistent.stack import Stack

ActionName = Literal["restart", "stop", "reset", "snapshot", "restore", "backup"]

NO_LOGS = "The servers are external, and their logs are not here."

_SUFFIX = ".backup"
_naming = threading.Lock()
_being_made: set[Path] = set()
"""Backups without a name that are under way: their files appear when they are complete."""
_CLIENTS = "the connections of its clients"
_IN_MEMORY = f"{_CLIENTS}, and what it has in memory alone: with TRITON_STORAGE=memory or in a cluster that may be all"
_LAST_ONES = "what the services hold at present; clients that are at work may fail"


class Action(BaseModel):
    """Something that can be done to an environment.

    Attributes:
        name: which.
        title: for people.
        needs_service: whether it is done to one service, which has to be named.
        needs_name: whether it has a name, that of the snapshot.
        takes_name: whether it may be given a name, that of the file.
        loses: what is lost by it, for the question that comes before; empty where nothing is.
    """

    model_config = ConfigDict(frozen=True)

    name: ActionName
    title: str
    needs_service: bool = False
    needs_name: bool = False
    takes_name: bool = False
    loses: str = ""


def actions(entry: "EnvironmentEntry", listed: "Sequence[EnvironmentEntry]" = ()) -> tuple[Action, ...]:
    """What can be done to an environment.

    Args:
        entry: the environment.
        listed: all that run. Where the program of one has others of them, its end is also theirs.

    What a test run, a notebook or a program has started for itself is not reset under it, nor is it divided: its
    program can do that. Persistent services are saved by a backup, and external ones are not steered from here.
    """
    if entry.is_starting:
        return tuple(_offered_of_start())
    owner = entry.owner
    owned = [each for each in listed if owner and each.owner and each.owner.pid == owner.pid]
    others = list(dict.fromkeys(each.id for each in owned if each.id != entry.id))
    held_by = owner.held_by if owner else ""
    return tuple(_offered(entry.runtime, held_by, others, lasts=entry.is_persistent))


def act(
    settings: Settings,
    environment_id: str,
    action: str,
    *,
    runtime: str = "",
    service: str = "",
    name: str = "",
    path: Path | None = None,
) -> str:
    """Do something to an environment, and wait until it is done.

    Args:
        settings: where this user's state is kept.
        environment_id: as it is listed, or the beginning of one; of persistent services their project.
        action: one of those that `actions` has for it.
        runtime: where it runs: a project may have persistent services on Docker and others without it.
        service: the one that is restarted. `backup`, and `reset` of persistent services, are about all without it.
        name: of the snapshot, or of the backup's file in the current folder, with or without `.backup`; by default a
            new one.
        path: the file of a backup in any folder, in the place of a name. It may not exist.

    Returns:
        What was done, in words.

    Raises:
        UsageError: the environment or service does not exist, two environments have that id, or the environment
            does not offer the action.
        TritonError: it could not be done.
    """
    found = _found(settings, environment_id, runtime)
    offered: dict[str, Action] = {each.name: each for each in found.actions}
    if action not in offered:
        raise UsageError(
            f"{action!r} is not offered for {found.title}.",
            where=f"environment {environment_id}",
            hint=f"choose from {', '.join(offered)}" if offered else "",
        )
    service = known_name(service) if service else ""
    wanted = offered[action]
    if wanted.needs_service and not service:
        raise UsageError(f"`{action}` is done to one service, which has to be named.", where=found.title)
    if wanted.needs_name and not name:
        raise UsageError(f"`{action}` needs the name of the snapshot.", where=found.title)
    if name and not (wanted.needs_name or wanted.takes_name):
        raise UsageError(f"`{action}` takes no name.", where=found.title)
    if name and wanted.takes_name:
        path, name = path or _path_named(name), ""
    return found.act(action, service, name, path)


@contextmanager
def connect(
    settings: Settings, environment_id: str, runtime: str = ""
) -> "Iterator[AttachedEnvironment | AttachedProject]":
    """The environment of that id, with its services and their logs, until the block ends.

    It is looked at: that does not prolong it, counts as no use, starts nothing and settles no restore.

    Args:
        settings, environment_id, runtime: see `act`.

    Raises:
        UsageError: no environment has that id, or two have it.
        TritonError: it has just ended, or none of its services runs.
    """
    with _found(settings, environment_id, runtime).opened(Purpose.LOOK) as environment:
        yield environment


@contextmanager
def log_reader(settings: Settings, environment_id: str, runtime: str = "") -> Iterator[Callable[[str, int], str]]:
    """What reads the last lines of a service's log, without secrets, until the block ends.

    It is called with the service's name and how many lines at most. The service may have exited: then its log says why.

    Args:
        settings, environment_id, runtime: see `act`.

    Raises:
        NotOffered: the servers are external.
        UsageError: no environment has that id, or two have it; while it is called, the service is not there.
        TritonError: the environment has just ended.
    """
    with _found(settings, environment_id, runtime).log_reader() as read:
        yield read


def _offered(runtime: str, held_by: str, others: Sequence[str] = (), *, lasts: bool = False) -> Iterator[Action]:
    is_ours = form_of(runtime).is_started_by_us
    if is_ours:
        yield Action(name="restart", title="Restart", needs_service=True, loses=_CLIENTS if lasts else _IN_MEMORY)
    if lasts:
        yield Action(name="stop", title="Stop")
        yield Action(name="reset", title="Destroy the data", loses="the services with all their data, for good")
    else:
        lost = "all data of the environment" if is_ours else ""
        if held_by not in ("serve", "mcp", "reuse"):
            ends = f"the program that started it, which ends too{_with(others)}"
            lost = " and ".join(filter(None, [lost, ends]))
        elif held_by == "reuse":
            lost += ", also for the processes that use it"
        yield Action(name="stop", title="Stop", loses=lost)
    if is_ours and held_by in ("serve", "mcp", "reuse"):
        yield Action(name="reset", title="Reset", loses=_LAST_ONES)
        yield Action(name="snapshot", title="Take a snapshot", needs_name=True)
        yield Action(name="restore", title="Restore a snapshot", needs_name=True, loses=_LAST_ONES)
    yield Action(name="backup", title="Back up to a file", takes_name=True)


def _offered_of_start() -> Iterator[Action]:
    yield Action(name="stop", title="Stop", loses="the start, with the program that waits for it")


def _with(others: Sequence[str]) -> str:
    if not others:
        return ""
    return f", with its other environment{'s' if len(others) > 1 else ''} {', '.join(others)}"


class _Session(NamedTuple):
    """An environment that a process holds."""

    record: Record
    settings: Settings

    @property
    def title(self) -> str:
        return f"the {self.record.mode} environment of {self.record.held_by}"

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(_offered(self.record.runtime, self.record.held_by))

    @contextmanager
    def opened(self, purpose: Purpose, services: Sequence[str] = ()) -> "Iterator[AttachedEnvironment]":
        from triton_env.attached import AttachedEnvironment

        with AttachedEnvironment(self.record, self.settings, services, purpose) as environment:
            yield environment

    @contextmanager
    def log_reader(self) -> Iterator[Callable[[str, int], str]]:
        if not form_of(self.record.runtime).is_started_by_us:
            raise NotOffered(NO_LOGS)
        with self.opened(Purpose.LOOK) as environment:
            yield environment.logs

    def act(self, action: str, service: str, name: str, path: Path | None) -> str:
        record = self.record
        if service:
            check_selected(service, record.services)
        if action == "stop":
            end(record, self.settings)
            gone = "Its data is gone" if form_of(record.runtime).is_started_by_us else "The servers keep running"
            return f"The environment {record.id} has ended. {gone}."
        if action == "restart":
            restart(record, self.settings, service)
            return f"{title_of(service)} answers again."
        with self.opened(Purpose.STEER, (service,) if service else ()) as environment:
            match action:
                case "reset":
                    environment.reset()
                    return "The services hold what they held after the start."
                case "snapshot":
                    environment.snapshot(name)
                    return f"The snapshot {name} was taken."
                case "restore":
                    environment.restore(name)
                    return f"The services hold what the snapshot {name} holds."
            return _backed_up(environment, service, path)


class _Start(NamedTuple):
    """An environment that is starting."""

    start: Starting
    settings: Settings

    @property
    def title(self) -> str:
        return f"{self.start.id}, which is starting"

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(_offered_of_start())

    def opened(self, purpose: Purpose, services: Sequence[str] = ()) -> "AbstractContextManager[AttachedEnvironment]":
        raise self._not_ready()

    def log_reader(self) -> AbstractContextManager[Callable[[str, int], str]]:
        raise self._not_ready()

    def _not_ready(self) -> NotOffered:
        stages = "; ".join(f"{title_of(name)}: {stage.words}" for name, stage in self.start.stages.items())
        return NotOffered(f"The environment {self.start.id} is starting.", where=self.start.title, cause=stages)

    def act(self, action: str, service: str, name: str, path: Path | None) -> str:
        end(self.start, self.settings)
        return f"The start of {self.start.id} was ended. Nothing of it is left."


class _Project(NamedTuple):
    """The persistent services of a project."""

    settings: Settings

    @property
    def project(self) -> str:
        return self.settings.triton_project

    @property
    def runtime(self) -> str:
        return self.settings.triton_runtime

    @property
    def title(self) -> str:
        return f"the persistent services of the project {self.project}"

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(_offered(self.runtime, "", lasts=True))

    @contextmanager
    def opened(self, purpose: Purpose, services: Sequence[str] = ()) -> "Iterator[AttachedProject]":
        from triton_env.attached import AttachedProject

        with self._stack() as stack, AttachedProject(stack) as environment:
            yield environment

    @contextmanager
    def log_reader(self) -> Iterator[Callable[[str, int], str]]:
        with self._stack() as stack:

            def read(service: str, lines: int) -> str:
                # Not among those that run: the log of one that has exited matters most.
                check_selected(service, tuple(stack.instances()))
                return redacted(stack.access(service).logs(lines), stack.secrets())

            yield read

    def act(self, action: str, service: str, name: str, path: Path | None) -> str:
        if action == "backup":
            with self.opened(Purpose.STEER) as environment:
                return _backed_up(environment, service, path)
        with self._stack() as stack:
            there = stack.instances()
            if service:
                check_selected(service, there)
            match action:
                case "restart":
                    stack.restart([service], lambda name, seconds: None)
                    return f"{title_of(service)} answers again."
                case "stop":
                    stack.down()
                    return f"The services of the project {self.project} were stopped. Their data stays."
            from triton_env.persistent.choice import forget

            stack.remove([service] if service else [])
            forget(stack)
            what = title_of(service) if service else "All services"
            return f"{what} of the project {self.project} and their data are gone."

    def _stack(self) -> "Stack":
        from triton_env.persistent.choice import open_stack

        return open_stack(self.settings, any_checkout=True)


def _backed_up(environment: "AttachedEnvironment | AttachedProject", service: str, path: Path | None) -> str:
    from triton_env.backup import create
    from triton_env.core.sizes import size_words

    with nullcontext(path) if path else _own_path(environment.id) as file:
        manifest = create(environment, file, services=(service,) if service else None)
        notes = [note for saved in manifest.services.values() for note in saved.notes]
        saved = ", ".join(map(title_of, manifest.services))
        return " ".join([f"Saved {saved} to {file.absolute()} ({size_words(file.stat().st_size)}).", *notes])


def _path_named(name: str) -> Path:
    """The path of a backup in the current folder.

    Raises:
        UsageError: the name leads to another folder.
    """
    if "/" in name or not name.isprintable():
        raise UsageError(f"The name of a backup is that of a file in {Path.cwd()}, without a folder.", where=repr(name))
    return Path(name if name.endswith(_SUFFIX) else f"{name}{_SUFFIX}")


@contextmanager
def _own_path(environment: str) -> Iterator[Path]:
    """A path in the current folder that no other backup of this process has, or is about to have."""
    begin = f"{environment}-{time.strftime('%Y%m%d-%H%M%S')}"
    with _naming:
        names = (f"{begin}{more}{_SUFFIX}" for more in chain([""], (f"-{number}" for number in count(2))))
        path = next(path for path in map(Path, names) if path not in _being_made and not os.path.lexists(path))
        _being_made.add(path)
    try:
        yield path
    finally:
        _being_made.discard(path)


def _found(settings: Settings, environment_id: str, runtime: str) -> _Session | _Project | _Start:
    starts = [start for start in Starts.of(settings).under_way() if runtime in ("", start.runtime)]
    records = [record for record in Registry.of(settings).running() if runtime in ("", record.runtime)]
    for record in records:
        if record.id == environment_id:
            return _Session(record, settings)
    projects, problem = [*here(settings)], ""
    # An engine that is down holds up nothing that does not need it.
    if not runtime or Form.CONTAINER in forms_for(runtime):
        on_docker, problem = on_engine(settings)
        projects += on_docker
    named = [each for each in projects if each.entry.id == environment_id and runtime in ("", each.entry.runtime)]
    if len(named) > 1:
        places = " and on ".join(each.entry.runtime for each in named)
        raise UsageError(
            f"{environment_id!r} names persistent services on {places}.",
            hint="name the runtime of those that are meant",
        )
    if named:
        return _Project(named[0].settings)
    for start in starts:
        if start.id == environment_id:
            return _Start(start, settings)
    if environment_id:
        # Last: a project may be named as ids begin, and what is done to it is not meant for a session.
        begun = [record for record in records if record.id.startswith(environment_id)]
        if len(begun) > 1:
            ids = ", ".join(record.id for record in begun)
            raise UsageError(f"{environment_id!r} begins the ids of {len(begun)} environments: {ids}.")
        if begun:
            return _Session(begun[0], settings)
    raise UsageError(
        f"No environment has the id {environment_id!r}{f' on {runtime}' if runtime else ''}.",
        cause=f"Docker was not asked: {problem}" if problem else "",
        hint="python -m triton_env ps",
    )
