"""Processes that use a shared environment, and what they leave behind."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import forkserver
from patience import WAIT, until
from triton_env import Settings
from triton_env.runtimes.embedded.data_directory_cache import DataDirectoryCache
from triton_env.services import SERVICES
from triton_env.state import locks

SCRIPT = """
import json, os, sys
from triton_env import TritonEnvironment
from triton_env.errors import TritonError
from triton_env.sharing import Reuse

options = json.loads(sys.argv[1])
reuse = Reuse(**options["reuse"]) if options["reuse"] else True

def say(**words):
    print(json.dumps(words), flush=True)

env = TritonEnvironment(services=options["services"], reuse=reuse)
say(imported=True)
try:
    env.start()
except TritonError as error:
    say(error=type(error).__name__, text=str(error))
    sys.exit(3)
say(id=env.id, environ=env.environ(), runtime=env.runtime, reason=env.runtime_reason)
for line in sys.stdin:
    say(value=eval(line, {"env": env, "os": os}))
env.stop()
say(stopped=True)
"""

_ANSWER_TIMEOUT = 120
"""Seconds in which a process has to answer."""


class User:
    """A process of its own that uses a shared environment."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.started: dict[str, Any] = {}
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def hear(self) -> dict[str, Any]:
        """The next thing that it says."""
        line = self._lines.get(timeout=_ANSWER_TIMEOUT)
        assert line, "it ended without a word"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_until_started(self) -> "User":
        """Hear how the start went."""
        while "imported" in (heard := self.hear()):
            pass
        self.started = heard
        return self

    @property
    def id(self) -> str:
        """The id of the environment that it got."""
        assert "id" in self.started, self.started
        return str(self.started["id"])

    def do(self, expression: str) -> Any:
        """What this expression of `env` gives there."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.hear()["value"]

    def stop(self) -> None:
        """Have it stop its environment and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.hear() == {"stopped": True}
        assert self.process.wait(WAIT) == 0

    def kill(self) -> None:
        """End it without any warning."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, and let go of its streams."""
        self.kill()
        self._reader.join(_ANSWER_TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()


class Sharing:
    """Shared environments of this test alone.

    Args:
        state: the folder of the state.
        variables: settings of all users.
    """

    def __init__(self, state: Path, variables: Mapping[str, str]) -> None:
        self.state = state
        self.variables = dict(variables)
        self.users: list[User] = []
        self.seen: set[str] = set()
        """The ids of all environments."""

    def begin(
        self,
        services: Sequence[str] = ("redis",),
        reuse: Mapping[str, Any] | None = None,
        cwd: Path | None = None,
        is_fresh: bool = False,
        **variables: str,
    ) -> User:
        """Start a process; its environment is on the way then. A fresh one has not imported anything before."""
        with (self.state / "words").open("ab") as words:
            process = (subprocess.Popen if is_fresh else forkserver.Popen)(
                [sys.executable, "-c", SCRIPT, json.dumps({"services": list(services), "reuse": reuse})],
                env=os.environ | {"TRITON_STATE_DIR": str(self.state), **self.variables, **variables},
                cwd=cwd or self.state,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
            )
        self.users.append(User(process))
        return self.users[-1]

    def join(self, services: Sequence[str] = ("redis",), **options: Any) -> User:
        """Start a process and wait for its environment."""
        user = self.begin(services, **options).wait_until_started()
        self.seen.add(user.id)
        return user

    def words(self) -> str:
        """What all of them wrote on standard error."""
        return (self.state / "words").read_text()

    def folders(self) -> list[Path]:
        """The folders of the environments that have files."""
        self.seen |= {path.name.partition("-")[2] for path in self.state.glob("shared/*-*")}
        return sorted(self.state.glob("shared/*-*"))

    def keeper(self) -> psutil.Process:
        """The process that keeps the only environment."""
        (folder,) = self.folders()
        return keeper_of(folder)

    def kill_keeper(self) -> None:
        """Kill the process that keeps the only environment, and wait until it is dead."""
        (folder,) = self.folders()
        keeper_of(folder).kill()
        # A newcomer that looked before that would still join it.
        assert until(lambda: not locks.is_held(folder / "alive"))

    def left(self) -> list[str]:
        """What is left of all environments of this test: files, directories, processes."""
        found = [str(path) for path in self.folders()]
        found += [str(path) for path in (*self.state.glob("environments/*.json"), *self.state.glob("spaces/*"))]
        for base in (Path(tempfile.gettempdir()), Path("/dev/shm")):
            found += [str(path) for path in base.glob("triton-env-*") if path.name[-8:] in self.seen]
        for process in psutil.process_iter(["pid", "cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.state) in line or any(f"triton-env-{identity}" in line for identity in self.seen):
                found.append(f"{process.info['pid']} {line[:200]}")
        return found

    def is_gone(self) -> bool:
        """Wait until nothing is left; whether that comes to be."""
        return until(lambda: not self.left())


def keeper_of(folder: Path) -> psutil.Process:
    """The process that keeps the environment with this folder."""
    alive = folder / "alive"
    # The folder is there first; who keeps it writes the file when it runs.
    assert until(lambda: alive.exists() and alive.read_text().strip().isdigit())
    return psutil.Process(int(alive.read_text()))


@contextmanager
def postgres_held_up(cache: Path, **values: str) -> Iterator[dict[str, str]]:
    """Variables with which an embedded PostgreSQL begins to start, and is not ready before the block ends.

    Args:
        cache: a folder for what is cached, which is the test's alone.
        values: settings that the users have.
    """
    template = SERVICES["postgres"].recipe(Settings(**values)).process.template  # type: ignore[arg-type]
    assert template is not None
    # As on the other side, which gets no other word on where it is.
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        templates = DataDirectoryCache()
    templates.folder.mkdir(parents=True)
    # Its data directory is being made by another process, for which it waits.
    with locks.locked(templates.find("postgres", template).with_suffix(".lock")):
        yield {"XDG_CACHE_HOME": str(cache)}


@contextmanager
def sharing(state: Path, **variables: str) -> Iterator[Sharing]:
    """Shared environments in a folder of their own; in the end all of their processes are ended."""
    state.mkdir(exist_ok=True)
    shared = Sharing(state, {"TRITON_RUNTIME": "embedded", "TRITON_LINGER": "0", **variables})
    try:
        yield shared
    finally:
        for user in shared.users:
            user.close()
        assert shared.is_gone(), shared.left()
