"""The engine as tests see it beside what they test."""

from collections.abc import Iterator

import docker
import pytest


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """One client for all tests of this process. One of each module would keep all of its tests in one process."""
    client = docker.from_env()
    yield client
    client.close()
