"""What an inspection finds, as data. `ps --json` prints it; see docs/reference/inspection.md."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from triton_env.core.timeline import Phase


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True)


class Owner(_Data):
    """The process to which an environment belongs: it ends with it.

    Attributes:
        pid: its id.
        held_by: what it is: `serve`, `run`, `reuse` (the keeper of a shared environment), `mcp` (the server of an
            agent), `up` (the supervisor of persistent services without Docker), or `python`.
        command: its command line, in one string; empty where that is not known.
        project: the root of the project in which it was started; outside of projects the folder.
        since: when it was started; None where that is not known.
        is_alive: whether it runs. A child that it has forked may have the environment after its end.
    """

    pid: int
    held_by: str
    command: str
    project: str
    since: datetime | None
    is_alive: bool


class Health(_Data):
    """The last probe of a service: it is asked as a client would ask it.

    Attributes:
        is_good: whether it answered, with work done for a client.
        problem: why it cannot be used; None where it can.
        missing: what clients look for and was removed, such as a database; None where nothing is missing.
        at: when it was asked.
        seconds: how long the answer took, or was waited for.
    """

    is_good: bool
    problem: str | None
    missing: str | None
    at: datetime
    seconds: float


class ServiceEntry(_Data):
    """A service of an environment. What comes after `pid` is asked for, and None where servers were not asked.

    Attributes:
        name: its name.
        title: its name for people.
        state: how it is: `running` where it listens, `silent` where it does not; `starting`, `ready` or `failed` while
            its environment is starting; of a container that does not run, what the engine calls its state.
        host: where it is reached from here; None where it is not.
        ports: their numbers by protocol.
        url: the URL for clients, with `***` for the password unless secrets are asked for; None where it is not known.
        container: the name of its container; None where it has none.
        stage: what its start does or waits for, in words; None where no start is under way.
        pid: the id of its process; None of a container, and where it is not known.
        health: the last probe.
        version: the one of the server, as it reports it.
        started: when its server was started; of a session without containers, when that was ready, or when the last
            restart of the server began.
        restarts: how often its server was started again without being asked.
        cpu_percent: how much of a processor it uses; more than 100 where it keeps several busy.
        memory: what it uses, in bytes.
        memory_limit: what it may use, in bytes; None also where it has none of its own.
        measured: when `cpu_percent` and `memory` were seen: in a cluster they are those of some seconds before.
        disk: what its files take, in bytes.
        connections: how many clients are connected, without those that look.
        metrics: what the service measures of itself, by the names of its metrics; counters as they are.
        log_position: where its log ends, for `TritonEnvironment.logs(since=)`.
    """

    name: str
    title: str
    state: str
    host: str | None
    ports: Mapping[str, int]
    url: str | None
    container: str | None
    stage: str | None = None
    pid: int | None = None
    health: Health | None = None
    version: str | None = None
    started: datetime | None = None
    restarts: int | None = None
    cpu_percent: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    measured: datetime | None = None
    disk: int | None = None
    connections: int | None = None
    metrics: Mapping[str, float] | None = None
    log_position: float | None = None


class SpaceEntry(_Data):
    """A part of an environment besides its own: a namespace, a template or a snapshot.

    Attributes:
        kind: what it is.
        name: its id, the name of the snapshot, or the digest of the template.
        services: those that have something of it.
        pid: the id of the process that made it; None where that is not known.
        is_kept: whether it outlives its process.
        is_ready: whether it is a namespace of the pool: made in advance, and used by nothing yet.
        made_by: the test that it was made for; None where that is not known, or it was made for none.
        changed: when it was made or, of the pool, handed out; a template when it was last used.
        sizes: what it takes in bytes, by those services that report it; None where they were not asked.
    """

    kind: Literal["namespace", "template", "snapshot"]
    name: str
    services: tuple[str, ...]
    pid: int | None
    is_kept: bool
    is_ready: bool
    made_by: str | None
    changed: datetime
    sizes: Mapping[str, int] | None = None


class SpanEntry(_Data):
    """One phase of the start of one service.

    Attributes:
        service: its name.
        phase: `pull`, `create`, `boot`, `ready` or `failed`.
        start: seconds since the start of the environment.
        end: when it ended, in the same seconds.
    """

    service: str
    phase: Phase
    start: float
    end: float


class EnvironmentEntry(_Data):
    """An environment of this user.

    Attributes:
        id: its id; of persistent services their project.
        mode: whether it is one process's own, shared, persistent, or leads to servers that others run.
        runtime: where it runs.
        reason: why that runtime was chosen; completes the sentence "since ...". Empty where that is not known.
        started: when it was ready; None where it is not, or that is not known.
        starting_since: when the start began that is under way; None where none is.
        owner: the process that has it; None for persistent services on Docker, which no process owns.
        users: the ids of the processes that use it besides its owner.
        is_offered: whether commands of its project use it unasked.
        services: what it has.
        spaces: its namespaces, templates and snapshots.
        timeline: how its start went; empty where that is not known. Of persistent services it is the last one,
            without what ran already.
        problem: why its servers could not be asked, though that was wanted; None where they were, or it was not.
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
    timeline: tuple[SpanEntry, ...]
    starting_since: datetime | None = None
    problem: str | None = None

    @property
    def key(self) -> str:
        """What distinguishes it from all others: its id, or of persistent services also their runtime."""
        return f"{self.id}@{self.runtime}" if self.is_persistent else self.id

    @property
    def is_starting(self) -> bool:
        """Whether it is on its way alone: nothing but its end can be asked for."""
        return self.starting_since is not None and self.started is None

    @property
    def is_persistent(self) -> bool:
        """Whether it is the persistent services of a project."""
        return self.mode == "persistent"


class LeftoverEntry(_Data):
    """Something that a dead owner left, or perhaps did; or that a living one has given up. `prune` removes it.

    Attributes:
        what: what it is: restore, container, network, volume, environment (in a cluster, or on an engine that was not
            looked at), directory, servers, record, shared environment, namespace, namespaces, samples or files.
        name: its name or path.
        environment: the environment's id; None where that is not known.
        pid: the id of its owner; None where that is not known.
        host: the name of the owner's machine; None where that is not known.
        project: the folder in which the owner worked; None where that is not known.
        why: why its owner counts as dead, or why it stays.
        stays: whether `prune` leaves it alone.
    """

    what: str
    name: str
    environment: str | None
    pid: int | None
    host: str | None
    project: str | None
    why: str
    stays: bool


class Inspection(_Data):
    """What runs.

    Attributes:
        version: the number of this form. A later one may have more fields; another version has others.
        asked: whether servers were asked.
        environments: the oldest first, persistent services last.
        leftovers: what dead owners left; None where that was not looked for.
        engine_problem: why no Docker engine was asked for persistent services; None where one was.
    """

    version: Literal[2] = 2
    asked: bool
    environments: tuple[EnvironmentEntry, ...]
    leftovers: tuple[LeftoverEntry, ...] | None
    engine_problem: str | None
