"""What is asked of servers: whether they are well, what they use, and what they measure of themselves."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from triton_env.core.threads import in_thread
from triton_env.inspection.data import EnvironmentEntry, Health, ServiceEntry
from triton_env.inspection.spaces import Sizes, spaces_of
from triton_env.inspection.urls import url_of
from triton_env.runtimes.access import Access
from triton_env.services import SERVICES, Service
from triton_env.services.base_insight import Insight
from triton_env.settings import Settings
from triton_env.status import ServiceStatus

_Answer = TypeVar("_Answer")

_TIMEOUT = 5.0
"""Seconds that the servers of an environment get, all at once, to report what they measure."""
_SIZE_INTERVAL = 30.0
"""Seconds for which a size is taken as it was: to add it up, all files of a server are looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of the servers of an environment.

    Attributes:
        statuses: by service.
        samples: what each measures of itself, by service.
        sizes: what spaces take in each, in bytes by service.
        disks: what the files of each take, in bytes, by service.
        positions: where their logs end, by service.
    """

    statuses: Mapping[str, ServiceStatus]
    samples: Mapping[str, Mapping[str, float]]
    sizes: Sizes
    disks: Mapping[str, int]
    positions: Mapping[str, float]


@dataclass(slots=True)
class _Known:
    """What is kept of a server between two looks.

    Attributes:
        service: the server as it is reached.
        insight: that is connected to it; None where it offers none.
        turn: held while the insight is asked.
        disk: what its files took.
        sizes: what spaces took in it; None where that was not asked yet.
        measured: when these were found out, by what they are.
        is_closed: whether it is asked nothing more.
    """

    service: Service
    insight: Insight[Any] | None
    turn: threading.Lock = field(default_factory=threading.Lock)
    disk: int | None = None
    sizes: Mapping[str, int] | Mapping[int, int] | None = None
    measured: dict[str, float] = field(default_factory=dict)
    is_closed: bool = False

    def close(self) -> None:
        """Close the connection, now or as soon as the question that is under way is answered or given up."""
        self.is_closed = True
        if self.insight and self.turn.acquire(blocking=False):
            try:
                self.insight.close()
            finally:
                self.turn.release()

    def is_due(self, what: str) -> bool:
        """Whether it is time to find out a size again; that is noted."""
        now = time.monotonic()
        if now - self.measured.get(what, float("-inf")) < _SIZE_INTERVAL:
            return False
        self.measured[what] = now
        return True


class Asker:
    """Asks the servers of environments, again and again. To be closed. It may be used by several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], _Known] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def ask(
        self,
        environment: EnvironmentEntry,
        services: Mapping[str, Service],
        access: Callable[[str], Access | None],
        statuses: Callable[[], Sequence[ServiceStatus]],
    ) -> Asked:
        """Ask all servers of an environment at once. One that hangs is waited for as long as its limit allows.

        Args:
            environment: as it was seen without asking.
            services: those that run, by name.
            access: the way to the log and the files of a service; None where there is none here.
            statuses: asks each server as a client would.
        """
        known = {name: self._of(environment, name, service) for name, service in services.items()}
        samples = {name: in_thread(_sampled, each) for name, each in known.items()}
        places = {name: in_thread(_placed, name, each, access) for name, each in known.items()}
        deadline = time.monotonic() + _TIMEOUT
        found = {status.name: status for status in statuses()}
        sampled, placed = _in_time(samples, deadline), _in_time(places, deadline)
        return Asked(
            statuses=found,
            samples={name: sample for name, sample in sampled.items() if sample is not None},
            sizes={name: sizes for name in sampled if (sizes := known[name].sizes) is not None},
            disks={name: disk for name, (disk, _) in placed.items() if disk is not None},
            positions={name: position for name, (_, position) in placed.items() if position is not None},
        )

    def keep(self, environments: Iterable[EnvironmentEntry]) -> None:
        """Forget the servers of other environments than these, which have ended."""
        living = {(each.runtime, each.id) for each in environments}
        with self._lock:
            gone = [self._known.pop(key) for key in list(self._known) if key[:2] not in living]
        for each in gone:
            each.close()

    def close(self) -> None:
        """Close the connections, and have no others made: what is asked later goes without what servers measure."""
        with self._lock:
            self._is_closed = True
        self.keep(())

    def _of(self, environment: EnvironmentEntry, name: str, service: Service) -> _Known:
        key = (environment.runtime, environment.id, name)
        with self._lock:
            known = self._known.get(key)
            if known and known.service.placement == service.placement and known.service.url == service.url:
                return known
            if self._is_closed:
                return _Known(service, None)
            kind = SERVICES[name].parts.load("insight")
            fresh = _Known(service, kind(service, timeout=_TIMEOUT) if kind else None)
            self._known[key] = fresh
        if known:
            known.close()
        return fresh


