"""How the end of a server is worded, and what is remembered of it."""

from concurrent.futures import Future
from typing import Any

import pytest

from triton_env.core.ending import Ending, ending_of_container, ending_of_stopped_container, exit_words
from triton_env.errors import NotStarted, ServiceDied, TritonError
from triton_env.liveness import Liveness
from triton_env.runtimes.base import Runtime
from triton_env.services import Redis
from triton_env.settings import Settings
from unit.fakes import FakeRuntime, FakeRuntimes

STATE = {"Status": "exited", "ExitCode": 0, "OOMKilled": False, "FinishedAt": "2026-11-29T12:03:04.123456789Z"}

CONTAINER = {"Name": "/triton-1-redis", "State": STATE | {"Status": "running", "Pid": 71}}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "ended by signal 9 (SIGKILL)"),
        (-99, "ended by signal 99"),
        (137, "exit code 137, which stands for SIGKILL"),
        (139, "exit code 139, which stands for SIGSEGV"),
        (255, "exit code 255"),
    ],
)
def test_signals_have_names(status: int, words: str) -> None:
    assert exit_words(status) == words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"ExitCode": 137}, "exit code 137, which stands for SIGKILL"),
        ({"ExitCode": 137, "OOMKilled": True}, "it ran out of memory"),
        # The word of Podman for one that it has not cleaned up yet.
        ({"ExitCode": 137, "Status": "stopped"}, "exit code 137, which stands for SIGKILL"),
        ({"ExitCode": 127, "Error": "no such program"}, "exit code 127; no such program"),
        ({"ExitCode": 1, "Status": "restarting"}, "exit code 1; the engine has restarted it 4 times"),
    ],
)
def test_what_an_engine_says(facts: dict[str, Any], words: str) -> None:
    count = 4 if facts.get("Status") == "restarting" else 0
    ending = ending_of_container({"State": STATE | facts, "RestartCount": count}, where="container x", hint="")
    assert ending is not None
    assert ending.words == words
    assert ending.at == 1795953784
    assert ending.returns == bool(count)


@pytest.mark.parametrize("status", ["running", "created", "removing"])
def test_one_that_runs_has_not_ended(status: str) -> None:
    assert ending_of_container({"State": STATE | {"Status": status}}, where="", hint="") is None


def test_one_that_is_paused_lives_and_answers_nothing() -> None:
    attributes = {"Name": "/triton-1-redis", "State": STATE | {"Status": "paused"}}
    ending = ending_of_container(attributes, where="container x", hint="start it anew")
    assert ending is not None
    assert ending.sentence("Redis") == "Redis is paused."
    assert ending.hint == "docker unpause triton-1-redis"
    assert "its data is intact" in ending.words


@pytest.mark.parametrize(
    ("states", "hint"),
    [
        ({"71": "Ts", "72": "Sl"}, "docker kill -s CONT triton-1-redis"),
        ({"71": "Ss", "72": "Tl"}, "docker exec triton-1-redis sh -c 'kill -CONT -1'"),
        (
            {"71": "Ts", "72": "T"},
            "docker kill -s CONT triton-1-redis; docker exec triton-1-redis sh -c 'kill -CONT -1'",
        ),
    ],
    ids=["the first process", "another", "both"],
)
def test_one_with_stopped_processes_lives_and_answers_nothing(states: dict[str, str], hint: str) -> None:
    ending = ending_of_stopped_container(CONTAINER, listed(states), where="container x")
    assert ending is not None
    assert ending.sentence("Redis") == "Redis is stopped by a signal."
    assert ending.hint == hint


@pytest.mark.parametrize("state", ["Ss", "R+", "tl"], ids=["asleep", "running", "traced by a debugger"])
def test_one_without_stopped_processes_is_well(state: str) -> None:
    assert ending_of_stopped_container(CONTAINER, listed({"71": "Ss", "72": state}), where="container x") is None


def listed(states: dict[str, str]) -> dict[str, Any]:
    return {"Titles": ["PID", "STAT"], "Processes": [list(row) for row in states.items()]}


def test_one_without_a_status_says_what_is_known() -> None:
    assert Ending("here", "").words == "how it ended is not known"
    assert Ending("here", "", reason="its container was removed").words == "its container was removed"


class TestLiveness:
    @pytest.fixture
    def runtime(self) -> FakeRuntime:
        return FakeRuntime(FakeRuntimes(), Settings(), "0")

    @pytest.fixture
    def liveness(self, runtime: FakeRuntime) -> Liveness:
        future: Future[Runtime] = Future()
        future.set_result(runtime)
        return Liveness(future, {"redis": Redis.recipe(Settings(redis_password="hidden"))})

    def test_the_error_has_the_facts_and_no_secret(self, runtime: FakeRuntime, liveness: Liveness) -> None:
        runtime.endings["redis"] = Ending("process 7", "begin anew", status=-11, at=43384.0, reason="it said hidden")
        with pytest.raises(ServiceDied) as caught:
            liveness.check(["redis"])
        died = caught.value
        assert (died.service, died.status, died.at) == ("redis", -11, 43384.0)
        assert (died.what, died.where, died.hint) == ("Redis died at 12:03:04 UTC.", "process 7", "begin anew")
        assert died.cause == "ended by signal 11 (SIGSEGV); it said ***"
        assert "redis line 0" in died.log_tail

    def test_one_that_was_started_again_lives(self, runtime: FakeRuntime, liveness: Liveness) -> None:
        runtime.endings["redis"] = Ending("container x", "")
        assert liveness.died("redis")
        assert liveness.known("redis")
        runtime.endings.clear()
        liveness.check(["redis"])
        assert not liveness.known("redis")

    @pytest.mark.parametrize("how", ["waits", "failed", "cancelled"])
    def test_without_a_runtime_nothing_is_known(self, how: str) -> None:
        future: Future[Runtime] = Future()
        if how == "failed":
            future.set_exception(NotStarted("stopped"))
        if how == "cancelled":
            future.cancel()
        assert not Liveness(future, {}).known("redis")


class OfADriver(Exception):
    def __init__(self, *, wanted: int) -> None:
        self.wanted = wanted


def test_the_error_of_a_client_is_the_drivers_too() -> None:
    died = ServiceDied("Redis died.", cause="exit code 1", hint="begin anew")
    died.service = "redis"
    both = died.beside(OfADriver(wanted=3))
    assert isinstance(both, OfADriver)
    assert isinstance(both, ServiceDied)
    assert (both.wanted, both.service, str(both)) == (3, "redis", str(died))
    assert type(both).__name__ == "ServiceDied"
    with pytest.raises(TritonError, match="Redis died"):
        raise both
