"""Which environment is steered, and what is refused before anything is done to it."""

import threading
from concurrent.futures import wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from patience import WAIT, until
from triton_env import Settings, steering
from triton_env.agents.held import HeldEnvironments, _Held
from triton_env.cli.top.watching import Log
from triton_env.core.threads import in_thread
from triton_env.errors import CleanupFailed, NotOffered, ProjectTaken, UsageError
from triton_env.inspection.persistent import Project, _project
from triton_env.persistent.docker import containers
from triton_env.persistent.docker.containers import ProjectContainer
from triton_env.state import restarts
from triton_env.state.registry import Registry
from triton_env.steering import NO_LOGS
from unit.records import record


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(steering, "here", lambda settings: [project(settings, "embedded")])
    return Settings(triton_state_dir=str(tmp_path / "state"), triton_runtime="docker")


def project(settings: Settings, runtime: str) -> Project:
    return _project(settings.updated(triton_project="app", triton_runtime=runtime), ())


def test_a_project_that_is_there_twice_is_named_with_its_runtime(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Settings] = []

    def on_engine(settings: Settings) -> tuple[tuple[Project, ...], str]:
        asked.append(settings)
        return (project(settings, "docker"),), ""

    monkeypatch.setattr(steering, "on_engine", on_engine)
    with pytest.raises(UsageError, match="on embedded and on docker"):
        steering.act(settings, "app", "reset")
    with pytest.raises(UsageError, match="on embedded and on docker"), steering.connect(settings, "app"):
        pass
    assert cast(Any, steering._found(settings, "app", "docker")).runtime == "docker"
    asked.clear()
    assert cast(Any, steering._found(settings, "app", "embedded")).runtime == "embedded"
    assert asked == []
    with pytest.raises(UsageError, match="No environment has the id 'app' on external"):
        steering.act(settings, "app", "reset", runtime="external")


def test_an_engine_that_is_down_holds_up_no_other_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert cast(Any, steering._found(settings, "app", "")).runtime == "embedded"
    with pytest.raises(UsageError, match="No environment has the id") as error:
        steering.act(settings, "other", "stop")
    assert error.value.cause.startswith("Docker was not asked: ")


def test_logs_of_external_servers_are_not_here(settings: Settings) -> None:
    listing = Registry.of(settings).add(replace(record(), runtime="external"))
    try:
        with pytest.raises(NotOffered, match=NO_LOGS), steering.log_reader(settings, "aaaa1111"):
            pass
        log = Log(settings, "aaaa1111", "external", "redis")
        log.begin()
        assert until(lambda: log.problem)
        log.close()
        assert log.problem == NO_LOGS
    finally:
        listing.end()


def container(file: Path | str) -> ProjectContainer:
    facts = dict.fromkeys(ProjectContainer.__dataclass_fields__)
    return ProjectContainer(**cast(Any, facts | {"name": "app-redis-1", "file": str(file)}))


def test_data_of_another_users_folder_is_not_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, here = containers.Project(cast(Any, None), "app"), tmp_path / "mine" / "docker-compose.yml"
    there = tmp_path / "theirs" / "docker-compose.yml"
    there.parent.mkdir()
    project.check_folder([container(there)], here)
    project.check_folder([container(here)], here)
    for unseen in (tmp_path / "gone" / "docker-compose.yml", ""):
        with pytest.raises(ProjectTaken, match="may be another user's"):
            project.check_folder([container(here), container(unseen)], here)
    monkeypatch.setattr("triton_env.persistent.docker.containers.os.geteuid", lambda: there.stat().st_uid + 1)
    with pytest.raises(ProjectTaken, match="may be another user's") as error:
        project.check_folder([container(there)], here)
    assert str(there) in error.value.where


def test_an_environment_is_held_until_it_has_ended() -> None:
    held, ends, may_end = HeldEnvironments(), threading.Event(), threading.Event()

    def end() -> None:
        ends.set()
        may_end.wait(WAIT)
        raise CleanupFailed("Something is left.")

    held._held["one"] = _Held(ExitStack(), threading.Lock())
    held._held["one"].stack.callback(end)
    both = [in_thread(held.stop, "one")]
    assert ends.wait(WAIT)
    both.append(in_thread(held.stop, "one"))
    assert not wait(both, 0.1).done
    assert "one" in held._held
    may_end.set()
    with pytest.raises(CleanupFailed):
        both[0].result(WAIT)
    assert both[1].result(WAIT)
    assert not held.stop("one")


def test_a_restart_is_noted_while_its_environment_is_listed(settings: Settings) -> None:
    folder = Path(str(Registry.of(settings).door("x"))).parent
    with restarts.noted(settings, "aaaa1111", "redis"):
        assert restarts.seen(settings, "aaaa1111", "redis") == (False, "")
    listing = Registry.of(settings).add(record())
    seen = []
    for _ in range(2):
        with suppress(ZeroDivisionError), restarts.noted(settings, "aaaa1111", "redis"):
            assert restarts.seen(settings, "aaaa1111", "redis").is_going_on
            assert not restarts.seen(settings, "aaaa1111", "postgres").is_going_on
            _ = 1 / 0
        seen.append(restarts.seen(settings, "aaaa1111", "redis"))
    assert [each.is_going_on for each in seen] == [False, False]
    assert seen[0].last != seen[1].last
    with restarts.noted(settings, "aaaa1111", "redis"):
        listing.end()
    assert list(folder.iterdir()) == []
