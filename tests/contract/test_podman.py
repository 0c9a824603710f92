"""The contracts of all services on a Podman of the tests' own, as root and as an ordinary user, by its Docker API.

What the engine is asked for beside them is here in one variant each: what Podman answers may be in other words.
"""

from collections.abc import Iterator, Mapping

import docker
import pytest
import redis
from click.testing import CliRunner
from testcontainers.core.labels import LABEL_TESTCONTAINERS

import places
from contents import CONTENTS
from contract.test_docker_session import TestNetwork
from contract.test_reaper import RYUK_IMAGES, WAIT, belongings, line, owner, ryuk_variables, wait_until_nothing_is_left
from patience import TO_BOOT, patient_probes, until
from podman import Podman, podman
from projects import free_name, ports, project, settings_of
from triton_env import TritonEnvironment
from triton_env.cli import command_line
from triton_env.errors import ComposeFailed, ServiceDied, TritonError
from triton_env.services import SERVICES
from triton_env.testing import BackupContract, Contents, IsolationContract, ServiceContract

__all__ = ["TestNetwork"]

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["as root", "as a user"])
def podman_engine(request: pytest.FixtureRequest, callers_choice: Mapping[str, str]) -> Iterator[Podman]:
    settings = settings_of(callers_choice)
    images = {service.recipe(settings).container.image for service in SERVICES.values()}
    client = docker.from_env()
    there = {tag for image in client.images.list() for tag in image.tags}
    client.close()
    images |= there.intersection(RYUK_IMAGES)
    with (
        podman(sorted(images), rootless=request.param == "as a user") as running,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        monkeypatch.setenv("DOCKER_HOST", running.url)
        yield running


@pytest.fixture(scope="module")
def engine(podman_engine: Podman) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(podman_engine.url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def env(
    podman_engine: Podman, callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonEnvironment]:
    state = str(tmp_path_factory.mktemp("state"))
    settings = settings_of(callers_choice).updated(triton_state_dir=state, triton_pool_size=0, **TO_BOOT)
    with patient_probes(), TritonEnvironment(settings, runtime="docker") as running:
        yield running


@pytest.fixture(params=list(SERVICES))
def service_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return CONTENTS


class TestEveryService(ServiceContract):
    """The contract of all services."""


class TestIsolation(IsolationContract):
    """Namespaces, templates, snapshots and reset."""


class TestBackup(BackupContract):
    """Of each service, by programs in the containers."""


def test_it_is_as_the_documents_compare_it(env: TritonEnvironment) -> None:
    places.check(places.PODMAN, env)


@pytest.mark.usefixtures("podman_engine")
def test_the_engine_says_how_a_server_died(engine: docker.DockerClient) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        engine.containers.get(f"triton-{env.id}-redis").kill()
        with pytest.raises(ServiceDied, match="SIGKILL"):
            env.redis.client().ping()
        env.restart("redis")
        assert env.redis.client().ping()


@pytest.mark.usefixtures("podman_engine")
def test_nothing_is_left_of_an_owner_that_is_killed(engine: docker.DockerClient) -> None:
    script = """
        env = TritonEnvironment(Settings(triton_storage="disk"), services=("redis",)).start()
        print(env.id, flush=True)
        input()
    """
    before = {volume.name for volume in engine.volumes.list()}
    with owner(script) as process:
        identifier = line(process)
        # They have no labels, and go with their containers.
        assert {volume.name for volume in engine.volumes.list()} - before
        process.kill()
        wait_until_nothing_is_left(engine, [identifier])
    assert until(lambda: {volume.name for volume in engine.volumes.list()} == before)


@pytest.mark.usefixtures("podman_engine")
def test_ryuk_and_a_reaper_work_side_by_side(engine: docker.DockerClient) -> None:
    images = {tag for image in engine.images.list() for tag in image.tags}
    (image, *_) = [each for each in RYUK_IMAGES if any(tag.endswith(each) for tag in images)]
    script = """
        from testcontainers.core.labels import SESSION_ID
        env = TritonEnvironment(services=("redis",)).start()
        print(env.id, flush=True)
        print(SESSION_ID, flush=True)
        input()
    """
    # Where it takes this machine for a container, Testcontainers looks in a list for what Podman's lists lack.
    variables = {"TESTCONTAINERS_CONNECTION_MODE": "docker_host"}
    with owner(script, **ryuk_variables(image), **variables) as process:
        identifier, session = line(process), line(process)
        ryuk = f"container testcontainers-ryuk-{session}"
        assert until(lambda: ryuk in belongings(engine, LABEL_TESTCONTAINERS)), "Ryuk does not start"
        process.kill()
        process.communicate(timeout=WAIT)
        wait_until_nothing_is_left(engine, [identifier])
        assert until(lambda: ryuk not in belongings(engine, LABEL_TESTCONTAINERS)), "Ryuk runs on"


def test_persistent_services_keep_their_data(podman_engine: Podman) -> None:
    services = ("postgres", "redis", "s3")
    with project() as settings:
        with TritonEnvironment(settings, services=services, persistent=True) as env:
            env.redis.client().set("kept", "1")
            env.restart("redis")
            assert until(lambda: answers(env))
        with TritonEnvironment(settings, services=services, persistent=True) as env:
            assert env.redis.client().get("kept") == b"1"


def test_what_manifests_prints_are_pods_that_answer(
    podman_engine: Podman, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, kept = free_name("pods")
    monkeypatch.setenv("TRITON_PROJECT", name)
    for variable, port in ports(name).items():
        monkeypatch.setenv(variable, port)
    printed = CliRunner().invoke(command_line, ("manifests", "--podman"))
    assert printed.exit_code == 0, printed.output
    # What `podman kube play` and `podman kube down` ask the engine for.
    url = f"{engine.api.base_url}/v4.0.0/libpod/play/kube"
    with kept:
        played = engine.api.post(url, data=printed.stdout, timeout=300)
        try:
            assert played.status_code == 200, played.text
            # The servers have made what clients look for: nothing is created on external ones.
            assert until(all_are_ready)
        finally:
            engine.api.delete(url, data=printed.stdout, timeout=300)


def all_are_ready() -> bool:
    try:
        with TritonEnvironment(runtime="external") as env:
            return set(env.services) == set(SERVICES)
    except TritonError:
        return False


def answers(env: TritonEnvironment) -> bool:
    try:
        return bool(env.redis.client().ping())
    except redis.exceptions.ConnectionError:
        return False


def test_persistent_clickhouse_runs_or_says_what_keeps_it_from_that(podman_engine: Podman) -> None:
    """As root, Podman asks for more processes than a machine grants whose root may not raise limits: many sandboxes."""
    refusal: ComposeFailed | None = None
    with project() as settings:
        try:
            with TritonEnvironment(settings, services=("clickhouse",), persistent=True) as env:
                assert env.clickhouse.server_version()
        except ComposeFailed as error:
            refusal = error
    if refusal:
        assert not podman_engine.rootless
        assert "rlimit" in refusal.cause
        assert "systemctl --user start podman.socket" in refusal.hint
