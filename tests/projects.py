"""Persistent projects for tests: a name, ports and volumes of their own, and nothing of them left at the end."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import docker

import janitor
import scratch
from janitor import remove
from patience import TO_BOOT
from triton_env import Settings
from triton_env.core.settings_group import Role
from triton_env.persistent.docker.compose import PROJECT_LABEL, Compose
from triton_env.persistent.embedded.control import Supervisor
from triton_env.persistent.embedded.folder import ProjectFolder
from triton_env.persistent.settings import persistent_settings


def settings_of(choice: Mapping[str, str]) -> Settings:
    """The settings with the caller's choice in them.

    For fixtures of wider scope than one test. Variables that these would set amid a test would be put back at another
    moment than that test's own.
    """
    return Settings(**{name.lower(): value for name, value in choice.items()})


def free_name(prefix: str) -> tuple[str, socket.socket]:
    """A project name whose ports are free, and what keeps these for it until it is closed.

    Two names may lead to the same ports (see `triton_env.persistent.settings`), and other test processes have projects
    too. So a test that uses a name binds the first port of its block that no service has, which only one can do.
    """
    while True:
        name = f"{prefix}-{token_hex(4)}"
        numbers = [int(number) for number in ports(name).values()]
        kept = socket.socket()
        try:
            kept.bind(("127.0.0.1", max(numbers) + 1))
        except OSError:
            kept.close()
            continue
        if not any(_is_taken(number) for number in numbers):
            janitor.note(name)
            return name, kept
        kept.close()


def ports(name: str) -> dict[str, str]:
    """The variables with the ports that follow from a project's name."""
    settings = persistent_settings(Settings.model_construct(triton_project=name))
    return {port.upper(): str(getattr(settings, port)) for port in settings.names_in(Role.PORT)}


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def project(**values: Any) -> Iterator[Settings]:
    """The settings of a project of its own. All that it left on the engine is removed at the end."""
    name, kept = free_name("test")
    with kept:
        settings = Settings(**{"triton_project": name, **TO_BOOT, **values})
        try:
            yield settings
        finally:
            remove(name)


@contextmanager
def project_without_docker(**values: Any) -> Iterator[Settings]:
    """The settings of a project of its own that runs without Docker. All of it is gone at the end."""
    name, kept = free_name("kept")
    # Where tests have their folders, root's servers cannot pass.
    base = scratch.folder()
    base.chmod(0o711)
    places = {"triton_data_dir": str(base / "data"), "triton_state_dir": str(base / "state")}
    with kept:
        settings = Settings(**{"triton_project": name, "triton_runtime": "embedded", **TO_BOOT, **places, **values})
        try:
            yield settings
        finally:
            Supervisor(ProjectFolder.of(settings)).end()
            shutil.rmtree(base)


def belongings(name: str) -> tuple[list[str], list[str], list[str]]:
    """The names of a project's containers, networks and volumes."""
    client = docker.from_env()
    try:
        filters = {"label": f"{PROJECT_LABEL}={name}"}
        containers = client.containers.list(all=True, filters=filters, ignore_removed=True)
        return (
            sorted(container.name for container in containers),
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
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout
