"""Containers, networks and volumes with the labels of owners of every kind, for tests of who removes what."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import docker

from triton_env import Settings
from triton_env.runtimes import owner
from triton_env.runtimes.owner import Owner


@contextmanager
def machine_of_its_own() -> Iterator[str]:
    """Owners that this process makes or looks for in the block are of a machine of this name.

    A process that starts an environment removes what dead owners on its machine left, and `prune` removes even more:
    another test process would do so at any moment. What is of another machine it leaves alone.
    """
    name = f"triton-test-{os.urandom(4).hex()}"
    with patch.object(owner, "socket", SimpleNamespace(gethostname=lambda: name)):
        yield name


@contextmanager
def belonging_to(engine: docker.DockerClient, labels: dict[str, str]) -> Iterator[tuple[Any, Any, Any]]:
    """A container that does not run, a network and a volume with these labels."""
    name = f"triton-test-{os.urandom(4).hex()}"
    created: list[Any] = []
    api = engine.api
    try:
        # Not looked at once they are created: who removes what dead owners left may have been quicker.
        attributes = {"Id": api.create_container(Settings().redis_image, labels=labels, name=name)["Id"], "Name": name}
        created.append(engine.containers.prepare_model(attributes))
        attributes = {"Id": api.create_network(name, labels=labels)["Id"], "Name": name}
        created.append(engine.networks.prepare_model(attributes))
        created.append(engine.volumes.create(name, labels=labels))
        yield tuple(created)
    finally:
        for each in created:
            # Another process may have removed it, or be about to.
            with suppress(docker.errors.NotFound), already_being_removed():
                each.remove(**({"v": True, "force": True} if each is created[0] else {}))


@contextmanager
def already_being_removed() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as error:
        if "already in progress" not in str(error):
            raise


def are_there(belongings: tuple[Any, ...]) -> list[bool]:
    def is_there(each: Any) -> bool:
        try:
            each.reload()
        except docker.errors.NotFound:
            return False
        return True

    return [is_there(each) for each in belongings]


def gone_owner(environment: str) -> Owner:
    """One whose process has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return replace(Owner.this_process(environment), pid=process.pid)


def of_version_0_1(owner: Owner) -> dict[str, str]:
    """The labels that version 0.1.0 gave."""
    later = (".uid", ".ticks", ".boot", ".machine", ".namespace")
    return {name: value for name, value in owner.labels().items() if not name.endswith(later)}
