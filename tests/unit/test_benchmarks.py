"""The parts of the benchmarks that measure nothing: medians, ratios, aims, tables and the compose file."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from triton_env.services import SERVICES
from triton_env.settings import Settings

FOLDER = Path(__file__).parents[2] / "benchmarks"


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


def test_compose_file_is_labelled_plain_and_of_the_settings(startup: ModuleType) -> None:
    settings = Settings(redis_image="example/redis:1")
    file = startup.compose_file(settings, "project", "label=1")
    assert file["name"] == "project"
    assert file["networks"]["default"]["labels"] == ["label=1"]
    assert file["services"]["redis"]["image"] == "example/redis:1"
    intervals = {name: service["healthcheck"]["interval"] for name, service in file["services"].items()}
    assert intervals == {"postgres": "10s", "clickhouse": "10s", "redis": "5s", "localstack": "10s"}
    assert len(file["services"]) == len(SERVICES)
    for service in file["services"].values():
        assert service["labels"] == ["label=1"]
        # Nobody outside this machine may reach them while the benchmark runs.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
