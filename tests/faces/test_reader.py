"""The tutorial as its reader takes it: an empty folder, an environment of its own, block after block in a shell."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from platformdirs import user_cache_path

from conftest import in_ci
from faces.documents import ROOT, Block, blocks
from faces.test_documentation import CHECKER, FLEXIBLE
from patience import until
from shells import Printed

TUTORIAL = ROOT / "docs" / "tutorial.md"
MARK = "=== done:"
INDEX_IS_AWAY = re.compile(r"NewConnectionError|Failed to establish|Name or service not known|No matching distribution")
# Eight minutes beside much else, and a machine may be ten times slower. Each step has its own limit.
pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]


def quick_installer() -> str:
    """A uv to take for pip, which needs minutes for what uv has in its cache; in CI it is pip itself."""
    if in_ci():
        return ""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or ""


class Shell:
    """A shell that a reader types into; it keeps its folder and its variables."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._output = Printed(self.process)
        self.printed = self._output.lines
        if uv := quick_installer():
            self.run(f'pip() {{ {shlex.quote(uv)} pip "$@"; }}')

    def type(self, command: str) -> None:
        assert self.process.stdin is not None
        for lines in self.printed.values():
            lines.clear()
        self.process.stdin.write(f"{command}\necho '{MARK}' $?\n")
        self.process.stdin.flush()

    def run(self, command: str) -> str:
        """Run a command to its good end; returns what it printed on standard output."""
        self.type(command)
        assert until(lambda: self._status() is not None, 900), f"{command} does not end:\n{self.seen}"
        if self._status():
            if "pip install" in command and INDEX_IS_AWAY.search(self.seen) and not in_ci():
                pytest.skip("no package index can be reached")
            raise AssertionError(f"{command}\n{self.seen}")
        return "".join(self.printed["stdout"][:-1])

    def _status(self) -> int | None:
        last = self.printed["stdout"][-1] if self.printed["stdout"] else ""
        return int(last.rpartition(" ")[2]) if last.startswith(MARK) else None

    @property
    def seen(self) -> str:
        return "".join((*self.printed["stdout"], *self.printed["stderr"]))

    def press_ctrl_c(self) -> None:
        """As a terminal does it, for what runs in the foreground."""
        for child in psutil.Process(self.process.pid).children():
            child.send_signal(signal.SIGINT)
        assert until(lambda: self._status() is not None, 200), self.seen
        assert self._status() == 0

    def close(self) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.terminate()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(200)
        self._output.close()


class Reader:
    """Does what a document says, from its first block to its last.

    Args:
        home: an empty folder, in which the reader begins.
        runtime: the one that this machine has for them.
        cache: the folder for caches.
    """

    def __init__(self, home: Path, runtime: str, cache: str) -> None:
        (home / "triton-env").symlink_to(ROOT)
        python = Path(sys.base_prefix) / "bin"
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "DOCKER_"))}
        images = {name: value for name, value in os.environ.items() if name.endswith("_IMAGE")}
        self.variables = (
            passed_on
            | images
            | {
                "PATH": f"{python}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
                "HOME": str(home),
                "XDG_CACHE_HOME": cache,
                "TRITON_RUNTIME": runtime,
                "TRITON_STATE_DIR": str(home / "state"),
                # Half of the time that pip takes.
                "PIP_NO_COMPILE": "1",
                "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(user_cache_path("uv", appauthor=False)),
            }
        )
        self.runtime = runtime
        self.folder = home
        self.shells = [Shell(home, self.variables)]

    def follow(self, block: Block) -> None:
        if block.file:
            (self.folder / block.file).write_text(block.text, "utf-8")
            return
        assert block.language == "console", f"{block.place} says nothing that a reader can do"
        for command, shown in block.exchanges:
            self.do(command, shown, block.place)

    def do(self, command: str, shown: str, place: str) -> None:
        if command == "python -m triton_env serve":
            self.shells[-1].type(command)
            assert until(lambda: "Ctrl-C stops" in self.shells[-2 if len(self.shells) > 1 else -1].seen, 300)
            self.shells.append(Shell(self.folder, self.variables))
            return
        if self.runtime == "embedded":
            command = command.replace("../triton-env", '"../triton-env[embedded]"')
        printed = self.shells[-1].run(command)
        if shown:
            assert CHECKER.check_output(shown, printed, FLEXIBLE), f"{place}: {command} printed\n{printed}"
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")

    def end(self) -> None:
        if len(self.shells) > 1:
            self.shells[0].press_ctrl_c()
        for shell in self.shells:
            shell.close()


def everyday_commands() -> list[str]:
    """Those of README's first pages, which work in every folder."""
    (block,) = (
        block for block in blocks(ROOT / "README.md") if block.text.startswith("$ python -m triton_env serve\n")
    )
    # The services run already.
    return list(block.commands[1:])


@contextmanager
def reading(home: Path, runtime: str) -> Iterator[Reader]:
    # Where the servers' user can look: compiled modules of a closed home folder would go to the system's cache.
    with tempfile.TemporaryDirectory(prefix="triton-test-") as cache:
        Path(cache).chmod(0o755)
        reader = Reader(home, runtime, cache)
        try:
            yield reader
        finally:
            reader.end()


@pytest.mark.parametrize("runtime", ["embedded", pytest.param("docker", marks=pytest.mark.docker)])
def test_the_tutorial_works_as_it_is_printed(tmp_path: Path, runtime: str, callers_choice: Mapping[str, str]) -> None:
    tmp_path.chmod(0o755)
    with reading(tmp_path, runtime) as reader:
        for block in blocks(TUTORIAL):
            reader.follow(block)
        for command in everyday_commands():
            reader.do(command, "", "README.md")
