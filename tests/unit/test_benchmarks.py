"""The parts of the benchmarks that measure nothing: tables, what a soak may tell from its samples, counted writes."""

import importlib
import json
import queue
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SERVICES = ("postgres", "clickhouse", "redis", "s3")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("tables")


@pytest.fixture
def startup(tables: ModuleType) -> ModuleType:
    return importlib.import_module("startup")


def test_ratio_is_to_the_slowest_baseline_by_median(tables: ModuleType) -> None:
    rows = (tables.Row("ours", "ours", ("a", "b")),)
    # One wild sample of `a` may not make it the slowest.
    samples = {"a": [1.0, 1.0, 9.0], "b": [2.0, 2.0, 2.0], "ours": [3.0, 2.5, 3.5]}
    (line,) = tables.lines(rows, samples)
    assert (line.median, line.ratio, line.met) == (3.0, 1.5, None)


def test_ratio_needs_every_baseline(tables: ModuleType) -> None:
    row = tables.Row("ours", "ours", ("a", "b"), tables.Aim(1.15, "ratio"))
    (line,) = tables.lines((row,), {"a": [1.0], "ours": [1.0]})
    assert (line.ratio, line.met) == (None, None)
    assert line.verdict == "≤ 1.15 x: baseline not measured"


@pytest.mark.parametrize(
    ("seconds", "met", "verdict"),
    [(1.15, True, "≤ 1.15 x: met"), (1.0, True, "≤ 1.15 x: met"), (2.3, False, "≤ 1.15 x: missed by 100%")],
)
def test_aim_at_a_ratio(tables: ModuleType, seconds: float, met: bool, verdict: str) -> None:
    row = tables.Row("ours", "ours", ("bare",), tables.Aim(1.15, "ratio"))
    (line,) = tables.lines((row,), {"bare": [1.0], "ours": [seconds]})
    assert (line.met, line.verdict) == (met, verdict)


def test_aim_at_seconds_needs_no_baseline(tables: ModuleType) -> None:
    row = tables.Row("stop", "stop", aim=tables.Aim(0.5, "seconds"))
    (slow,) = tables.lines((row,), {"stop": [0.75]})
    (quick,) = tables.lines((row,), {"stop": [0.5]})
    assert (slow.verdict, quick.verdict) == ("≤ 500 ms: missed by 50%", "≤ 500 ms: met")


def test_rows_that_were_not_measured_are_left_out(tables: ModuleType) -> None:
    rows = (tables.Row("a", "A"), tables.Row("b", "B"), tables.Row("c", "C"))
    assert [line.row.name for line in tables.lines(rows, {"c": [1.0], "a": [1.0], "b": []})] == ["a", "c"]


def test_choosing_rows(tables: ModuleType) -> None:
    rows = [tables.Row(name, name) for name in ("bare-a", "bare-b", "stop", "help")]

    def names(patterns: str) -> list[str]:
        return [row.name for row in tables.chosen(rows, patterns)]

    assert names("") == ["bare-a", "bare-b", "stop", "help"]
    assert names("help, bare-*") == ["bare-a", "bare-b", "help"]
    with pytest.raises(ValueError, match="no row is called 'bear-a'; there are bare-a, bare-b, stop, help"):
        names("stop,bear-a")


def test_the_three_forms_tell_the_same(tables: ModuleType) -> None:
    rows = (tables.Row("bare", "bare `x|y`"), tables.Row("ours", "ours", ("bare",), tables.Aim(1.15, "ratio")))
    measured = tables.lines(rows, {"bare": [0.8], "ours": [1.6]})
    assert tables.as_text(measured).splitlines() == [
        "          median   ratio  aim",
        "bare x|y  800 ms",
        "ours      1.60 s  2.00 x  ≤ 1.15 x: missed by 74%",
    ]
    assert tables.as_markdown(measured).splitlines() == [
        "|  | median | ratio | aim |",
        "| --- | ---: | ---: | --- |",
        r"| bare `x\|y` | 800 ms |  |  |",
        "| ours | 1.60 s | 2.00 x | ≤ 1.15 x: missed by 74% |",
    ]
    bare, ours = json.loads(json.dumps(tables.as_data(measured)))
    assert (bare["samples"], bare["ratio"], bare["aim"]) == ([0.8], None, None)
    assert (ours["ratio"], ours["aim"], ours["met"]) == (2.0, {"at_most": 1.15, "of": "ratio"}, False)


