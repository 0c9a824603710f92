"""However a process ends short of SIGKILL, its environments are stopped. Seen in processes that really end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triton_env import TritonEnvironment, interrupts
from unit.fakes import FakeRuntimes

TESTS = Path(__file__).parents[1]

PREFACE = """
import os, signal, sys, threading, time
from unit.fakes import installed, until_cancelled
from triton_env import Settings, TritonEnvironment

def say(*words):
    print(*words, flush=True)

fakes = installed()
runtimes = fakes.__enter__()
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
    """SIGTERM and SIGHUP as in a process that nobody has touched."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def python(script: str, signal_after: tuple[str, signal.Signals] | None = None) -> tuple[int, list[str], str]:
    """Run `script` and send it a signal when it has said a word. Returns its exit code, lines, and stderr."""
    process = subprocess.Popen(
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


def test_a_forked_child_leaves_its_parents_services_alone() -> None:
    script = """
with env:
    # Later versions of Python warn of a fork beside other threads, and those of the start may have a word left to say.
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
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


def test_handlers_go_when_the_last_environment_is_stopped(runtimes: FakeRuntimes, default_signals: None) -> None:
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


def test_a_shield_is_lifted_on_an_exception(default_signals: None) -> None:
    with pytest.raises(ZeroDivisionError), interrupts.shielded():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
