"""How services are at present."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from triton_env.backup.journal import Phase, Place, command_to_settle
from triton_env.backup.remains import in_words, remains_in
from triton_env.core.ending import exit_words
from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread
from triton_env.core.usage import Usage
from triton_env.errors import RestoreUnfinished, TritonError
from triton_env.persistent.instance import Instance
from triton_env.services import SERVICES, Service

_ANSWER_TIMEOUT = 10.0
"""Seconds that services get, all together, to answer when they are looked at. One that hangs takes about 2, after which
its client gives up; the rest is for slow machines."""
_USAGE_TIMEOUT = 5.0
"""Seconds that the engine gets at the same time to report what they use: old ones sample once in a second."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service as it is at present.

    Attributes:
        name: the service's name.
        title: its name for people.
        instance: its container or process, running or not; None where there is none, and in a session of processes.
        service: how it is reached; None where it does not run.
        version: of the server, as it reports it; empty where it did not answer.
        problem: why it cannot be used; empty where it can.
        usage: what it uses; None where it does not run, or where the engine did not report it in time.
        remains: what restores made there or set aside, in words.
        missing: what clients look for and was removed, in words: the server is as good without it.
        ready: since when it runs in a session without containers.
        asked: when it was asked; None where it does not run.
        seconds: how long its answer took, or was waited for.
    """

    name: str
    title: str
    instance: Instance | None = None
    service: Service | None = field(default=None, repr=False)
    version: str = ""
    problem: str = ""
    usage: Usage | None = None
    remains: tuple[str, ...] = ()
    missing: str = ""
    ready: datetime | None = None
    asked: datetime | None = None
    seconds: float = 0.0

    @property
    def healthy(self) -> bool:
        """Whether it answered just now, with work done for a client."""
        return not self.problem

    @property
    def state(self) -> str:
        """Its state, as Docker calls it: `running`, `exited`, ...; `absent` where it has no server.

        Of a session without containers it is `running` or `unknown`, by whether it answered.
        """
        if self.instance:
            return self.instance.status
        if self.service is None:
            return "absent"
        return "running" if self.healthy else "unknown"

    @property
    def uptime(self) -> float | None:
        """Seconds since it was started; None where it does not run."""
        since = self.ready
        if self.instance:
            since = self.instance.started if self.instance.running else None
        return (datetime.now(UTC) - since).total_seconds() if since else None


@dataclass(frozen=True, slots=True)
class UnfinishedRestore:
    """A restore into persistent services that was interrupted, or is going on.

    Attributes:
        words: what happened, and what the data is.
        services: those that are not done, by name.
        goes_on: whether a living process restores.
        changes_data: whether services may hold something that is neither old nor new, or only some of it.
        hint: the command that finishes it or takes it back; empty while it goes on.
    """

    words: str
    services: tuple[str, ...]
    goes_on: bool
    changes_data: bool
    hint: str

    def seen_in(self, status: ServiceStatus) -> ServiceStatus:
        """What a look at a service says, with this restore in mind."""
        is_concerned = status.name in self.services and (self.changes_data or not self.goes_on)
        return replace(status, problem=self.words) if is_concerned and status.healthy else status


def unfinished_restore(place: Place) -> UnfinishedRestore | None:
    """What the journal of these services says; None without an unfinished restore."""
    try:
        # In this order: one that ends in between has removed its journal.
        goes_on = place.is_held()
        entry = place.read()
    except RestoreUnfinished as error:
        words = f"{error.what} {error.where}: {error.cause}"
        return UnfinishedRestore(words, tuple(SERVICES), goes_on=False, changes_data=True, hint=error.hint)
    if entry is None:
        return None
    changes = entry.phase is not Phase.STAGING
    if goes_on:
        doing = "data is taking over" if changes else "everything is as it was until all of it is loaded"
        words = f"process {entry.pid} is restoring {entry.file}: {doing}"
        return UnfinishedRestore(words, entry.pending, goes_on=True, changes_data=changes, hint="")
    return UnfinishedRestore(
        entry.summary(), entry.pending, goes_on=False, changes_data=changes, hint=command_to_settle(place)
    )


def lost_restore(statuses: Sequence[ServiceStatus]) -> UnfinishedRestore | None:
    """What is left of a restore of which nothing is known here; None without such remains.

    Args:
        statuses: of a look while there was no journal.
    """
    found = {status.name: list(status.remains) for status in statuses if status.remains}
    if not found:
        return None
    named = [f"{SERVICES[name].title}'s {each}" for name, remains in found.items() for each in remains]
    words = f"{in_words(named)}. It may be the only copy of something, so nothing removes it"
    return UnfinishedRestore(words, tuple(found), goes_on=False, changes_data=True, hint="")


def look_at(
    instances: Mapping[str, Instance],
    services: Mapping[str, Service],
    measures: Mapping[str, Callable[[], Usage | None]],
    names: Sequence[str] = tuple(SERVICES),
    ready: Mapping[str, datetime] | None = None,
    *,
    absent: str = "it has no container",
) -> tuple[ServiceStatus, ...]:
    """Look at every service and ask those that run, all at once. They get `_ANSWER_TIMEOUT` seconds at most.

    Args:
        instances: by service name.
        services: those that run, by name.
        measures: report what servers use, by service name.
        names: of the services.
        ready: since when they run, by name, where there are no instances.
        absent: why a service without one cannot be used.
    """
    usages = {name: in_thread(measures[name]) for name in services if name in measures}
    began, asked = time.monotonic(), datetime.now(UTC)
    looks = {name: _Look(service) for name, service in services.items()}
    answers = {name: in_thread(look.ask) for name, look in looks.items()}
    statuses: list[ServiceStatus] = []
    for name in names:
        title, instance, service = SERVICES[name].title, instances.get(name), services.get(name)
        if service is None:
            problem = _why_not_running(instance) if instance else absent
            statuses.append(ServiceStatus(name, title, instance, problem=problem))
        else:
            (version, remains, missing), problem = _answer(answers[name], began + _ANSWER_TIMEOUT, service)
            usage = _usage(usages[name], began + _USAGE_TIMEOUT) if name in usages else None
            found = (version, problem, usage, remains, missing)
            since = (ready or {}).get(name)
            statuses.append(
                ServiceStatus(name, title, instance, service, *found, since, asked, looks[name].seconds(began))
            )
    return tuple(statuses)


_Answers = tuple[str, tuple[str, ...], str]
"""What a server was asked: its version, what restores left, and what clients miss."""


class _Look:
    """One look at a server, which is asked as a client asks it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended: float | None = None

    def ask(self) -> _Answers:
        """What it answers; raises whatever its driver raises."""
        try:
            version = self._service.server_version()
            self._service.check_data()
            return version, tuple(remains_in(self._service)), self._service.missing()
        finally:
            self._ended = time.monotonic()

    def seconds(self, began: float) -> float:
        """How long that took, or takes already."""
        return (self._ended or time.monotonic()) - began


def _answer(answer: "Future[_Answers]", deadline: float, service: Service) -> tuple[_Answers, str]:
    """What the server answered, or why that is not known."""
    nothing: _Answers = "", (), ""
    try:
        return answer.result(max(0.0, deadline - time.monotonic())), ""
    except TimeoutError as error:
        # Drivers raise it as well, with words.
        return nothing, str(error) or f"it did not answer within {_ANSWER_TIMEOUT:g} s"
    except RestoreUnfinished as error:
        return nothing, f"{error.what} {error.cause}; {error.hint}"
    except Exception as error:  # whatever its driver raises
        lines = redacted(str(error), service.secrets).strip().splitlines()
        return nothing, lines[0] if lines else type(error).__name__


def _usage(usage: "Future[Usage | None]", deadline: float) -> Usage | None:
    try:
        return usage.result(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, TritonError):
        return None


def _why_not_running(instance: Instance) -> str:
    ended = "out of memory" if instance.out_of_memory else exit_words(instance.exit_code)
    ended = instance.reason or ended
    words = {"exited": f"it ended ({ended})", "restarting": f"it ends again and again ({ended})"}
    return words.get(instance.status, f"it is {instance.status}")
