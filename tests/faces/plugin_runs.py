"""Runs of pytest with the plugin, each in a process and a folder of its own, and what they leave behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import forkserver
from patience import until

# A forked process has asyncio before pytest takes that for the name of a plugin.
INI = """
[pytest]
addopts = -p triton_env -p xdist -p asyncio -p timeout
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:Module already imported so cannot be rewritten; asyncio
timeout = 200
triton_runtime = embedded
"""

RUN_TIMEOUT = 240
"""Seconds for a whole run, which begins several processes."""


class Runs:
    """A project with tests that use the plugin.

    Args:
        pytester: makes its files and runs it.
        base: the folder below which environments of these runs keep everything but data in memory.
    """

    def __init__(self, pytester: pytest.Pytester, base: Path) -> None:
        self.pytester = pytester
        self.base = base
        pytester.makeini(INI)

    def ini(self, *lines: str) -> None:
        """Add lines to the configuration file."""
        self.pytester.makeini(INI + "\n".join(lines))

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run it; nothing is left then."""
        done = self.run_and_keep(*arguments)
        assert self.is_gone(), self.left()
        return done

    def run_and_keep(self, *arguments: str) -> pytest.RunResult:
        """Run it; its environments may be left."""
        began = time.monotonic()
        done = forkserver.run(
            [sys.executable, "-m", "pytest", *arguments], capture_output=True, text=True, timeout=RUN_TIMEOUT
        )
        # Shown where a test fails.
        print(done.stdout)
        print(done.stderr, file=sys.stderr)
        lines = [each.splitlines() for each in (done.stdout, done.stderr)]
        return pytest.RunResult(done.returncode, *lines, time.monotonic() - began)

    @contextmanager
    def begun(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Run it in a process group of its own, for tests that break it off."""
        process = forkserver.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def wait_for(self, name: str) -> None:
        """Wait until a test has made a file of that name."""
        assert until((self.pytester.path / name).exists, RUN_TIMEOUT)

    def ids(self) -> list[str]:
        """What tests have written to the file `ids`, a line each."""
        return (self.pytester.path / "ids").read_text("utf-8").split()

    def left(self) -> list[str]:
        """What is left of the environments of these runs: directories, and processes that name them."""
        found = [str(path) for pattern in ("triton-env-*", "state/shared/*-*") for path in self.base.glob(pattern)]
        for process in psutil.process_iter(["pid", "cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if f"{self.base}/" in line:
                found.append(f"{process.info['pid']} {line[:200]}")
        return found

    def is_gone(self) -> bool:
        """Wait until nothing is left; whether that comes to be."""
        return until(lambda: not self.left())


@contextmanager
def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cache: str) -> Iterator[Runs]:
    """A project, with a state folder and a folder for temporary files of its own.

    Args:
        pytester: makes its files.
        monkeypatch: sets the variables of its runs.
        cache: the user's cache folder: what initialises a data directory once need not do it again in each run.
    """
    # Short: below it are Unix sockets.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as base:
        Path(base).chmod(0o755)
        monkeypatch.setenv("TMPDIR", base)
        # Quicker: other plugins that are installed are no matter of these runs.
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("TRITON_STATE_DIR", f"{base}/state")
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        yield Runs(pytester, Path(base))
