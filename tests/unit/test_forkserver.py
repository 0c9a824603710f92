"""Programs that the fork server runs are as those that are started anew."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import forkserver

# Libraries of the tests set the size of the terminal behind Python's back.
ABOUT = """
import json, os, signal, sys, threading
print(json.dumps({
    "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "files": sorted(os.listdir("/proc/self/fd"))[:3],
    "argv": sys.argv,
    "path": sys.path,
    "cwd": os.getcwd(),
    "environ": dict(sorted((name, value) for name, value in os.environ.items() if name not in ("LINES", "COLUMNS"))),
    "streams": [[each.encoding, each.errors, each.line_buffering, each.isatty()] for each in
                (sys.stdin, sys.stdout, sys.stderr)],
    "names": sorted(name for name in globals() if name not in ("__cached__", "__annotations__")),
    "name": __name__,
    "threads": threading.active_count(),
    "is main": threading.current_thread() is threading.main_thread(),
    "input": sys.stdin.read(),
}))
"""


@pytest.fixture(params=["-c", "-m", "file"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    (tmp_path / "about.py").write_text(ABOUT)
    return {"-c": ["-c", ABOUT, "x"], "-m": ["-m", "about", "x"], "file": ["about.py", "--y"]}[request.param]


def both(arguments: list[str], **options: Any) -> tuple[Any, Any]:
    """How a program ends here and there, and that the one was forked."""
    command = [sys.executable, *arguments]
    with forkserver.Popen(command, stdout=-1, stderr=-1, stdin=-3) as process:
        assert isinstance(process, forkserver.Forked)
    options |= {"capture_output": True, "text": True}
    ours, theirs = (module.run(command, **options) for module in (forkserver, subprocess))
    return (ours.returncode, ours.stdout, ours.stderr), (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_program_sees_nothing_of_it(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_TEST", "ä")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    ours, theirs = both(command, input="ö\nü")
    assert ours == theirs
    assert '"OF_THE_TEST": "\\u00e4"' in ours[1]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("import sys; print('out'); sys.exit(3)", 3),
        ("import sys; sys.exit('words')", 1),
        ("import atexit; atexit.register(print, 'bye'); print('hello', end='')", 0),
        ("import threading, time; threading.Timer(0.1, print, ('late',)).start()", 0),
        ("def f():\n    raise ValueError('of the program')\nf()", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os; os.abort()", -signal.SIGABRT),
        ("this is not Python", 1),
    ],
    ids=range(9),
)
def test_it_ends_as_it_would(script: str, code: int) -> None:
    ours, theirs = both(["-c", script])
    assert ours == theirs
    assert ours[0] == code


def test_it_is_sent_signals_and_waited_for() -> None:
    script = "import signal, time\nprint('up', flush=True)\ntime.sleep(1000)"
    with forkserver.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.01)
        process.kill()
        assert process.wait() == process.poll() == -signal.SIGKILL


@pytest.mark.parametrize("options", [{"env": {"PYTHONWARNINGS": "error"}}, {"preexec_fn": int}, {"umask": 0o77}])
def test_what_only_a_fresh_interpreter_can_do_it_leaves_to_one(options: dict[str, Any]) -> None:
    with forkserver.Popen([sys.executable, "-c", ""], **options) as process:
        assert isinstance(process, subprocess.Popen)
    with forkserver.Popen([sys.executable, "-I", "-c", ""]) as process:
        assert isinstance(process, subprocess.Popen)


TESTS = f"""
import os, signal, socket, sys, time
sys.path.insert(0, {str(Path(forkserver.__file__).parent)!r})
import forkserver

def server():
    \"\"\"The number of the process that begins programs.\"\"\"
    program = [sys.executable, "-c", "import os; print(os.getppid())"]
    return int(forkserver.run(program, capture_output=True, text=True, check=True).stdout)
"""


def test_a_server_that_was_killed_is_replaced() -> None:
    script = f"""{TESTS}
first = server()
running = forkserver.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
os.kill(first, signal.SIGKILL)
assert running.wait() == -signal.SIGKILL
second = server()
assert second not in (first, os.getpid())
assert server() == second
# It is in no list of processes.
assert not os.path.exists(f"/proc/{{first}}")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_program_that_is_broken_off_disturbs_no_other() -> None:
    script = f"""{TESTS}
first = server()
running = forkserver.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
for job in (b"", b"   ", b"%16d" % 100, b"%16d{{}}" % 2, b"%16dthis" % 4):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(forkserver._server.socket, [b"j"], [theirs.fileno(), 0, 1, 2])
        ours.sendall(job)
    assert server() == first
socket.send_fds(forkserver._server.socket, [b"j"], [0])
assert server() == first
assert running.poll() is None
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_programs_end_with_the_tests() -> None:
    script = f"""{TESTS}
process = forkserver.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"])
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        assert tests.stdout.readline() == "up\n"
        tests.kill()
        # The program has it open for writing.
        assert tests.stdout.read() == ""
