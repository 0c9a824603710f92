"""Containers, networks and volumes with the labels of owners of every kind, for tests of who removes what."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import docker

from triton_env import Settings
from triton_env.runtimes.owner import Owner


@contextmanager
def belonging_to(engine: docker.DockerClient, labels: dict[str, str]) -> Iterator[tuple[Any, Any, Any]]:
    """A container that does not run, a network and a volume with these labels."""
    name = f"triton-test-{os.urandom(4).hex()}"
    created: list[Any] = []
    try:
        created.append(engine.containers.create(Settings().redis_image, labels=labels, name=name))
        created.append(engine.networks.create(name, labels=labels))
        created.append(engine.volumes.create(name, labels=labels))
        yield tuple(created)
    finally:
        for each in created:
            with suppress(docker.errors.NotFound):
                each.remove(**({"v": True, "force": True} if each is created[0] else {}))


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
