"""A session that `serve` holds in a project of its own, and commands in that project and elsewhere."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forkserver
from patience import TO_BOOT_IN_COMMANDS, WAIT

PROGRAM = (sys.executable, "-m", "triton_env")


class Machine:
    """Two projects of one user, with a state folder of their own.

    Args:
        base: the folder that has all of it.
        variables: the environment of commands.

    Attributes:
        project: a folder in which commands run.
        other: that of another project.
    """

    def __init__(self, base: Path, variables: Mapping[str, str]) -> None:
        self.project, self.other = base / "claims", base / "other"
        for folder in (self.project, self.other):
            folder.mkdir()
            (folder / "pyproject.toml").touch()
        # Of which no persistent services run, whatever else does on this machine's engine.
        own = {"TRITON_STATE_DIR": str(base / "state"), "TRITON_PROJECT": "no-such-project"}
        self.variables = {**TO_BOOT_IN_COMMANDS, **variables, **own}
        self.state = base / "state"

    def run(self, *arguments: str, folder: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end. `environment` among `options` adds variables."""
        environment = self.variables | options.pop("environment", {})
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        return forkserver.run(
            [*PROGRAM, *arguments],
            **options,
            capture_output=True,
            text=True,
            cwd=folder or self.project,
            env=environment,
        )

    def good(self, *arguments: str, **options: Any) -> str:
        """What it prints; it has to end well."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def refused(self, *arguments: str, status: int, **options: Any) -> str:
        """What it says where it ends with this status."""
        done = self.run(*arguments, **options)
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        # Messages may be wrapped anywhere.
        return " ".join(done.stderr.split())

    @contextmanager
    def serving(self, *arguments: str, folder: Path | None = None) -> Iterator[str]:
        """A session that is held by `serve`: its id."""
        with forkserver.Popen(
            [*PROGRAM, "serve", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder or self.project,
            env=self.variables,
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                yield json.loads(line)["id"]
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.communicate()

    def on_terminal(self, *arguments: str, answer: str) -> str:
        """What a command writes on a terminal on which a person types an answer to its question."""
        master, slave = pty.openpty()
        try:
            process = forkserver.Popen(
                [*PROGRAM, *arguments],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=self.project,
                env=self.variables,
                start_new_session=True,
            )
            os.close(slave)
            return _conversation(process, master, answer)
        finally:
            os.close(master)


def _conversation(process: "subprocess.Popen[bytes]", terminal: int, answer: str) -> str:
    seen, is_answered, deadline = "", False, time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # it ended
                break
        if "Which one" in seen and not is_answered:
            is_answered = True
            os.write(terminal, f"{answer}\n".encode())
    process.wait(WAIT)
    return seen
