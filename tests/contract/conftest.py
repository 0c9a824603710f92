"""Every runtime, the same tests: `env` is one running environment per runtime, shared by the tests of a module."""

import os
from collections.abc import Iterator

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]


@pytest.fixture(scope="session")
def embedded_packages() -> None:
    """Skip where the embedded runtime is not installed; CI has to have it."""
    problem = packages.problem_of(service.recipe(Settings()) for service in SERVICES.values())
    if problem and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI has to run the embedded tests, but {problem}", pytrace=False)
    if problem:
        pytest.skip(f"{problem} ({packages.INSTALL})")


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    with TritonEnvironment(runtime=request.param) as environment:
        yield environment
