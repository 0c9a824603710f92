"""Starts that are under way, as other processes see them."""

import threading
from pathlib import Path

import pytest

from patience import until
from triton_env import Settings, TritonEnvironment, _startup
from triton_env.errors import NotOffered, TritonError, UsageError
from triton_env.inspection import EnvironmentEntry, inspect
from triton_env.state.starting import Starts, named
from triton_env.steering import act, actions, connect, log_reader
from unit.fakes import FakeRuntimes, after, fails_with


@pytest.fixture(autouse=True)
def _listed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_startup, "_LISTED_AFTER", 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(triton_state_dir=str(tmp_path))


def seen(settings: Settings, identity: str) -> EnvironmentEntry:
    (entry,) = (each for each in inspect(settings).environments if each.id == identity)
    return entry


def test_it_is_seen_with_its_stages_until_it_is_ready(runtimes: FakeRuntimes, settings: Settings) -> None:
    gate = threading.Event()
    runtimes.behaviours["redis"] = after(gate)
    with TritonEnvironment(settings, services=("redis", "s3"), lazy=True) as env:
        assert until(lambda: {start.runtime for start in Starts.of(settings).under_way()} == {"docker"})
        assert env.service("s3")
        stages = [("starting", "booting"), ("ready", None)]
        assert until(lambda: [(each.state, each.stage) for each in seen(settings, env.id).services] == stages)
        entry = seen(settings, env.id)
        assert (entry.mode, entry.started, entry.is_starting) == ("session", None, True)
        assert [each.name for each in actions(entry)] == ["stop"]
        gate.set()
        assert env.service("redis")
        assert until(lambda: Starts.of(settings).under_way() == ())
        assert seen(settings, env.id).started
        assert not seen(settings, env.id).is_starting


def test_nothing_but_its_end_can_be_asked_for(runtimes: FakeRuntimes, settings: Settings) -> None:
    gate = threading.Event()
    runtimes.behaviours["redis"] = after(gate)
    with TritonEnvironment(settings, services=("redis",), lazy=True) as env:
        assert until(lambda: Starts.of(settings).under_way())
        with pytest.raises(NotOffered, match="is starting"), connect(settings, env.id):
            pass
        with pytest.raises(NotOffered, match="is starting"), log_reader(settings, env.id):
            pass
        with pytest.raises(UsageError, match="'reset' is not offered"):
            act(settings, env.id, "reset")
        # It would end with all that it has.
        with pytest.raises(TritonError, match="is that of this process"):
            act(settings, env.id, "stop")
    assert until(lambda: Starts.of(settings).under_way() == ())


def test_one_that_fails_is_gone_from_the_list(runtimes: FakeRuntimes, settings: Settings) -> None:
    runtimes.behaviours["redis"] = fails_with(TritonError("It cannot."))
    with pytest.raises(TritonError, match="It cannot"):
        TritonEnvironment(settings, services=("redis",)).start()
    # A slow machine lists it when it has failed already.
    assert until(lambda: list(Path(settings.triton_state_dir).glob("starting/*")) == [])
    assert Starts.of(settings).under_way() == ()


def test_a_start_is_found_by_the_beginning_of_its_id(runtimes: FakeRuntimes, settings: Settings) -> None:
    runtimes.behaviours["redis"] = after(threading.Event())
    with (
        TritonEnvironment(settings, services=("redis",), lazy=True) as one,
        TritonEnvironment(settings, services=("redis",), lazy=True) as other,
    ):
        assert until(lambda: len(Starts.of(settings).under_way()) == 2)
        starts = Starts.of(settings).under_way()
        found = named(starts, other.id)
        assert found is not None
        assert found.id == other.id
        assert named(starts, "no such") is None
        with pytest.raises(UsageError, match="2 starts are named"):
            named(starts, Path(starts[0].project).name)
        assert one.id != other.id
