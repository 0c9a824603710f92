"""Every runtime, the same tests: `env` is one running environment per runtime, shared by the tests of a module."""

from collections.abc import Iterator

import pytest

from triton_env import TritonEnvironment

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
    with TritonEnvironment(runtime=request.param) as environment:
        yield environment
