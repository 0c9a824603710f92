"""A persistent project of its own for tests: its name and ports, the command line on it, and its end."""

import fcntl
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import docker
import redis
from click.testing import CliRunner, Result
from docker.errors import NotFound

import forkserver
from patience import TO_BOOT_IN_COMMANDS
from projects import free_name, ports
from triton_env.cli import command_line

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "triton_env")
OURS = "org.triton-env.project"
COMPOSE = "com.docker.compose.project"
PASSWORD = "development_password_change_in_prod"


class PersistentProject:
    """A project of its own.

    Attributes:
        name: its name.
        folder: in which commands run; it holds no compose file, so that of this repository is used.
        variables: their environment.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.name, self._kept = free_name("tclip")
        self.folder = folder
        self.engine = docker.from_env()
        self.variables = (
            TO_BOOT_IN_COMMANDS
            | dict(variables)
            | {
                "TRITON_PROJECT": self.name,
                "TRITON_STATE_DIR": str(folder / "state"),
                # On Docker alone: nothing may come into the folder of this machine.
                "TRITON_DATA_DIR": str(folder / "data"),
                "TRITON_RUNTIME": "docker",
            }
        )

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end. `environment` among `options` adds variables."""
        environment = self.variables | options.pop("environment", {})
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        return forkserver.run(
            [*PROGRAM, *arguments],
            **options,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
        )

    def good(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, which has to be a good one."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, **options: Any) -> Any:
        """What it prints with --json."""
        return json.loads(self.good(*arguments, "--json", **options).stdout)

    def invoked(self, *arguments: str) -> Result:
        """Run the command line in this process and its folder: for what shows nothing about processes, and set-up."""
        with patch.dict(os.environ, self.variables):
            return CliRunner().invoke(command_line, arguments)

    def begun(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command line."""
        return forkserver.Popen(
            [*PROGRAM, *arguments],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            cwd=self.folder,
            env=self.variables | options.pop("environment", {}),
            **options,
        )

    def redis(self) -> redis.Redis:
        """A client of its Redis, which need not run."""
        return redis.Redis(port=self.redis_port(), decode_responses=True)

    def redis_port(self) -> int:
        return int(ports(self.name)["REDIS_PORT"])

    def is_running(self, *services: str) -> bool:
        """Whether the containers of these services run, by their names in the compose file."""
        listed = self.engine.api.containers(filters={"label": f"{COMPOSE}={self.name}"})
        return {each["Labels"]["com.docker.compose.service"] for each in listed}.issuperset(services)

    def containers(self) -> dict[str, str]:
        """Ids by service name of the compose file, running or not."""
        listed = self.engine.api.containers(all=True, filters={"label": f"{COMPOSE}={self.name}"})
        return {each["Labels"]["com.docker.compose.service"]: each["Id"] for each in listed}

    def volumes(self) -> set[str]:
        listed = self.engine.api.volumes(filters={"label": f"{COMPOSE}={self.name}"})["Volumes"] or []
        return {each["Name"] for each in listed}

    def networks(self) -> set[str]:
        return {each["Name"] for each in self.engine.api.networks(filters={"label": f"{COMPOSE}={self.name}"})}

    def remove(self) -> None:
        """Remove all of it, also what is not of our compose file."""
        api = self.engine.api
        try:
            for identity in self.containers().values():
                with suppress(NotFound):
                    api.remove_container(identity, force=True, v=True)
            for network in self.networks():
                with suppress(NotFound):
                    api.remove_network(network)
            for volume in self.volumes():
                with suppress(NotFound):
                    api.remove_volume(volume)
        finally:
            self.engine.close()
            self._kept.close()


def checkout(folder: Path, **entrypoints: list[str]) -> Path:
    """A copy of what makes the persistent services, as another checkout has it.

    Args:
        folder: where it will be.
        **entrypoints: what services of the compose file are to run in place of what their images do.
    """
    folder.mkdir()
    text = (ROOT / "docker-compose.yml").read_text()
    for service, words in entrypoints.items():
        head = f"\n  {service}:\n    <<: *service\n"
        assert head in text
        # Compose reads a dollar sign as the beginning of a variable.
        text = text.replace(head, f"{head}    entrypoint: {json.dumps(words).replace('$', '$$')}\n")
    (folder / "docker-compose.yml").write_text(text)
    shutil.copytree(ROOT / "docker", folder / "docker")
    return folder


def variables(callers_choice: Mapping[str, str]) -> dict[str, str]:
    """The environment for commands: this process's, with the images that the caller chose."""
    return dict(os.environ) | dict(callers_choice)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, project: PersistentProject, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        # Of no size, every program would page its output.
        termios.tcsetwinsize(slave, (50, 200))
        self._process = project.begun(
            *arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            environment={"TERM": "xterm"},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._seen = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def read_until(self, words: str) -> str:
        """What it wrote since the last call, up to these words."""
        deadline = time.monotonic() + 200
        while words not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._master], [], [], 1)[0]:
                try:
                    self._seen += os.read(self._master, 65536).decode(errors="replace")
                except OSError as error:  # it ended
                    raise AssertionError(self._seen) from error
        before, _, self._seen = self._seen.partition(words)
        return before

    def write(self, text: str) -> None:
        os.write(self._master, text.encode())

    def status(self) -> int:
        """Its exit status; what it writes until then is read."""
        deadline = time.monotonic() + 200
        while self._process.poll() is None and time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    self._seen += os.read(self._master, 65536).decode(errors="replace")
                except OSError:
                    break
        return self._process.wait(60)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
