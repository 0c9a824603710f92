"""Environments shared by the tests of a module: those that are filled, and those to restore to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from backup.contents import FILL
from projects import settings_of
from triton_env import TritonEnvironment, backup
from triton_env.services import SERVICES


class Started(Protocol):
    """Starts an environment with all services, or with those that are named, and with values of settings."""

    def __call__(self, runtime: str, *services: str, **values: Any) -> TritonEnvironment: ...


@pytest.fixture(scope="module")
def started(callers_choice: Mapping[str, str], embedded_packages: None) -> Iterator[Started]:
    """Starts an environment of that runtime, which ends with the module."""
    settings = settings_of(callers_choice)
    with ExitStack() as running:

        def start(runtime: str, *services: str, **values: Any) -> TritonEnvironment:
            environment = TritonEnvironment(
                settings.updated(**values), services=services or tuple(SERVICES), runtime=runtime
            )
            return running.enter_context(environment)

        yield start


@pytest.fixture(scope="module")
def embedded(warm: Callable[[str], TritonEnvironment], embedded_packages: None) -> TritonEnvironment:
    """An empty environment without Docker, at first."""
    return warm("embedded")


@pytest.fixture(scope="module")
def full(started: Started) -> TritonEnvironment:
    """An environment without Docker, full of all kinds of things. To be looked at only."""
    environment = started("embedded")
    for fill in FILL.values():
        fill(environment)
    return environment


@pytest.fixture(scope="module")
def saved(full: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of `full`."""
    path = tmp_path_factory.mktemp("backup") / "full.backup"
    backup.create(full, path)
    return path