def test_startup_rows_have_unique_names_and_known_baselines(startup: ModuleType) -> None:
    names = [row.name for row in startup.ROWS]
    assert len(set(names)) == len(names)
    assert {baseline for row in startup.ROWS for baseline in row.baselines} <= set(names)


def test_every_startup_row_is_measured_exactly_once(startup: ModuleType) -> None:
    measured = [row for measurement in startup.Bench().measurements() for row in measurement.rows]
    assert sorted(measured) == sorted(row.name for row in startup.ROWS)


def test_persistent_rows_are_put_in_ratio_to_the_start_of_a_session(startup: ModuleType, tables: ModuleType) -> None:
    samples = {"eager-start": [2.0], "persistent-first": [2.6], "persistent-again": [2.4], "persistent-attach": [0.2]}
    lines = {line.row.name: line for line in tables.lines(startup.ROWS, samples)}
    found = {name: (round(lines[name].ratio, 2), lines[name].met) for name in startup.PERSISTENT}
    assert found == {
        "persistent-first": (1.3, False),
        "persistent-again": (1.2, True),
        "persistent-attach": (0.1, True),
    }


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def report(modules: Callable[[str], ModuleType]) -> ModuleType:
    return modules("soak_report")


def usage(memory: float, cpu: float = 1.0, tasks: int = 8) -> dict[str, Any]:
    return {"memory": memory, "kept": memory, "cpu": cpu, "tasks": tasks}


def records(
    minutes: int = 60, redis: Callable[[float], float] = lambda hours: 11.0, **run: Any
) -> list[dict[str, Any]]:
    """A run in which all is well, unless Redis's memory is made to tell something else."""
    first = {"project": "soak-x", "begun": "2026-01-01T10:00:00", "minutes": minutes, "interval": 10, "phase": 300}
    samples = [
        {
            "kind": "sample",
            "at": at,
            "phase": "idle" if at // 300 % 2 else "loaded",
            "settled": at % 300 >= 30,
            "rss": 200.0,
            "services": {name: usage(redis(at / 3600) if name == "redis" else 40.0) for name in SERVICES},
            "checks": dict.fromkeys(SERVICES, ""),
            "steps": dict.fromkeys(SERVICES, at),
        }
        for at in range(0, minutes * 60, 10)
    ]
    end = {"kind": "end", "at": minutes * 60, "complete": True}
    return [{"kind": "run", "at": 0, "chaos": False, "machine": "2 CPUs", **first, **run}, *samples, end]


def read(report: ModuleType, folder: Path, lines: list[dict[str, Any]]) -> Any:
    file = folder / "samples.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return report.Soak.read(file)


def verdicts(report: ModuleType, soak: Any) -> dict[str, Any]:
    return {str(verdict): verdict for verdict in report.verdicts(soak)}


def test_all_is_met_where_nothing_failed_or_grew(report: ModuleType, tmp_path: Path) -> None:
    found = report.verdicts(read(report, tmp_path, records()))
    assert {verdict.met for verdict in found} == {True}
    assert str(found[0]) == "met: every check passed: 1440 checks, 14360 load steps, 0 failures"


def test_growth_of_one_service_is_reported(report: ModuleType, tmp_path: Path) -> None:
    soak = read(report, tmp_path, records(redis=lambda hours: 11 + 4 * hours))
    missed = [verdict for verdict in report.verdicts(soak) if verdict.met is False]
    assert [str(verdict) for verdict in missed] == ["MISSED: Redis grows by less than 2.5 MB/h when idle: +4.0"]
    assert missed[0].fatal


def dashboard(hours: float, heap: float) -> dict[str, Any]:
    """What a run with a dashboard has of it at some time: a page that grows by `heap` MB an hour."""
    page = {"samples": 100, "nodes": 600, "detached": 1, "listeners": 41, "environments": 1}
    process = {"memory": 90.0, "rss": 120.0, "cpu": 3.0, "threads": 12, "descriptors": 30}
    return {**page, "heap": 2 + heap * hours, "dashboard": process}


@pytest.mark.parametrize(("heap", "missed"), [(2.0, []), (15.0, ["the page's JavaScript heap grows"])])
def test_growth_of_an_open_page_is_reported(report: ModuleType, tmp_path: Path, heap: float, missed: list[str]) -> None:
    lines = records(dashboard=True)
    pages = []
    for line in lines:
        if line["kind"] == "sample":
            values = dashboard(line["at"] / 3600, heap)
            line["dashboard"] = values.pop("dashboard")
            pages.append({"kind": "page", "at": line["at"], **values})
    soak = read(report, tmp_path, [*lines, *pages])
    found = [verdict for verdict in report.verdicts(soak) if verdict.met is False]
    assert [verdict.words.partition(" by ")[0] for verdict in found] == missed
    assert all(verdict.fatal for verdict in found)
    text = report.as_markdown(soak)
    assert f"| page: JavaScript heap | 2.0 MB | {2 + heap / 2:.1f} MB " in text
    assert f"{heap:+.1f} MB/h (10) |" in text
    without_page = report.as_markdown(read(report, tmp_path, lines))
    assert "The dashboard, with a client that reads its events:" in without_page
    assert "page:" not in without_page


def test_a_run_without_dashboard_says_nothing_of_one(report: ModuleType, tmp_path: Path) -> None:
    soak = read(report, tmp_path, records())
    assert "dashboard" not in report.as_markdown(soak)
    assert not any("dashboard" in str(verdict) or "page" in str(verdict) for verdict in report.verdicts(soak))


def test_caches_that_fill_and_outliers_are_no_growth(report: ModuleType, tmp_path: Path) -> None:
    def memory(hours: float) -> float:
        return min(20.0, 11 + 60 * hours) + (25 if hours > 0.95 else 0)

    soak = read(report, tmp_path, records(redis=memory))
    assert soak.growth("redis", "kept") == 0
    assert {verdict.met for verdict in report.verdicts(soak) if "Redis grows" in verdict.words} == {True}


def test_memory_under_load_is_not_idle_memory(report: ModuleType, tmp_path: Path) -> None:
    soak = read(report, tmp_path, records(redis=lambda hours: 11 if int(hours * 12) % 2 else 70))
    assert "met: Redis idle below 50 MB: 11 MB at most" in verdicts(report, soak)
    idle = read(report, tmp_path, records(redis=lambda hours: 70 if int(hours * 12) % 2 else 11))
    assert "MISSED: Redis idle below 50 MB: 70 MB at most" in verdicts(report, idle)


def test_a_short_run_does_not_judge_growth(report: ModuleType, tmp_path: Path) -> None:
    soak = read(report, tmp_path, records(minutes=15, redis=lambda hours: 11 + 100 * hours))
    grows = [verdict for verdict in report.verdicts(soak) if "grows" in verdict.words or "gets" in verdict.words]
    assert len(grows) == 9
    assert {verdict.met for verdict in grows} == {None}
    assert "too short to tell" in report.as_markdown(soak)


def test_a_failure_fails_the_run_and_is_in_the_report(report: ModuleType, tmp_path: Path) -> None:
    failure = {"kind": "failure", "at": 90, "service": "s3", "what": "check", "words": "the listed numbers differ"}
    lines = records()
    lines[10]["checks"]["s3"] = failure["words"]
    soak = read(report, tmp_path, [*lines, failure])
    assert [verdict.fatal for verdict in report.verdicts(soak) if verdict.met is False] == [True]
    text = report.as_markdown(soak)
    assert "- 1.5 min, s3, check: the listed numbers differ" in text
    assert "| 359 of 360 |" in text


def test_a_killed_service_has_to_come_back(report: ModuleType, tmp_path: Path) -> None:
    back = {"kind": "kill", "at": 60, "service": "redis", "recovered": 1.5}
    lost = {"kind": "kill", "at": 120, "service": "s3", "recovered": None}
    good = verdicts(report, read(report, tmp_path, [*records(chaos=True), back]))
    assert "met: 1 of 1 killed services came back with every acknowledged write, in 1.5 s at most" in good
    bad = read(report, tmp_path, [*records(chaos=True), back, lost])
    assert any(verdict.met is False and verdict.fatal for verdict in report.verdicts(bad))
    # What was killed begins anew.
    assert bad.growth("redis", "kept") is None


def test_a_run_that_was_cut_off_in_the_middle_of_a_line_can_be_read(report: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in records()[:30])
    file.write_text(text[:-20])
    soak = report.Soak.read(file)
    assert len(soak.samples) == 28
    assert "4.5 of 60 minutes, INTERRUPTED" in report.as_markdown(soak)


@pytest.mark.long
def test_plot_of_a_working_day_is_small_and_shows_failures(report: ModuleType, tmp_path: Path) -> None:
    lines = records(minutes=8 * 60, redis=lambda hours: 11 + hours % 1)
    failure = {"kind": "failure", "at": 90, "service": "s3", "what": "check", "words": "it did not answer"}
    report.draw(read(report, tmp_path, [*lines, failure]), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert len(text) < 150_000
    assert all(f">{words}<" in text for words in ("PostgreSQL", "ClickHouse", "Redis", "S3", "failed check"))


def test_phases_fit_the_run(modules: Callable[[str], ModuleType]) -> None:
    plan = modules("soak").Plan.of
    hour, short = plan(60, None, False), plan(0.5, None, False)
    assert (hour.phase, hour.interval) == (300, 10)
    assert [hour.is_loaded(at) for at in (0, 299, 300, 599, 600)] == [True, True, False, False, True]
    assert [hour.is_settled(at) for at in (329, 330, 601)] == [False, True, False]
    assert (short.phase, short.interval) == (7.5, 1.5)


class TestCountingWrites:
    """On a load whose service is a list."""

    @pytest.fixture
    def load(self, modules: Callable[[str], ModuleType]) -> Any:
        base = modules("soak_load")

        class ListLoad(base.Load):  # type: ignore[misc,name-defined]
            name, pace = "list", 1000.0

            def __init__(self) -> None:
                super().__init__(None)
                self.items: list[int] = []
                self.fails = ""

            def open(self) -> None: ...
            def close(self) -> None: ...

            def _write(self, number: int) -> None:
                if self.fails == "before":
                    raise ConnectionError("it is down")
                self.items.append(number)
                if self.fails == "after":
                    raise ConnectionError("it is down")

            def _read_back(self, number: int) -> None:
                base.expect("the item", number, self.items[-1])

            def _newest(self) -> int:
                if self.fails == "before":
                    raise ConnectionError("it is down")
                return max(self.items, default=0)

            def _verify(self, number: int) -> None:
                base.expect("items", list(range(1, number + 1)), self.items)

        return ListLoad()

    @pytest.fixture
    def wrong(self, modules: Callable[[str], ModuleType]) -> type[Exception]:
        return modules("soak_load").Wrong  # type: ignore[no-any-return]

    @pytest.mark.parametrize(("fails", "there"), [("before", 1), ("after", 2)])
    def test_a_write_that_was_cut_short_may_be_there_or_not(self, load: Any, fails: str, there: int) -> None:
        load.step()
        load.fails = fails
        with pytest.raises(ConnectionError):
            load.step()
        load.fails = ""
        load.check()
        assert load.step_number == there
        load.step()
        load.check()
        assert load.items == list(range(1, there + 2))

    def test_an_acknowledged_write_that_is_lost_is_reported(self, load: Any, wrong: type[Exception]) -> None:
        for _ in range(3):
            load.step()
        load.items.pop()
        with pytest.raises(wrong, match=r"items: expected \[1, 2, 3\], found \[1, 2\]"):
            load.check()

    def test_nor_may_it_be_lost_by_what_cuts_a_later_one_short(self, load: Any, wrong: type[Exception]) -> None:
        for _ in range(3):
            load.step()
        load.fails = "before"
        with pytest.raises(ConnectionError):
            load.step()
        load.fails = ""
        load.items.pop()
        with pytest.raises(wrong, match="step 3 was acknowledged, but the newest that is there is 2"):
            load.step()

    def test_errors_count_unless_the_service_is_known_to_be_down(
        self, load: Any, modules: Callable[[str], ModuleType]
    ) -> None:
        failures: queue.SimpleQueue[str] = queue.SimpleQueue()
        worker = modules("soak_load").Worker(load, failures.put)
        try:
            load.fails = "before"
            worker.load_on(True)
            assert failures.get(timeout=60) == "ConnectionError: it is down"
            worker.outage.set()
            assert worker.check() == ""
            # What is wrong is wrong, also while it is down.
            # In this order: the worker goes on, and may not write where all is well.
            load.items = [7]
            load.fails = ""
            assert "the newest that is there is 7" in worker.check()
        finally:
            worker.end()
