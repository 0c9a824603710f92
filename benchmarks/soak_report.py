"""What `soak.py` makes of its samples: growth, verdicts, a table in Markdown, and a plot. Nothing in here measures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

from triton_env.services import SERVICES

MEMORY_AIMS = {"postgres": 200, "clickhouse": 500, "redis": 50, "s3": 300}
"""MB that a service may use while it gets no requests."""
CPU_AIM = 50
"""Percent of one CPU for all four together, idle."""
GROWTH_SHARE = 0.05
"""Growth in an hour that counts as such, as a share of the aim: a day's work then ends within twice the aim."""
TASKS_LIMIT = 10
"""Processes and threads that may come to be in an hour."""
OWN_LIMIT = 10
"""MB that the measuring process itself may grow by in an hour."""
WARM_UP = 0.2
"""Share of the run in which caches fill. Growth shows in what comes after it."""
JUDGED_HOURS = 1 / 3
"""Samples over less time than this tell nothing about growth in an hour."""
_SLOPE_POINTS = 400
"""The slope is the median of all pairs' slopes: of more points than these it would take minutes."""
_PLOT_POINTS = 500
_FAILURES_SHOWN = 20

_COLOURS = {"postgres": "#1f4e79", "clickhouse": "#e0972f", "redis": "#c0533a", "s3": "#2a8c7c"}
_INK, _MUTED, _GRID, _FAILED = "#22303c", "#6b7a88", "#e4e8ec", "#d4002a"


