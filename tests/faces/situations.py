"""Situations that people get into with persistent services, made on purpose: what they do, and what they then see."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import forkserver
from triton_env import Settings, TritonEnvironment, TritonError
from triton_env.persistent.docker.compose import Compose
from triton_env.persistent.settings import persistent_settings
from triton_env.run import Persistent
from triton_env.services import Service


def up(settings: Settings, *services: str) -> None:
    """As `up` does it."""
    with TritonEnvironment(settings, services=services, persistent=Persistent.APPLY) as environment:
        environment.detach()


def refused(settings: Settings, *services: str) -> str:
    """The error of `up`, as people see it."""
    with pytest.raises(TritonError) as caught:
        up(settings, *services)
    return str(caught.value)


def composed(settings: Settings, *arguments: str, files: Sequence[str] = ()) -> str:
    """What plain Compose says, whatever comes of it."""
    program = Compose(persistent_settings(settings), "unix:///var/run/docker.sock", "127.0.0.1")
    command, environment = program.command([*(word for file in files for word in ("--file", file)), *arguments])
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=200, check=False)
    return done.stdout + done.stderr


def triton(settings: Settings, *arguments: str, **variables: str) -> str:
    """What our command line says, whatever comes of it."""
    environment = dict(os.environ) | {"TRITON_PROJECT": settings.triton_project} | variables
    done = forkserver.run(
        [sys.executable, "-m", "triton_env", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout + done.stderr


def until(wanted: str, look: Callable[[], str]) -> str:
    """Look until it shows that."""
    deadline = time.monotonic() + 200
    while wanted not in (seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    return seen


def service(settings: Settings, name: str) -> Service:
    """A persistent service that runs."""
    with TritonEnvironment(settings, services=(name,), persistent=True) as environment:
        return environment.service(name)


def container(settings: Settings, alias: str) -> str:
    return f"{settings.triton_project}-{alias}-1"


def run(*command: str) -> str:
    done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=200, check=False)
    return done.stdout + done.stderr


def in_volume(settings: Settings, volume: str, image: str, *command: str) -> None:
    """Run a program on a volume of the project, in its root."""
    mount = f"{settings.triton_project}_{volume}:/v"
    name, *arguments = command
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", name, "-v", mount, "-w", "/v", image, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def sibling(image: str, tag: str) -> str:
    """The same image with another tag, which the engine has afterwards."""
    other = f"{image.rpartition(':')[0]}:{tag}"
    if "[]" in run("image", "inspect", other):
        run("pull", other)
    return other


def connected(settings: Settings, **options: Any) -> str:
    """What PostgreSQL says to a client, once it says anything but that it starts."""
    port = persistent_settings(settings).postgres_port
    known: dict[str, Any] = {"user": settings.postgres_user, "dbname": settings.postgres_db}
    known |= {"password": settings.postgres_password.get_secret_value()}
    deadline = time.monotonic() + 200
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, **(known | options)).close()
        except psycopg.OperationalError as error:
            # Until it listens, the engine's proxy ends connections in one way or another.
            said = "FATAL" in str(error) and "starting up" not in str(error)
            if said or time.monotonic() > deadline:
                return str(error)
            time.sleep(0.2)
        else:
            return ""


@contextmanager
def listener(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield
