"""The numbers of all services, taken again and again, kept for an hour and sent to those who look."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from triton_env.core.threads import in_thread
from triton_env.core.usage import Usage
from triton_env.dashboard.futures import awaited
from triton_env.dashboard.looking import UNUSED, Looking, declared
from triton_env.dashboard.meters import Meter
from triton_env.dashboard.watch import LOOKED_AT, Watch
from triton_env.errors import InvalidSetting, TritonError
from triton_env.inspection import EnvironmentEntry, ServiceEntry
from triton_env.services.base_insight import Insight
from triton_env.settings import Settings
from triton_env.state import samples
from triton_env.state.samples import Samples

CPU, MEMORY = "cpu_percent", "memory"
"""What is measured of every server that runs here."""
_RARELY = 60.0
"""Seconds between two questions to servers while no browser looks: each takes a connection, which is closed then."""
_UNUSED_ALONE = 5.0
"""Seconds after which it is closed."""


@dataclass(slots=True)
class Sampled:
    """A service that is sampled.

    Attributes:
        is_persistent: whether its environment is the services of a project.
        file: of its samples; None where none can be kept.
        meter: of its server.
        at: of the last sample, in seconds since the epoch.
        values: of it; numbers that were not asked for this time are those of the time before.
        asked: when the server was last asked, on the monotonic clock.
        task: the sample that is being taken.
        measuring: the reading that is being taken; of an engine that hangs, it is the last one.
    """

    is_persistent: bool
    file: Samples | None
    meter: Meter
    at: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    asked: float = float("-inf")
    task: "asyncio.Task[None] | None" = None
    measuring: "Future[Usage | None] | None" = None


class Sampler:
    """Samples the services of all environments.

    Args:
        settings: where state is kept.
        watch: what runs, and who looks.
        looking: the connections.
    """

    def __init__(self, settings: Settings, watch: Watch, looking: Looking) -> None:
        self._settings = settings
        self._watch = watch
        self._looking = looking
        self._sampled: dict[tuple[str, str], Sampled] = {}

    async def run(self) -> None:
        """Sample until this is cancelled."""
        await awaited(in_thread(self._remove_left))
        while True:
            self.round()
            await self._watch.pause()

    def round(self) -> None:
        """Begin one sample of each service that is not being sampled, and forget those that have ended."""
        inspection = self._watch.inspection
        if inspection is None:
            return
        self._looking.keep(inspection, idle=UNUSED if self._watch.is_looked_at else _UNUSED_ALONE)
        running = {(entry.key, service.name): (entry, service) for entry, service in _running(inspection.environments)}
        known = {(entry.key, service.name) for entry in inspection.environments for service in entry.services}
        for key in self._sampled.keys() - known:
            # Persistent services on Docker are missing as well while their engine does not answer.
            is_over = inspection.engine_problem is None or not self._sampled[key].is_persistent
            self._forget(key, remove=is_over)
        for key in self._sampled.keys() - running.keys():
            self._sampled[key].values = {}
        for key, (entry, service) in running.items():
            sampled = self._sampled.get(key) or self._begun(entry, service)
            if sampled.task is None or sampled.task.done():
                sampled.task = asyncio.create_task(self._sample(sampled, entry, service))

    async def now(self) -> None:
        """One sample of every service, also of what is rarely asked while no browser looks."""
        await self._watch.fresh()
        for sampled in self._sampled.values():
            if time.monotonic() - sampled.asked > LOOKED_AT:
                sampled.asked = float("-inf")
        self.round()
        tasks = [each.task for each in self._sampled.values() if each.task]
        if tasks:
            await asyncio.wait(tasks, timeout=self._looking.timeout)

    def since(self, environment: str, service: str, seconds: float) -> list[tuple[float, dict[str, float]]]:
        """The samples of the last seconds, the oldest first."""
        now = time.time()
        sampled = self._sampled.get((environment, service))
        file = sampled.file if sampled else None
        return file.since(now - seconds, now) if file else []

    def latest(self) -> Iterator[tuple[str, str, Mapping[str, float]]]:
        """The last values of each service: the key of its environment, its name, and the values; none while it does
        not run or answer."""
        for (environment, service), sampled in self._sampled.items():
            yield environment, service, sampled.values

    def close(self) -> None:
        """Close all files."""
        for key in list(self._sampled):
            self._forget(key, remove=False)

    def _begun(self, entry: EnvironmentEntry, service: ServiceEntry) -> Sampled:
        file: Samples | None = None
        with suppress(InvalidSetting, OSError):  # without it, the page shows what comes from now on
            file = Samples(self._settings, entry.key, service.name, [CPU, MEMORY, *_metrics(service.name)])
        sampled = Sampled(entry.is_persistent, file, Meter(self._settings, entry))
        self._sampled[entry.key, service.name] = sampled
        return sampled

    async def _sample(self, sampled: Sampled, environment: EnvironmentEntry, service: ServiceEntry) -> None:
        values: dict[str, float] = {}
        asks = self._watch.is_looked_at or time.monotonic() - sampled.asked >= _RARELY
        if sampled.measuring is None or sampled.measuring.done():
            sampled.measuring = in_thread(sampled.meter.usage, service)
        measuring = awaited(sampled.measuring)
        if asks and _metrics(service.name):
            sampled.asked = time.monotonic()
            with suppress(TritonError):  # the page shows the state of a server that does not answer
                values |= await self._looking.ask(environment, service.name, Insight.sample)
        with suppress(TritonError, TimeoutError):
            if used := await asyncio.wait_for(measuring, self._looking.timeout):
                values |= {CPU: used.cpu_percent, MEMORY: used.memory}
        if not values:
            # It has answered nothing of what it was asked. What it was not asked for stays.
            sampled.values = {} if asks else sampled.values
            return
        sampled.at, sampled.values = time.time(), values if asks else {**sampled.values, **values}
        self._watch.send(
            "samples", {"environment": environment.key, "service": service.name, "at": sampled.at, "values": values}
        )
        if sampled.file:
            with suppress(OSError, InvalidSetting):  # the disk is full: what is shown goes on
                sampled.file.add(sampled.at, values)

    def _forget(self, key: tuple[str, str], *, remove: bool) -> None:
        sampled = self._sampled.pop(key)
        if sampled.file:
            sampled.file.close(remove=remove)
        in_thread(sampled.meter.close)

    def _remove_left(self) -> None:
        """Remove the files of environments that have ended while no dashboard ran."""
        from triton_env.inspection import inspect

        with suppress(TritonError, OSError):
            found = inspect(self._settings)
            if found.engine_problem is None:
                living = {entry.key for entry in found.environments}
                for _, path in list(samples.left(self._settings, living)):
                    samples.remove(path)


def _running(environments: tuple[EnvironmentEntry, ...]) -> Iterator[tuple[EnvironmentEntry, ServiceEntry]]:
    for entry in environments:
        for service in entry.services:
            if service.state == "running":
                yield entry, service


def _metrics(service: str) -> tuple[str, ...]:
    """The names of what a service measures of itself; empty where it measures nothing, or is not installed here."""
    kind = declared(service)
    return tuple(metric.name for metric in kind.metrics) if kind else ()
