"""The contract of all services, on one environment on an engine behind ssh."""

from collections.abc import Iterator, Mapping

import pytest

import places
from contents import CONTENTS
from patience import TO_BOOT, patient_probes
from ssh_server import ssh_server
from triton_env import Settings, TritonEnvironment
from triton_env.services import SERVICES
from triton_env.testing import Contents, ServiceContract

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    with (
        ssh_server(tmp_path_factory.mktemp("ssh")) as server,
        pytest.MonkeyPatch.context() as monkeypatch,
        patient_probes(),
    ):
        monkeypatch.setenv("PATH", server.path)
        monkeypatch.setenv("DOCKER_HOST", server.url())
        with TritonEnvironment(Settings(**TO_BOOT), runtime="docker") as running:
            yield running


@pytest.fixture(params=list(SERVICES))
def service_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return CONTENTS


class TestEveryService(ServiceContract):
    """The contract of all services."""


def test_it_is_as_the_documents_compare_it(env: TritonEnvironment) -> None:
    places.check(places.OVER_SSH, env)
