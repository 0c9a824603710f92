"""A project with persistent services on Docker and others without it: which of them is steered."""

from collections.abc import Iterator
from typing import Any

import pytest

from dashboard.served import Client, path_of, served
from triton_env import Settings
from triton_env.cli.top.program import Program
from triton_env.inspection import EnvironmentEntry, Inspection


def entry(runtime: str) -> EnvironmentEntry:
    return EnvironmentEntry(
        id="app",
        mode="persistent",
        runtime=runtime,
        reason="",
        started=None,
        owner=None,
        users=(),
        is_offered=False,
        services=(),
        spaces=(),
        timeline=(),
    )


BOTH = (entry("docker"), entry("embedded"))


def acted(settings: Settings, environment: str, action: str, *, runtime: str, **details: Any) -> str:
    return f"{action} {environment} {runtime}"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Client]:
    found = Inspection(asked=False, environments=BOTH, leftovers=None, engine_problem=None)
    monkeypatch.setattr("triton_env.dashboard.watch.inspect", lambda settings, **options: found)
    monkeypatch.setattr("triton_env.dashboard.environment_routes.act", acted)
    with served(Settings(triton_state_dir=str(tmp_path))) as client:
        yield client


def test_the_dashboard_acts_on_the_row_that_was_meant(client: Client) -> None:
    keys = [each["key"] for each in client.get("/api/inspection")["environments"]]
    assert keys == ["app@docker", "app@embedded"]
    for key, runtime in zip(keys, ("docker", "embedded"), strict=True):
        assert client.post(path_of(key, rest="/actions/reset")) == {"words": f"reset app {runtime}"}
    refused = client.post(path_of("app", rest="/actions/reset"), 400)["error"]
    assert "app@docker or app@embedded" in refused["hint"]
    # Each number of Prometheus has labels of its own.
    about = [line for line in client.http.get("/metrics").text.splitlines() if "environment_info{" in line]
    assert len(about) == len({line.partition('environment="')[2].partition('"')[0] for line in about}) == 2


def test_top_acts_on_the_line_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_env.cli.top.program.act", acted)
    program = Program(Settings(), None)  # type: ignore[arg-type]
    assert [program._act(each, "stop", "") for each in BOTH] == ["stop app docker", "stop app embedded"]