def asked_service(entry: ServiceEntry, asked: Asked, *, show_secrets: bool) -> ServiceEntry:
    """A service with what was asked of its server."""
    status = asked.statuses.get(entry.name)
    if status is None:
        return entry
    instance, usage, sample = status.instance, status.usage, asked.samples.get(entry.name)
    found: dict[str, Any] = {
        "health": Health(
            is_good=status.healthy,
            problem=status.problem or None,
            missing=status.missing or None,
            at=status.asked or datetime.now(UTC),
            seconds=round(status.seconds, 3),
        ),
        "version": status.version or None,
        "started": instance.started if instance else status.ready,
        "metrics": sample,
        "disk": asked.disks.get(entry.name),
        "log_position": asked.positions.get(entry.name),
    }
    if instance:
        found |= {"state": instance.status, "restarts": instance.restarts, "pid": instance.pid}
    if status.service:
        found |= {"host": status.service.host, "url": url_of(status.service, show_secrets=show_secrets)}
    if usage:
        found |= {
            "cpu_percent": round(usage.cpu_percent, 1),
            "memory": usage.memory,
            "memory_limit": usage.memory_limit or None,
            "measured": datetime.fromtimestamp(usage.at, UTC) if usage.at else datetime.now(UTC),
        }
    if sample and "connections" in sample:
        found["connections"] = int(sample["connections"])
    return entry.model_copy(update=found)


def asked_environment(
    entry: EnvironmentEntry, asked: Asked, settings: Settings, *, show_secrets: bool
) -> EnvironmentEntry:
    """An environment with what was asked of its servers.

    Args:
        settings: where this user's state is kept.
    """
    services = tuple(asked_service(each, asked, show_secrets=show_secrets) for each in entry.services)
    return entry.model_copy(update={"services": services, "spaces": spaces_of(entry.id, settings, asked.sizes)})


def _sampled(known: _Known) -> Mapping[str, float] | None:
    """What a server measures of itself; None where it offers nothing, or where the last question is unanswered."""
    if known.insight is None or not known.turn.acquire(blocking=False):
        return None
    try:
        if known.is_closed:
            return None
        if known.is_due("spaces"):
            known.sizes = known.insight.sizes()
        return known.insight.sample()
    finally:
        known.turn.release()
        if known.is_closed:
            known.close()


def _placed(name: str, known: _Known, access: Callable[[str], Access | None]) -> tuple[int | None, float | None]:
    """What the files of a service take, and where its log ends."""
    way = access(name)
    if way is None:
        return None, None
    if known.is_due("files"):
        known.disk = way.disk()
    return known.disk, way.log_position()


def _in_time(futures: "Mapping[str, Future[_Answer]]", deadline: float) -> dict[str, _Answer]:
    """What came within the time. What failed is left out: that a server is not well is what its health says."""
    found: dict[str, _Answer] = {}
    for name, future in futures.items():
        with suppress(Exception):
            found[name] = future.result(max(0.0, deadline - time.monotonic()))
    return found
