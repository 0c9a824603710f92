"""Persistent projects for tests: a name, ports and volumes of their own, and nothing of them left at the end."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import docker

from triton_env import Settings
from triton_env.project import persistent_settings
from triton_env.runtimes.compose import PROJECT_LABEL, Compose


def settings_of(choice: Mapping[str, str]) -> Settings:
    """The settings with the caller's choice in them.

    For fixtures of wider scope than one test. Variables that these would set amid a test would be put back at another
    moment than that test's own.
    """
    return Settings(**{name.lower(): value for name, value in choice.items()})


@contextmanager
def project(**values: Any) -> Iterator[Settings]:
    """The settings of a project that nobody else has. All that it left on the engine is removed at the end."""
    settings = Settings(triton_project=f"test-{token_hex(4)}", **values)
    try:
        yield settings
    finally:
        remove(settings.triton_project)


def remove(name: str) -> None:
    """Remove the containers, network and volumes of one project."""
    client = docker.from_env()
    try:
        filters = {"label": f"{PROJECT_LABEL}={name}"}
        for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in client.networks.list(filters=filters):
            network.remove()
        for volume in client.volumes.list(filters=filters):
            volume.remove()
    finally:
        client.close()


def belongings(name: str) -> tuple[list[str], list[str], list[str]]:
    """The names of a project's containers, networks and volumes."""
    client = docker.from_env()
    try:
        filters = {"label": f"{PROJECT_LABEL}={name}"}
        return (
            sorted(container.name for container in client.containers.list(all=True, filters=filters)),
            sorted(network.name for network in client.networks.list(filters=filters)),
            sorted(volume.name for volume in client.volumes.list(filters=filters)),
        )
    finally:
        client.close()


def compose(settings: Settings, *arguments: str, files: Sequence[str] = ()) -> str:
    """Plain Compose on a project, as a user would call it; its standard output.

    Args:
        settings: of the project.
        arguments: of Compose.
        files: further compose files, after the checked-in one.
    """
    program = Compose(persistent_settings(settings), "unix:///var/run/docker.sock", "127.0.0.1")
    command, environment = program.command([*(word for file in files for word in ("--file", file)), *arguments])
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout
