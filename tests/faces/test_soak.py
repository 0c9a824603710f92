"""The soak test itself: a short run, its end by a signal, its dashboard, and that its loads tell what is lost."""

import importlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import docker
import pytest

from dashboard.sites import require_browser
from patience import until
from projects import free_name
from triton_env import TritonEnvironment
from triton_env.dashboard.serving import Serving

FOLDER = Path(__file__).parents[2] / "benchmarks"
TIMEOUT = 500
"""Seconds for one run."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ALL = {"postgres", "clickhouse", "redis", "s3"}


@pytest.fixture
def project() -> Iterator[str]:
    """A project's name; in the end the engine is checked to have nothing of it."""
    name, kept = free_name("soak-test")
    with kept:
        yield name
    client = docker.from_env()
    try:
        ours = {"label": f"com.docker.compose.project={name}"}
        left = [
            *client.containers.list(all=True, filters=ours, ignore_removed=True),
            *client.networks.list(filters=ours),
            *client.volumes.list(filters=ours),
        ]
        for each in left:
            each.remove(**({"force": True, "v": True} if "Image" in each.attrs else {}))
        assert left == []
    finally:
        client.close()


def soak(project: str, out: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(FOLDER / "soak.py"), "--project", project, "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def of_kind(out: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind; none where the run has not begun."""
    return [record for record in records(out) if record["kind"] == kind] if (out / "samples.jsonl").exists() else []


@pytest.mark.docker
def test_a_short_run_with_kills_loses_nothing_and_leaves_nothing(project: str, tmp_path: Path) -> None:
    # Phases of 12 s. On a slow machine a sample or a recovery would last as long as much shorter ones, which were then
    # left out.
    with soak(project, tmp_path, "--minutes", "0.8", "--chaos") as process:
        report, words = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, words + report
    assert (tmp_path / "report.md").read_text() in report
    assert "met: every check passed" in report
    assert "failed check" not in (tmp_path / "plot.svg").read_text()

    found = records(tmp_path)
    kinds = Counter(record["kind"] for record in found)
    assert [record["complete"] for record in found if record["kind"] == "end"] == [True]
    assert kinds["failure"] == 0
    assert all(record["recovered"] for record in found if record["kind"] == "kill")
    assert kinds["kill"] >= 1
    samples = [record for record in found if record["kind"] == "sample"]
    assert {sample["phase"] for sample in samples} == {"loaded", "idle"}
    for sample in samples:
        assert set(sample["services"]) == set(sample["checks"]) == ALL
        assert all(usage["memory"] > 1 and usage["tasks"] >= 1 for usage in sample["services"].values())
    assert all(samples[-1]["steps"].values())


@pytest.mark.docker
def test_sigterm_ends_it_with_a_report_and_nothing_left(project: str, tmp_path: Path) -> None:
    with soak(project, tmp_path, "--minutes", "10") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " of 10:00, " in line:
                break
        process.send_signal(signal.SIGTERM)
        report, words = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGTERM, words
    assert "Traceback" not in words
    assert "of 10 minutes, INTERRUPTED" in report
    assert [record["complete"] for record in records(tmp_path) if record["kind"] == "end"] == [False]


@pytest.mark.docker
def test_a_dashboard_and_its_page_are_measured(project: str, tmp_path: Path) -> None:
    require_browser()
    charts: list[dict[str, Any]] = []
    logs: list[dict[str, Any]] = []
    # Views of 12 s. On a slow machine the first ones may be too early for what they show.
    with soak(project, tmp_path, "--minutes", "4", "--dashboard") as process:
        assert process.stderr is not None
        for _ in process.stderr:
            pages = of_kind(tmp_path, "page")
            charts = [page for page in pages if page["charts"] > 2]
            logs = [page for page in pages if page["lines"] > 2]
            if charts and logs:
                break
        process.send_signal(signal.SIGTERM)
        report, words = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGTERM, words
    assert of_kind(tmp_path, "failure") == []
    assert {page["view"] for page in charts} <= ALL
    assert {page["view"] for page in logs} == {"logs"}
    for page in (charts[0], logs[0]):
        assert page["environments"] >= 1
        assert page["samples"] >= 1
        # Of what was shown before, nothing is kept but a few nodes of the browser's own.
        assert page["nodes"] > 100 > page["detached"]
        assert 0.5 < page["heap"] < 50
    for sample in of_kind(tmp_path, "sample"):
        assert sample["dashboard"]["rss"] >= sample["dashboard"]["memory"] > 10
        assert sample["dashboard"]["threads"] >= 1
        assert sample["dashboard"]["descriptors"] >= 3
    assert "The dashboard, with its page open in a browser:" in report
    assert "not judged: the page's JavaScript heap grows by less than 10 MB in an hour" in report


@pytest.mark.parametrize("env", ["embedded"], indirect=True)
def test_without_a_browser_a_client_reads_the_dashboards_events(
    env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("soak_dashboard")
    notes = Mock()
    with Serving(env.settings) as serving:
        reader = module.Reader(partial(module.read_events, serving.url), notes)
        try:
            assert until(lambda: serving.dashboard._watch.is_looked_at)
        finally:
            reader.end()
        assert until(lambda: not serving.dashboard._watch.is_looked_at)
    notes.fail.assert_not_called()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("soak_loads")


def _tamper_postgres(env: TritonEnvironment) -> None:
    with env.postgres.connect() as connection:
        connection.execute("update soak_claims set cents = cents + 1 where id = (select max(id) - 1 from soak_claims)")


def _tamper_clickhouse(env: TritonEnvironment) -> None:
    with env.clickhouse.client() as client:
        client.command("DELETE FROM soak_claims WHERE step = (SELECT max(step) FROM soak_claims) AND claim = 7")


def _tamper_redis(env: TritonEnvironment) -> None:
    with env.redis.client() as client:
        client.decr("soak:steps")


def _tamper_s3(env: TritonEnvironment) -> None:
    oldest = env.s3.client().list_objects_v2(Bucket=env.s3.bucket, Prefix="soak/", MaxKeys=1)["Contents"][0]["Key"]
    env.s3.client().put_object(Bucket=env.s3.bucket, Key=oldest, Body=b"something else")


@pytest.mark.parametrize("env", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("load_name", "steps", "tamper"),
    [
        ("PostgresLoad", 210, _tamper_postgres),
        ("ClickHouseLoad", 65, _tamper_clickhouse),
        ("RedisLoad", 210, _tamper_redis),
        ("S3Load", 55, _tamper_s3),
    ],
)
def test_a_load_is_bounded_and_tells_what_is_wrong(
    env: TritonEnvironment,
    loads: ModuleType,
    load_name: str,
    steps: int,
    tamper: Callable[[TritonEnvironment], None],
) -> None:
    load = getattr(loads, load_name)(env)
    load.open()
    try:
        load.check()
        # More than are kept, so that old ones are deleted.
        for _ in range(steps):
            load.step()
        load.check()
        tamper(env)
        with pytest.raises(loads.Wrong):
            load.check()
        # Another run starts from nothing.
        load.close()
        load = getattr(loads, load_name)(env)
        load.open()
        load.step()
        load.check()
    finally:
        load.close()
