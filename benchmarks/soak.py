"""A soak test of the persistent services: an hour under load and idle in turn, with nothing lost and nothing grown.

python benchmarks/soak.py --minutes 60 [--chaos] [--dashboard] [--interval SECONDS] [--project NAME] [--out FOLDER]
                          [--keep]

README.md beside this file explains what is measured. The services run as a project of their own with its own ports and
volumes, which are removed at the end, also after Ctrl-C and SIGTERM.
"""

import gc
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from secrets import token_hex
from typing import Any, TextIO

import click
import psutil
from soak_containers import MB, Containers, Usage
from soak_dashboard import Watched, watched
from soak_load import Worker
from soak_loads import LOADS
from soak_report import Soak, as_markdown, draw, verdicts

from triton_env import TritonEnvironment
from triton_env.errors import TritonError
from triton_env.services import SERVICES
from triton_env.settings import Settings

PHASE = 300
"""Seconds of a phase, under load or idle; shorter where the run is."""
LEAST_PHASES = 4
SETTLED = 30
"""Seconds of an idle phase in which a service may still be at the work of the phase before."""
INTERVAL = 10
KILL_EVERY = 60
"""Seconds between two kills, which are done under load; less in a short run."""
RECOVERY_TIMEOUT = 90
RETRY_INTERVAL = 0.1
SAMPLES, REPORT, PLOT = "samples.jsonl", "report.md", "plot.svg"
EARLIER_SAMPLES = "samples-before.jsonl"
OURS = "soak-"
"""What this script's projects are called; the data of others is not touched."""


class Recorder:
    """Writes JSON lines, each at once: what is in the file stays when the run does not end well."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self.failures = 0

    @property
    def at(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    def write(self, kind: str, **values: Any) -> None:
        """Write one record."""
        line = json.dumps({"kind": kind, "at": round(self.at, 2), **values}, separators=(",", ":"))
        with self._lock:
            self._file.write(f"{line}\n")
            self._file.flush()

    def fail(self, service: str, what: str, words: str) -> None:
        """Write down that something is not as it should be."""
        with self._lock:
            self.failures += 1
        self.write("failure", service=service, what=what, words=words)
        _say(f"FAILED {service}, {what}: {words}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run goes, in seconds."""

    seconds: float
    interval: float
    phase: float
    chaos: bool
    dashboard: bool = False

    @classmethod
    def of(cls, minutes: float, interval: float | None, chaos: bool, dashboard: bool = False) -> "Plan":
        """Phases and interval that fit the time."""
        phase = min(PHASE, minutes * 60 / LEAST_PHASES)
        return cls(minutes * 60, interval or min(INTERVAL, max(1.0, phase / 5)), phase, chaos, dashboard)

    @property
    def kill_every(self) -> float:
        """How long it is at least from one kill to the next."""
        return min(KILL_EVERY, self.phase)

    def is_loaded(self, at: float) -> bool:
        """Whether there is load at that second: the first phase is under load."""
        return int(at / self.phase) % 2 == 0

    def is_settled(self, at: float) -> bool:
        """Whether the phase is no longer in its first moments."""
        return at % self.phase >= min(SETTLED, self.phase / 4)


