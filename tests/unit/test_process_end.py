"""However a process ends short of SIGKILL, its environments are stopped. Seen in processes that really end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

import forkserver
from triton_env import TritonEnvironment
from triton_env.core import interrupts
from unit.fakes import FakeRuntimes

TESTS = Path(__file__).parents[1]

PREFACE = """
import os, signal, sys, threading, time
from unittest.mock import patch
from unit.fakes import FakeRuntimes, until_cancelled
from triton_env import Settings, TritonEnvironment

def say(*words):
    print(*words, flush=True)

runtimes = FakeRuntimes()
patch("triton_env.runtimes.choice.open_runtime", runtimes.open).start()
runtimes.on_stop = lambda: say("stopped in", os.getpid())
env = TritonEnvironment(Settings(triton_progress="off"), services=("redis",))
"""

NUDGES = """
def nudge():
    while True:
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGURG)

signal.signal(signal.SIGURG, lambda *_: None)
threading.Thread(target=nudge, daemon=True).start()
"""
"""For a process that is sent a signal. Where that comes in the last moment before the main thread begins to wait in the
kernel, Python handles it when something ends the wait, and nothing else would do so here."""


@pytest.fixture
def default_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP as in a fresh process."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def python(script: str, signal_after: tuple[str, signal.Signals] | None = None) -> tuple[int, list[str], str]:
    """Run `script` and send it a signal when it has said a word. Returns its exit code, lines, and stderr."""
    process = forkserver.Popen(
        [sys.executable, "-c", PREFACE + (NUDGES if signal_after else "") + script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        if signal_after:
            word, number = signal_after
            for line in process.stdout:
                lines.append(line.strip())
                if lines[-1] == word:
                    process.send_signal(number)
                    break
        lines += [line.strip() for line in process.stdout]
        errors = process.stderr.read()
    return process.returncode, [line.replace(str(process.pid), "PID") for line in lines], errors


def test_interpreter_exit_without_stop() -> None:
    assert python("env.start()\nsay('up')") == (0, ["up", "stopped in PID"], "")


def test_exit_by_an_exception_without_stop() -> None:
    code, lines, errors = python("env.start()\nraise ValueError('of the user')")
    assert (code, lines) == (1, ["stopped in PID"])
    assert "ValueError: of the user" in errors


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
@pytest.mark.parametrize(
    "wait",
    [
        "env.start()\nsay('up')\nwhile True: signal.pause()",
        "with env:\n    say('up')\n    while True: signal.pause()",
        "runtimes.behaviours['redis'] = lambda runtime: say('up') or until_cancelled(runtime)\nenv.start()",
        "import asyncio\n"
        "async def main():\n    async with env:\n        say('up')\n        await asyncio.sleep(1000)\n"
        "asyncio.run(main())",
    ],
    ids=["started", "in the block", "while starting", "in an async block"],
)
def test_fatal_signals_clean_up(wait: str, number: signal.Signals, exit_code: int) -> None:
    code, lines, _ = python(wait, signal_after=("up", number))
    assert (code, lines) == (exit_code, ["up", "stopped in PID"])


@pytest.mark.parametrize(
    "wait",
    [
        "with env:\n    say('up')\n    while True: signal.pause()",
        "runtimes.behaviours['redis'] = lambda runtime: say('up') or until_cancelled(runtime)\nenv.start()",
        "runtimes.behaviours['redis'] = lambda runtime: say('up') or until_cancelled(runtime)\n"
        "import asyncio\n"
        "async def main():\n    async with env:\n        pass\n"
        "asyncio.run(main())",
    ],
    ids=["in the block", "while starting", "while starting asynchronously"],
)
def test_ctrl_c_cleans_up(wait: str) -> None:
    code, lines, errors = python(wait, signal_after=("up", signal.SIGINT))
    # Python ends a process with an uncaught KeyboardInterrupt by the signal itself.
    assert (code, lines) == (-signal.SIGINT, ["up", "stopped in PID"])
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_fatal_signal_in_a_finalizer_cleans_up() -> None:
    script = """
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

with env:
    say('up')
    Finalized()
    while True: signal.pause()
"""
    assert python(script) == (143, ["up", "stopped in PID"], "")


def test_a_forked_child_leaves_its_parents_services_alone() -> None:
    script = """
