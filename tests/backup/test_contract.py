"""The contract of backup and restore, of all services."""

from collections.abc import Iterator, Mapping

import pytest

from contents import CONTENTS
from projects import settings_of
from triton_env import TritonEnvironment
from triton_env.services import SERVICES
from triton_env.testing import BackupContract, Contents

# Starts of all services, and all that is saved and restored, take their time on a busy machine.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.long])]
)
def env(
    request: pytest.FixtureRequest,
    callers_choice: Mapping[str, str],
    embedded_packages: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonEnvironment]:
    state = str(tmp_path_factory.mktemp("state"))
    settings = settings_of(callers_choice).updated(triton_state_dir=state, triton_pool_size=0)
    with TritonEnvironment(settings, runtime=request.param) as environment:
        yield environment


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return CONTENTS


@pytest.fixture(params=list(SERVICES))
def service_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestBackup(BackupContract):
    """Of each service, and of all at once."""