class Run:
    """One run on running services."""

    def __init__(
        self,
        plan: Plan,
        env: TritonEnvironment,
        containers: Containers,
        recorder: Recorder,
        dashboard: Watched | None = None,
    ) -> None:
        self._plan = plan
        self._dashboard = dashboard
        self._containers = containers
        self._recorder = recorder
        self._process = psutil.Process()
        self._started: dict[str, str] = {}
        self._next_kill = plan.kill_every / 2
        loads = [kind(env) for kind in LOADS]
        for load in loads:
            load.open()
        self._workers = {load.name: Worker(load, self._step_failed(load.name)) for load in loads}
        self._victims = cycle(self._workers)
        self._pool = ThreadPoolExecutor(len(loads), thread_name_prefix="soak-check")

    def go(self) -> None:
        """Run for the planned time."""
        recorder, plan = self._recorder, self._plan
        phase, due = -1, 0.0
        while (at := recorder.at) < plan.seconds:
            if (now := int(at / plan.phase)) != phase:
                phase = now
                for worker in self._workers.values():
                    worker.load_on(plan.is_loaded(at))
                self._measure_disk()
            if plan.chaos and plan.is_loaded(at) and at >= self._next_kill:
                self._kill()
            if recorder.at >= due:
                self._sample()
                # What comes too late is left out rather than made up for.
                due = max(due + plan.interval, recorder.at)
            time.sleep(max(0.0, min(due, (phase + 1) * plan.phase, plan.seconds) - recorder.at))
        self._measure_disk()

    def end(self) -> None:
        """End the load."""
        for worker in self._workers.values():
            worker.load_on(False)
        for worker in self._workers.values():
            worker.end()
        self._pool.shutdown()

    def _step_failed(self, service: str) -> Callable[[str], None]:
        return lambda words: self._recorder.fail(service, "step", words)

    def _sample(self) -> None:
        at = self._recorder.at
        try:
            usages = self._containers.usages()
        except TritonError as error:
            self._recorder.fail("engine", "sample", f"{error.what} {error.cause}")
            usages = {}
        checks = dict(
            zip(self._workers, self._pool.map(lambda worker: worker.check(), self._workers.values()), strict=True)
        )
        for service, problem in checks.items():
            if problem:
                self._recorder.fail(service, "check", problem)
        if usages:
            self._check_containers(usages)
        loaded = self._plan.is_loaded(at)
        # Each insert of ClickHouse's client leaves a cycle with its thousand rows, which Python seldom looks for.
        gc.collect()
        rss = self._process.memory_info().rss / MB
        self._recorder.write(
            "sample",
            phase="loaded" if loaded else "idle",
            settled=self._plan.is_settled(at) and self._plan.is_loaded(self._recorder.at) == loaded,
            rss=round(rss, 2),
            services={name: usage.as_data() for name, usage in usages.items()},
            checks=checks,
            dashboard=self._dashboard and self._dashboard.usage(),
            steps={name: worker.load.step_number for name, worker in self._workers.items()},
        )
        self._tell(loaded, usages, rss)

    def _check_containers(self, usages: Mapping[str, Usage]) -> None:
        for service in self._workers:
            usage = usages.get(service)
            if usage is None:
                self._recorder.fail(service, "container", "it does not run")
                continue
            if usage.health == "unhealthy":
                self._recorder.fail(service, "container", "its health check says unhealthy")
            if self._started.setdefault(service, usage.started) != usage.started:
                self._started[service] = usage.started
                self._recorder.fail(service, "container", f"it was started again, {usage.restarts} times by the engine")

    def _measure_disk(self) -> None:
        sizes: dict[str, float | None] = {}
        for service in self._workers:
            try:
                sizes[service] = self._containers.on_disk(service)
            except (TritonError, KeyError):  # says nothing then, and the sample reports what is wrong
                sizes[service] = None
        self._recorder.write("disk", services=sizes)

    def _kill(self) -> None:
        """Kill one service in the middle of its load, and see that it comes back with all that was acknowledged."""
        service = next(self._victims)
        worker = self._workers[service]
        # At any moment of a step, not always just after a sample.
        time.sleep(random.random())
        self._next_kill = self._recorder.at + self._plan.kill_every
        worker.outage.set()
        begun = self._recorder.at
        problem = "it did not answer"
        try:
            self._containers.kill(service)
            self._started.pop(service, None)
            while problem and self._recorder.at < begun + RECOVERY_TIMEOUT:
                try:
                    worker.load.check()
                    problem = ""
                except Exception as error:
                    problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                    time.sleep(RETRY_INTERVAL)
        except TritonError as error:
            problem = str(error)
        finally:
            worker.outage.clear()
        recovered = None if problem else round(self._recorder.at - begun, 2)
        self._recorder.write("kill", service=service, recovered=recovered)
        if problem:
            self._recorder.fail(service, "recovery", problem)
        else:
            _say(f"killed {service}: it came back with all data after {recovered} s")

    def _tell(self, loaded: bool, usages: Mapping[str, Usage], rss: float) -> None:
        left = max(0.0, self._plan.seconds - self._recorder.at)
        ends = datetime.now().astimezone() + timedelta(seconds=left)
        parts = [
            f"{name} {usage.memory:.0f} MB" + ("" if usage.cpu is None else f" {usage.cpu:.0f} %")
            for name, usage in usages.items()
        ]
        _say(
            f"{_minutes(self._recorder.at)} of {_minutes(self._plan.seconds)}, ends {ends:%H:%M:%S}, "
            f"{'loaded' if loaded else 'idle'}: {', '.join(parts)}; this process {rss:.0f} MB; "
            f"{self._recorder.failures} failures"
        )


@contextmanager
def services(settings: Settings, *, keep: bool) -> Iterator[tuple[TritonEnvironment, Containers]]:
    """The persistent services of a project, in the end removed with their data unless they are to be kept."""
    with Containers(settings) as containers:
        if not settings.triton_project.startswith(OURS) and containers.volumes():
            raise click.UsageError(f"The project {settings.triton_project} has data. Name one that has none.")
        env = TritonEnvironment(settings, persistent=True)
        try:
            yield env.start(), containers
        finally:
            _ignore_signals()
            if keep:
                env.detach()
            else:
                try:
                    env.stop()
                finally:
                    # Also what an earlier run of this project left behind.
                    containers.remove()


