"""The parts of `benchmarks/chaos.py` that decide what counts: whom it hits, and how long it waits for an end."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import execnet
import psutil
import pytest


@pytest.fixture
def chaos(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("chaos")


class Clock:
    """Takes the place of `time` in the benchmark: it moves only where that sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(chaos: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(chaos, "time", made)
    return made


def looks(clock: Clock, gone_at: dict[str, float]) -> Callable[[], set[str]]:
    return lambda: {name for name, end in gone_at.items() if clock.now < end}


def test_an_end_that_is_slow_and_goes_on_is_waited_for(chaos: ModuleType, clock: Clock) -> None:
    rest, seconds = chaos.left(looks(clock, {"worker": 25, "keeper": 50, "server": 75}), 30)
    assert rest == set()
    assert 75 <= seconds < 76


def test_what_stays_is_reported(chaos: ModuleType, clock: Clock) -> None:
    rest, seconds = chaos.left(looks(clock, {"worker": 25, "keeper": 1000}), 30)
    assert rest == {"keeper"}
    assert 55 <= seconds < 57


def test_an_end_that_goes_on_for_ever_is_given_up(chaos: ModuleType, clock: Clock) -> None:
    new: Iterator[int] = iter(range(10_000))
    rest, seconds = chaos.left(lambda: {f"process {next(new)}"}, 30)
    assert rest
    assert 120 <= seconds < 122


def test_a_worker_of_pytest_is_found_among_the_processes(chaos: ModuleType) -> None:
    gateway = execnet.makegateway("popen")
    try:
        worker = psutil.Process(gateway.remote_exec("import os; channel.send(os.getpid())").receive())
        assert chaos.WORKER in " ".join(worker.cmdline())
        assert chaos.OURS.search(" ".join(worker.cmdline()))
    finally:
        gateway.exit()
