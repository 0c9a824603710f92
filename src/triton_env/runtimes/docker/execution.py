"""Programs in containers, run by the docker command line."""

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from triton_env.core.model import Program
from triton_env.errors import RuntimeUnavailable
from triton_env.settings import process_environment

if TYPE_CHECKING:
    from triton_env.runtimes.docker.engine import Engine

_PROGRAM_TIMEOUT = 120
_LOOK = 0.02
"""Seconds between two looks at whether a program has ended."""


def in_container(
    engine_url: str,
    container: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    terminal: bool = False,
) -> Program:
    """How to run a program in a running container; see `ImageAccess.program_inside`.

    Args:
        container: its name or id.
        argv: the program and its arguments.
        terminal: whether it gets a terminal, which is this process's.

    Raises:
        RuntimeUnavailable: there is no docker command line here.
    """
    docker = shutil.which("docker")
    if docker is None:
        raise RuntimeUnavailable(
            f"The docker command line is needed to run {argv[0]} in a container, and is not on PATH.",
            where=container,
            hint="install it: https://docs.docker.com/engine/install/ (Debian and Ubuntu: apt-get install docker.io)",
        )
    # By name alone: the values are in the environment, which only this user can read.
    names = tuple(word for name in environment for word in ("-e", name))
    # The engine that was found, whatever context the command line would choose.
    ours = process_environment() | {"DOCKER_HOST": engine_url}
    how = ("-i", "-t") if terminal else ("-i",)
    lead = (docker, "exec", *how, *names, container)
    return Program((*lead, *argv), ours | dict(environment), engine_url, len(lead))


def container_has(engine: "Engine", container: str, program: str) -> bool:
    """Whether a container that runs has a program.

    Args:
        container: its name or id.
    """
    with engine.translated(f"look for {program}", f"container {container}"):
        return succeeds(engine, container, ["sh", "-c", 'command -v "$0"', program])


def succeeds(engine: "Engine", container_id: str, argv: Sequence[str]) -> bool:
    """Run a program in a running container; whether it succeeded within `_PROGRAM_TIMEOUT` seconds.

    Its output is not asked for: the SDK would wait for it without end where the engine hangs.
    """
    from docker.errors import APIError

    api = engine.client.api
    try:
        job = api.exec_create(container_id, list(argv))["Id"]
        api.exec_start(job, detach=True)
        deadline = time.monotonic() + _PROGRAM_TIMEOUT
        while (status := api.exec_inspect(job)["ExitCode"]) is None and time.monotonic() < deadline:
            time.sleep(_LOOK)
    except APIError:  # the container has ended
        return False
    return bool(status == 0)


def size_in(engine: "Engine", container: str, folders: Sequence[str]) -> int | None:
    """What the files in folders of a running container take, in bytes; None where its image has no `du`."""
    from docker.errors import APIError

    api = engine.client.api
    try:
        job = api.exec_create(container, ["du", "-sk", *folders], user="root", stderr=False)["Id"]
        lines = bytes(api.exec_start(job)).split(b"\n")
        ended = api.exec_inspect(job)["ExitCode"]
    except APIError:  # the container has ended
        return None
    sizes = [int(line.split()[0]) for line in lines if line[:1].isdigit()]
    # What goes while it looks is an error to `du`.
    return sum(sizes) * 1024 if ended in (0, 1) and len(sizes) == len(folders) else None
