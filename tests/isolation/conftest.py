"""Environments in which namespaces are made: one for each runtime, and a small one for what is the same on all."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lanes
from projects import project
from triton_env import Settings, TritonEnvironment
from triton_env.services import SERVICES


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("persistent", marks=pytest.mark.docker),
        "embedded",
    ],
)
def everywhere(
    request: pytest.FixtureRequest,
    warm: Callable[[str], TritonEnvironment],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonEnvironment]:
    """All services, on each runtime; persistent ones allow namespaces, and embedded ones make them in advance."""
    state = str(tmp_path_factory.mktemp("state"))
    if request.param == "persistent":
        lasting = ("postgres", "redis", *(("s3",) if lanes.is_long_among(request.session.items) else ()))
        values = {name: value for each in SERVICES.values() for name, value in each.fresh_credentials().items()}
        with (
            project(triton_namespaces="everywhere", triton_state_dir=state, **values) as settings,
            # Without those that take longest to boot, and do the same as in a session.
            TritonEnvironment(settings, services=lasting, persistent=True) as environment,
        ):
            yield environment
        return
    if request.param == "docker":
        yield warm("docker")
        return
    request.getfixturevalue("embedded_packages")
    with TritonEnvironment(Settings(triton_state_dir=state), runtime="embedded") as environment:
        yield environment


@pytest.fixture(scope="module")
def small(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """PostgreSQL and Redis without Docker, and no namespaces in advance: what is there was asked for."""
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=0)
    with TritonEnvironment(settings, services=("postgres", "redis"), runtime="embedded") as environment:
        yield environment


@pytest.fixture
def folder(small: TritonEnvironment) -> Path:
    """Where processes keep what they know about the spaces of `small`."""
    return small._isolation()._open().ledger.path