@contextmanager
def running(run: Run, recorder: Recorder) -> Iterator[Run]:
    """A run whose load is ended however it ends; writes how it ended."""
    complete = False
    try:
        yield run
        complete = True
    finally:
        _ignore_signals()
        recorder.write("end", complete=complete)
        run.end()


def header(settings: Settings, plan: Plan) -> dict[str, Any]:
    """What the first record says about the run."""
    images = ", ".join(service.recipe(settings).container.image for service in SERVICES.values())
    return {
        "project": settings.triton_project,
        "begun": datetime.now().astimezone().isoformat(),
        "minutes": plan.seconds / 60,
        "interval": plan.interval,
        "phase": plan.phase,
        "chaos": plan.chaos,
        "dashboard": plan.dashboard,
        "machine": f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}; images {images}",
    }


def report(folder: Path, soak: Soak) -> str:
    """Write report and plot into the folder; returns the report."""
    plot = ""
    if find_spec("matplotlib"):
        plot = PLOT
        draw(soak, folder / plot)
    text = as_markdown(soak, plot)
    (folder / REPORT).write_text(text, "utf-8")
    return text


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _say(words: str) -> None:
    click.echo(f"soak: {words}", err=True)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _ignore_signals() -> None:
    """A second Ctrl-C may not keep what was started from being removed."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@click.command
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True), help="How long.")
@click.option("--interval", type=click.FloatRange(1), help=f"Seconds between two samples and checks.  [{INTERVAL}]")
@click.option("--project", default="", help="The project's name; one of its own by default.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for samples, report and plot; one among the temporary files by default.",
)
@click.option("--keep", is_flag=True, help="Leave the services running, with their data.")
@click.option("--chaos", is_flag=True, help="Kill one service each minute under load; see that nothing is lost.")
@click.option("--dashboard", is_flag=True, help="Keep a dashboard and its page open, and measure them as well.")
@click.option("--report", "report_only", is_flag=True, help="Measure nothing; make the report of --out again.")
def main(
    minutes: float,
    interval: float | None,
    project: str,
    out: Path | None,
    keep: bool,
    chaos: bool,
    dashboard: bool,
    report_only: bool,
) -> None:
    """Run the persistent services under load and idle in turn, and tell what they lost, used and grew by.

    The exit status is 1 where a check failed or something grew.
    """
    if report_only and out is None:
        raise click.UsageError("--report needs --out: the folder of the run.")
    project = project or f"{OURS}{token_hex(4)}"
    folder = out or Path(tempfile.gettempdir(), project)
    status = 0
    if not report_only:
        try:
            status = _measured(folder, Plan.of(minutes, interval, chaos, dashboard), project, keep)
        except TritonError as error:
            raise click.ClickException(str(error)) from error
    soak = Soak.read(folder / SAMPLES)
    click.echo(report(folder, soak))
    _say(f"samples, report and plot are in {folder}")
    if any(verdict.fatal and verdict.met is False for verdict in verdicts(soak)):
        status = status or 1
    raise SystemExit(status)


def _measured(folder: Path, plan: Plan, project: str, keep: bool) -> int:
    """Do the run; the exit status is that of the signal which ended it, or 0."""
    settings = Settings(triton_project=project)
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        (folder / SAMPLES).replace(folder / EARLIER_SAMPLES)
    if not find_spec("matplotlib"):
        _say("there will be no plot: pip install 'triton-env[examples]'")
    signal.signal(signal.SIGTERM, _end)
    # Its client logs every error that it raises, which is reported where it counts.
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    try:
        with services(settings, keep=keep) as (env, containers), (folder / SAMPLES).open("w", encoding="utf-8") as file:
            recorder = Recorder(file)
            recorder.write("run", **header(env.settings, plan))
            _say(f"project {project} is running; samples go to {folder / SAMPLES}")
            with ExitStack() as stack:
                page = stack.enter_context(watched(project, plan.phase, recorder)) if plan.dashboard else None
                stack.enter_context(running(run := Run(plan, env, containers, recorder, page), recorder))
                run.go()
    except KeyboardInterrupt:
        return _interrupted(128 + signal.SIGINT, folder)
    except SystemExit as ended:
        return _interrupted(int(str(ended.code)), folder)
    return 0


def _interrupted(status: int, folder: Path) -> int:
    """The status, where the run came far enough to have a report."""
    if not (folder / SAMPLES).exists():
        raise SystemExit(status)
    return status


if __name__ == "__main__":
    main()
