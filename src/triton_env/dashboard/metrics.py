"""`/metrics`: the numbers of all services for Prometheus, by its naming conventions."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

from triton_env.dashboard.looking import declared
from triton_env.dashboard.sampler import CPU, MEMORY
from triton_env.inspection import Inspection
from triton_env.services.base_insight import Metric as Declared
from triton_env.services.selection import title_of

_PREFIX: Final = "triton_env"
_LABELS: Final = ("environment", "service")
Latest = Iterable[tuple[str, str, Mapping[str, float]]]
"""The key of an environment, the name of a service, and its numbers."""


def answer(accepted: str, inspection: Inspection | None, latest: Latest) -> Response:
    """The numbers in the format that is accepted.

    Args:
        accepted: the header `Accept`.
        inspection: what runs; None where that is not known yet.
        latest: the last numbers of each service.
    """
    registry = CollectorRegistry()
    registry.register(_Numbers(inspection, list(latest)))
    encode, media_type = choose_encoder(accepted)
    return Response(encode(registry), headers={"Content-Type": media_type})


class _Numbers(Collector):
    def __init__(self, inspection: Inspection | None, latest: Latest) -> None:
        self._environments = inspection.environments if inspection else ()
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        yield from self._of_environments()
        cpu = GaugeMetricFamily(
            f"{_PREFIX}_service_cpu_ratio", "Processors that the service keeps busy; 1 is one of them.", labels=_LABELS
        )
        memory = GaugeMetricFamily(f"{_PREFIX}_service_memory_bytes", "Memory that the service uses.", labels=_LABELS)
        own: dict[tuple[str, str], Metric] = {}
        for environment, service, values in self._latest:
            labels = (environment, service)
            if CPU in values:
                cpu.add_metric(labels, values[CPU] / 100)
            if MEMORY in values:
                memory.add_metric(labels, values[MEMORY])
            kind = declared(service)
            for metric in kind.metrics if kind else ():
                if metric.name in values:
                    family = own.setdefault((service, metric.name), family_of(service, metric))
                    assert isinstance(family, (CounterMetricFamily, GaugeMetricFamily))
                    family.add_metric((environment,), values[metric.name])
        yield from (cpu, memory, *own.values())

    def _of_environments(self) -> Iterator[Metric]:
        about = InfoMetricFamily(f"{_PREFIX}_environment", "An environment that runs.", labels=("environment",))
        started = GaugeMetricFamily(
            f"{_PREFIX}_environment_start_time_seconds",
            "When the environment was ready, in seconds since the epoch.",
            labels=("environment",),
        )
        up = GaugeMetricFamily(
            f"{_PREFIX}_service_up", "Whether the service listens: 1 where it does, else 0.", labels=_LABELS
        )
        for entry in self._environments:
            about.add_metric((entry.key,), {"mode": entry.mode, "runtime": entry.runtime})
            if entry.started:
                started.add_metric((entry.key,), entry.started.timestamp())
            for service in entry.services:
                up.add_metric((entry.key, service.name), float(service.state == "running"))
        yield from (about, started, up)


def family_of(service: str, metric: Declared) -> CounterMetricFamily | GaugeMetricFamily:
    """A number of one service, without values: `triton_env_`, the service, and its own name."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    name = re.sub(r"\W", "_", f"{_PREFIX}_{service}_{metric.name}")
    return kind(name, f"{title_of(service)}: {metric.help}", labels=("environment",))
