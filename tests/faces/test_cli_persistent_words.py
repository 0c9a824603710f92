"""What the commands on persistent services make of facts that are hard to bring about: numbers, states, names."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from triton_env.cli import status as status_command
from triton_env.cli import up
from triton_env.cli.persistent import titles
from triton_env.core.sizes import memory_words
from triton_env.core.usage import Reading
from triton_env.persistent.docker.containers import ProjectContainer
from triton_env.runtimes.docker import usage
from triton_env.services import SERVICES
from triton_env.status import look_at

CONTAINER = ProjectContainer(
    id="1",
    name="triton-redis-1",
    service="redis",
    image="redis:7-alpine",
    status="running",
    health="healthy",
    exit_code=0,
    out_of_memory=False,
    restarts=0,
    started=datetime.now(UTC) - timedelta(hours=2),
    published={6379: 6379},
    environment={},
    file="",
    ours=True,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7325, "2 h 2 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert status_command.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (268435456, "256 MiB"), (2147483648, "2.0 GiB")],
)
def test_sizes(count: int, words: str) -> None:
    assert memory_words(count) == words


def reading(cpu_seconds: float, at: float) -> Reading:
    return Reading(at, {0: cpu_seconds}, memory=0, memory_limit=None)


@pytest.mark.parametrize(
    ("first", "second", "percent"),
    [
        ((0, 0), (50, 25), 200.0),
        ((100, 250), (125, 275), 100.0),
        # Between two looks nothing was counted, or it was started afresh.
        ((100, 250), (100, 250), 0.0),
        ((100, 250), (10, 275), 0.0),
    ],
)
def test_percent_of_one_processor(first: tuple[int, int], second: tuple[int, int], percent: float) -> None:
    assert reading(*second).since(reading(*first)).cpu_percent == percent


@pytest.mark.parametrize(
    ("stats", "cache"),
    [({"inactive_file": 40}, 40), ({"total_inactive_file": 30}, 30), ({}, 0), ({"inactive_file": 1000}, 0)],
    ids=["cgroup v2", "cgroup v1", "unknown", "more than there is"],
)
def test_pages_of_files_are_not_counted(stats: Mapping[str, int], cache: int) -> None:
    assert usage._cache({"usage": 100, "stats": stats}) == cache


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"status": "exited", "exit_code": 55}, "it ended (exit code 55)"),
        ({"status": "exited", "exit_code": 137}, "it ended (exit code 137, which stands for SIGKILL)"),
        ({"status": "exited", "exit_code": 137, "out_of_memory": True}, "it ended (out of memory)"),
        ({"status": "restarting", "exit_code": 1}, "it ends again and again (exit code 1)"),
        ({"status": "created"}, "it is created"),
    ],
)
def test_why_a_service_does_not_run(facts: dict[str, Any], problem: str) -> None:
    statuses = look_at({"redis": replace(CONTAINER, **facts)}, {}, {})
    (redis,) = (each for each in statuses if each.name == "redis")
    assert not redis.healthy
    assert redis.problem == problem
    assert redis.uptime is None
    assert {each.state for each in statuses if each.name != "redis"} == {"absent"}
    assert [each.name for each in statuses] == list(SERVICES)


def test_what_a_start_did_in_words() -> None:
    other = replace(CONTAINER, id="2")
    now = {"postgres": CONTAINER, "redis": other, "s3": CONTAINER}
    groups = up._groups(("postgres", "redis", "s3"), {"postgres": CONTAINER, "redis": CONTAINER}, now)
    assert groups == {"started": ["s3"], "replaced": ["redis"], "running": ["postgres"]}
    assert up._in_words(groups) == (
        "S3 was started. Redis was replaced, since the settings have changed. PostgreSQL was running already."
    )
    assert up._in_words({"started": [], "replaced": [], "running": ["s3", "redis"]}) == (
        "S3 and Redis were running already."
    )


def test_titles() -> None:
    assert titles(["redis"]) == "Redis"
    assert titles(SERVICES) == "PostgreSQL, ClickHouse, Redis and S3"