with env:
    # Later versions of Python warn of a fork beside other threads, and those of the start may have a word left to say.
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        # The one that takes orders goes on as long as the environment.
        if thread.name != "triton-door":
            thread.join()
    child = os.fork()
    if child == 0:
        say("SIGTERM is", signal.getsignal(signal.SIGTERM).name)
        sys.exit(0)  # runs the end of the block and the exit handlers, in the child
    os.waitpid(child, 0)
    say("the child is gone")
"""
    code, lines, errors = python(script)
    assert (code, lines, errors) == (0, ["SIGTERM is SIG_DFL", "the child is gone", "stopped in PID"], "")


def test_handlers_of_others_are_left_alone(runtimes: FakeRuntimes, default_signals: None) -> None:
    seen: list[int] = []

    def theirs(number: int, frame: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGTERM, theirs)
    with TritonEnvironment(services=("redis",)):
        assert signal.getsignal(signal.SIGTERM) is theirs
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_ignored_signals_stay_ignored(runtimes: FakeRuntimes, default_signals: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    with TritonEnvironment(services=("redis",)):
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_handlers_go_when_the_last_environment_is_stopped(
    runtimes: FakeRuntimes, default_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever other tests of this process have left.
    monkeypatch.setattr(interrupts, "_living", set())
    with TritonEnvironment(services=("redis",)):
        with TritonEnvironment(services=("redis",)):
            assert callable(signal.getsignal(signal.SIGTERM))
        assert callable(signal.getsignal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_shield_keeps_ctrl_c_and_fatal_signals_off(default_signals: None) -> None:
    with interrupts.shielded():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_signals_that_are_deferred_take_effect_in_the_end(default_signals: None) -> None:
    seen: list[str] = []

    def clean_up() -> None:
        with interrupts.deferred():
            with interrupts.deferred():
                signal.raise_signal(signal.SIGINT)
                seen.append("inner block")
            seen.append("outer block")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert seen == ["inner block", "outer block"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_does_not_hurry_a_cleanup(default_signals: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.deferred():
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
        assert not interrupts.hurried()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_cleanup_hurries_after_a_while_and_at_once_at_the_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now))

    def clean_up(signals: int, seconds: float) -> list[bool]:
        nonlocal now
        with suppress(KeyboardInterrupt), interrupts.deferred():
            hurried = [interrupts.hurried()]
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)
            hurried.append(interrupts.hurried())
            now += seconds
            hurried.append(interrupts.hurried())
        return hurried

    assert clean_up(1, seconds=0) == [False, False, False]
    assert clean_up(1, seconds=interrupts._GRACE) == [False, False, True]
    assert clean_up(2, seconds=0) == [False, True, True]
    assert not interrupts.hurried()


def test_a_failed_cleanup_is_tried_again_at_the_interpreters_exit() -> None:
    script = """
from triton_env.errors import CleanupFailed
env.start()
runtimes.stop_error = CleanupFailed("Containers may be left behind.")
try:
    env.stop()
except CleanupFailed as error:
    say(error)
    runtimes.stop_error = None
"""
    lines = ["stopped in PID", "Containers may be left behind.", "stopped in PID"]
    assert python(script) == (0, lines, "")


def test_ctrl_c_at_the_interpreters_exit_is_for_all_that_has_to_be_stopped() -> None:
    script = """
other = TritonEnvironment(Settings(triton_progress="off"), services=("redis",)).start()
env.start()
runtimes.on_stop = lambda: say("stopped") or os.kill(os.getpid(), signal.SIGINT)
"""
    assert python(script) == (0, ["stopped", "stopped"], "")


def test_an_async_end_that_is_cancelled_hurries_and_is_waited_for() -> None:
    script = """
import asyncio
from triton_env.core import interrupts

def stop():
    say("stopping")
    while not interrupts.hurried():
        time.sleep(0.01)
    say("hurried")

runtimes.on_stop = stop

async def main():
    async with env:
        pass

asyncio.run(main())
"""
    code, lines, errors = python(script, signal_after=("stopping", signal.SIGINT))
    assert (code, lines) == (-signal.SIGINT, ["stopping", "hurried"])
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_shield_is_lifted_on_an_exception(default_signals: None) -> None:
    with pytest.raises(ZeroDivisionError), interrupts.shielded():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