@dataclass(frozen=True, slots=True)
class Soak:
    """A run, as its JSON lines tell it; see `soak.py` for what each holds."""

    run: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    kills: Sequence[Mapping[str, Any]]
    disk: Sequence[Mapping[str, Any]]
    pages: Sequence[Mapping[str, Any]] = ()
    end: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> "Soak":
        """Read what `soak.py` wrote, also where it was ended in the middle of a line."""
        records: dict[str, list[Any]] = {}
        for line in file.read_text("utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            records.setdefault(record["kind"], []).append(record)
        return cls(
            run=records["run"][0],
            samples=records.get("sample", []),
            failures=records.get("failure", []),
            kills=records.get("kill", []),
            disk=records.get("disk", []),
            pages=records.get("page", []),
            end=records.get("end", [{}])[-1],
        )

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return float(self.end.get("at", self.samples[-1]["at"] if self.samples else 0))

    def of(self, phase: str) -> list[Mapping[str, Any]]:
        """The samples of one kind of phase, without its first moments."""
        return [sample for sample in self.samples if sample["phase"] == phase and sample["settled"]]

    def values(self, samples: Iterable[Mapping[str, Any]], service: str, name: str) -> list[tuple[float, float]]:
        """Hours and value, where there is one."""
        return [
            (sample["at"] / 3600, usage[name])
            for sample in samples
            if (usage := sample["services"].get(service)) and usage[name] is not None
        ]

    def growth(self, service: str, name: str) -> float | None:
        """Growth of a value in an hour, idle; None where the run is too short to tell, or services were killed."""
        return None if self.kills else growth(self.values(self.of("idle"), service, name), self.seconds / 3600)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something that was to be shown. `met` is None where the run cannot tell; `fatal` fails the run."""

    words: str
    met: bool | None
    fatal: bool = False

    def __str__(self) -> str:
        return f"{'not judged' if self.met is None else 'met' if self.met else 'MISSED'}: {self.words}"


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Growth in an hour by Theil and Sen: the median of the slopes of all pairs, which single outliers do not move.

    Args:
        points: hours and value.
    """
    points = _thinned(points, _SLOPE_POINTS)
    slopes = [(second[1] - first[1]) / (second[0] - first[0]) for first, second in combinations(points, 2)]
    return median(slopes) if slopes else None


def growth(points: Sequence[tuple[float, float]], hours: float) -> float | None:
    """Growth in an hour after the warm-up; None where the run is too short to tell.

    Args:
        points: hours and value.
        hours: that the run lasted.
    """
    warm = [point for point in points if point[0] >= hours * WARM_UP]
    return slope(warm) if len(warm) > 2 and warm[-1][0] - warm[0][0] >= JUDGED_HOURS else None


@dataclass(frozen=True, slots=True)
class Row:
    """A value of the dashboard's process, or of its page.

    Attributes:
        title: of the row in the table.
        name: of the value in the records.
        unit: with a space in front, if it has one.
        words: of the verdict: what grows.
        limit: growth in an hour that counts as such; None where it is not judged.
        is_of_page: whether it is in the records of the page, else in the samples.
    """

    title: str
    name: str
    unit: str = ""
    words: str = ""
    limit: float | None = None
    is_of_page: bool = False

    def points(self, soak: Soak) -> list[tuple[float, float]]:
        """Hours and value."""
        if self.is_of_page:
            return [(page["at"] / 3600, page[self.name]) for page in soak.pages]
        return [
            (sample["at"] / 3600, usage[self.name]) for sample in soak.samples if (usage := sample.get("dashboard"))
        ]

    def growth(self, soak: Soak) -> float | None:
        """Growth in an hour; None where the run is too short to tell."""
        return growth(self.points(soak), soak.seconds / 3600)


DASHBOARD = (
    Row("process: memory of its own", "memory", " MB", "memory of the dashboard's process grows", 10),
    Row("process: resident memory", "rss", " MB"),
    Row("process: one CPU", "cpu", " %"),
    Row("process: threads", "threads", "", "threads of the dashboard's process grow", TASKS_LIMIT),
    Row("process: file descriptors", "descriptors", "", "file descriptors of the dashboard's process grow", 10),
    Row("page: JavaScript heap", "heap", " MB", "the page's JavaScript heap grows", 10, is_of_page=True),
    Row("page: samples kept", "samples", is_of_page=True),
    Row("page: nodes", "nodes", is_of_page=True),
    Row("page: nodes outside the document", "detached", "", "nodes outside the page's document grow", 100, True),
    Row("page: event listeners", "listeners", "", "the page's event listeners grow", 100, is_of_page=True),
    Row("page: environments listed", "environments", is_of_page=True),
)


def verdicts(soak: Soak) -> list[Verdict]:
    """All that was to be shown."""
    checks = sum(len(sample["checks"]) for sample in soak.samples)
    steps = sum((soak.samples[-1]["steps"] if soak.samples else {}).values())
    found = [
        Verdict(
            f"every check passed: {checks} checks, {steps} load steps, {len(soak.failures)} failures",
            bool(checks) and not soak.failures,
            fatal=True,
        )
    ]
    if soak.run["chaos"]:
        slowest = max((kill["recovered"] or 0 for kill in soak.kills), default=0)
        back = sum(kill["recovered"] is not None for kill in soak.kills)
        words = (
            f"{back} of {len(soak.kills)} killed services came back with every acknowledged write, in {slowest:.1f} s"
        )
        found.append(Verdict(f"{words} at most", back == len(soak.kills) if soak.kills else None, fatal=True))
    idle = soak.of("idle")
    for service, aim in MEMORY_AIMS.items():
        memory = [value for _, value in soak.values(idle, service, "memory")]
        most = max(memory, default=0)
        met = most < aim if memory else None
        found.append(Verdict(f"{SERVICES[service].title} idle below {aim} MB: {most:.0f} MB at most", met))
    sums = [total for sample in idle if (total := _cpu_sum(sample)) is not None]
    cpu = fmean(sums) if sums else 0
    words = f"all four idle below {CPU_AIM} % of one CPU: {cpu:.1f} % on average"
    found.append(Verdict(words, cpu < CPU_AIM if sums else None))
    for service in MEMORY_AIMS:
        title, limit = SERVICES[service].title, growth_limit(service)
        words = f"{title} grows by less than {limit:g} MB/h when idle"
        found.append(_growth_verdict(words, soak.growth(service, "kept"), limit))
    for service in MEMORY_AIMS:
        words = f"{SERVICES[service].title} gets less than {TASKS_LIMIT} processes and threads more in an hour"
        found.append(_growth_verdict(words, soak.growth(service, "tasks"), TASKS_LIMIT))
    own = growth([(sample["at"] / 3600, sample["rss"]) for sample in soak.samples], soak.seconds / 3600)
    found.append(_growth_verdict(f"the measuring process grows by less than {OWN_LIMIT} MB/h", own, OWN_LIMIT))
    return found + [
        _growth_verdict(f"{row.words} by less than {row.limit:g}{row.unit} in an hour", row.growth(soak), row.limit)
        for row in DASHBOARD
        if row.limit is not None and row.points(soak)
    ]


def growth_limit(service: str) -> float:
    """MB in an hour that count as growth."""
    return MEMORY_AIMS[service] * GROWTH_SHARE


def _growth_verdict(words: str, by: float | None, limit: float) -> Verdict:
    if by is None:
        return Verdict(words, None, fatal=True)
    return Verdict(f"{words}: {by:+.1f}", by < limit, fatal=True)


def _cpu_sum(sample: Mapping[str, Any]) -> float | None:
    used = [usage["cpu"] for usage in sample["services"].values()]
    return None if not used or None in used else sum(used)


def as_markdown(soak: Soak, plot: str = "") -> str:
    """The report.

    Args:
        soak: the run.
        plot: the name of its picture, if there is one.
    """
    found = verdicts(soak)
    minutes = soak.run["minutes"]
    lasted = f"{soak.seconds / 60:.1f} of {minutes:g} minutes" + ("" if soak.end.get("complete") else ", INTERRUPTED")
    text = [f"## Soak test of {soak.run['begun'][:16].replace('T', ' ')}: {lasted}", "", _table(soak), ""]
    text += [
        f"Phases of {soak.run['phase'] / 60:g} minutes under load and idle in turn; a check of every service and a "
        f"sample every {soak.run['interval']:g} s, in idle phases too. Memory is what `docker stats` shows. Growth is "
        "that of memory which the kernel cannot take back, idle, after the first fifth of the run, by Theil and Sen. "
        f"{soak.run['machine']}.",
        "",
        *(f"- {verdict}" for verdict in found),
    ]
    if any(row.points(soak) for row in DASHBOARD):
        reader = "its page open in a browser" if soak.pages else "a client that reads its events"
        text += ["", f"The dashboard, with {reader}:", "", _dashboard_table(soak)]
    if soak.failures:
        text += ["", f"Failures ({len(soak.failures)}):", ""]
        text += [
            f"- {failure['at'] / 60:.1f} min, {failure['service']}, {failure['what']}: {failure['words']}"
            for failure in soak.failures[:_FAILURES_SHOWN]
        ]
        if len(soak.failures) > _FAILURES_SHOWN:
            text += [f"- ... and {len(soak.failures) - _FAILURES_SHOWN} more, in the JSON lines"]
    if plot:
        text += ["", f"![Memory and CPU of each service over time]({plot})"]
    return "\n".join(text) + "\n"


def _table(soak: Soak) -> str:
    lines = [
        "| | idle memory, median / most | aim | most under load | CPU idle / loaded | tasks | growth (limit) "
        "| data on disk | checks | steps |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    idle, loaded = soak.of("idle"), soak.of("loaded")
    for service, aim in MEMORY_AIMS.items():
        memory = [value for _, value in soak.values(idle, service, "memory")]
        loaded_memory = [value for _, value in soak.values(loaded, service, "memory")]
        cpu = [[value for _, value in soak.values(samples, service, "cpu")] for samples in (idle, loaded)]
        tasks = [value for _, value in soak.values(soak.samples, service, "tasks")]
        by = soak.growth(service, "kept")
        disk = [record["services"][service] for record in soak.disk if record["services"].get(service) is not None]
        checks = [sample["checks"][service] for sample in soak.samples if service in sample["checks"]]
        cells = (
            SERVICES[service].title,
            f"{median(memory):.0f} / {max(memory):.0f} MB" if memory else "",
            f"< {aim} MB",
            f"{max(loaded_memory):.0f} MB" if loaded_memory else "",
            " / ".join(f"{fmean(values):.1f} %" if values else "?" for values in cpu),
            f"{min(tasks):g} to {max(tasks):g}" if tasks else "",
            ("too short to tell" if by is None else f"{by:+.1f} MB/h") + f" ({growth_limit(service):g})",
            f"{disk[0]:.0f} → {disk[-1]:.0f} MB" if disk else "",
            f"{checks.count('')} of {len(checks)}",
            f"{soak.samples[-1]['steps'][service]:,}" if soak.samples else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _dashboard_table(soak: Soak) -> str:
    lines = ["| | first | median | most | last | growth (limit) |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in DASHBOARD:
        if not (values := [value for _, value in row.points(soak)]):
            continue
        digits = 1 if row.unit else 0
        shown = [f"{value:.{digits}f}{row.unit}" for value in (values[0], median(values), max(values), values[-1])]
        by = row.growth(soak)
        grown = "too short to tell" if by is None else f"{by:+.1f}{row.unit}/h"
        limit = "" if row.limit is None else f" ({row.limit:g})"
        lines.append(f"| {' | '.join((row.title, *shown, grown + limit))} |")
    return "\n".join(lines)


def draw(soak: Soak, file: Path) -> None:
    """Write the plot as SVG: memory and CPU of each service, phases under load shaded, failures and kills marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    style: Any = {
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _MUTED,
        "axes.edgecolor": _GRID,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "grid.color": _GRID,
        # Text stays text, which is smaller and can be searched; ids are the same in each drawing.
        "svg.fonttype": "none",
        "svg.hashsalt": "triton-env",
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(2, 1, figsize=(10, 6.2), sharex=True, layout="constrained")
        try:
            for axis, name, title in zip(axes, ("memory", "cpu"), ("Memory (MB)", "CPU (% of one CPU)"), strict=True):
                for service in MEMORY_AIMS:
                    points = soak.values(soak.samples, service, name)
                    drawn = [(hours * 60, value) for hours, value in _thinned(points, _PLOT_POINTS)]
                    label, colour = SERVICES[service].title, _COLOURS[service]
                    axis.plot(*(zip(*drawn, strict=True) if drawn else ([], [])), color=colour, lw=1.4, label=label)
                _shade(axis, soak)
                axis.set_title(title, fontsize=11)
                axis.set_ylim(bottom=0)
            failed = [failure["at"] / 60 for failure in soak.failures]
            if failed:
                transform = axes[0].get_xaxis_transform()
                axes[0].scatter(
                    failed, [0.03] * len(failed), marker="x", color=_FAILED, transform=transform, label="failed check"
                )
            axes[0].set_xlim(0, max(soak.seconds / 60, 0.1))
            axes[1].set_xlabel("minutes (shaded: under load)")
            axes[0].legend(ncols=6, loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
            figure.savefig(file, format="svg", metadata={"Date": None})
        finally:
            plt.close(figure)


def _shade(axis: Any, soak: Soak) -> None:
    phase, last = soak.run["phase"] / 60, soak.seconds / 60
    for number in range(int(last / phase) + 1):
        if number % 2 == 0:
            axis.axvspan(number * phase, min((number + 1) * phase, last), color=_GRID, alpha=0.5, lw=0, zorder=0)
    for kill in soak.kills:
        axis.axvline(kill["at"] / 60, color=_COLOURS[kill["service"]], ls=":", lw=1)


def _thinned(points: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """At most so many points, each the medians of its neighbours."""
    size = -(-len(points) // most) or 1
    if size == 1:
        return points
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(median(x for x, _ in part), median(y for _, y in part)) for part in parts]
