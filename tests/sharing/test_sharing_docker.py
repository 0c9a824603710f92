"""A shared environment on Docker: what is particular to containers and images."""

import os
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import docker
import pytest

from patience import until
from sharing.users import Sharing, sharing
from triton_env.runtimes.owner import ENVIRONMENT_LABEL

pytestmark = pytest.mark.docker


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def shared(tmp_path: Path, engine: docker.DockerClient) -> Iterator[Sharing]:
    with sharing(tmp_path / "state", TRITON_RUNTIME="docker") as shared:
        yield shared
    assert until(lambda: not left(engine, shared))


def left(engine: docker.DockerClient, shared: Sharing) -> list[str]:
    """What the engine has of the environments of this test."""
    found: list[str] = []
    for identity in shared.seen:
        ours = {"label": f"{ENVIRONMENT_LABEL}={identity}"}
        # One that is being removed may have no name any more.
        containers = engine.api.containers(all=True, filters=ours)
        found += [(container["Names"] or [container["Id"]])[0] for container in containers]
        found += [network["Name"] for network in engine.api.networks(filters=ours)]
        found += [volume["Name"] for volume in engine.api.volumes(filters=ours)["Volumes"] or ()]
    return found


def test_it_is_shared_with_its_logs_and_programs(shared: Sharing, engine: docker.DockerClient) -> None:
    one = shared.join()
    two = shared.join()
    assert one.id == two.id
    one.do("env.redis.client().set('greeting', 'hello')")
    one.kill()
    assert two.do("env.redis.client().get('greeting').decode()") == "hello"
    assert two.started["runtime"] == "docker"
    # The engine takes in what a container writes a little later.
    assert until(lambda: "Ready to accept connections" in two.do("env.logs('redis')"))
    assert f"triton-{two.id}-redis" in two.do("env.program('redis', ['redis-cli', 'ping']).argv")
    assert left(engine, shared)
    two.stop()
    assert shared.is_gone()
    assert until(lambda: not left(engine, shared))


def test_after_the_keeper_was_killed_its_containers_go(shared: Sharing, engine: docker.DockerClient) -> None:
    user = shared.join()
    shared.kill_keeper()
    # The fixture sees that nothing is left.
    other = shared.join()
    assert other.id != user.id
    other.stop()


def test_an_image_that_is_not_there_is_the_same_error_for_all(shared: Sharing) -> None:
    users = [shared.begin(TRITON_PULL="never", REDIS_IMAGE="triton-env/there-is-none:1") for _ in range(2)]
    heard = [user.wait_until_started().started for user in users]
    assert {each["error"] for each in heard} == {"ImageUnavailable"}
    assert all("triton-env/there-is-none:1" in each["text"] for each in heard)
    assert shared.is_gone()


@pytest.fixture
def image(engine: docker.DockerClient) -> Iterator[str]:
    """A name for the Redis image that this test may give to another image."""
    repository = f"triton-env/test-{token_hex(4)}"
    engine.images.get(os.environ["REDIS_IMAGE"]).tag(repository, "1")
    yield f"{repository}:1"
    engine.images.remove(f"{repository}:1")


@pytest.mark.long
def test_newcomers_get_another_one_when_the_image_changed(
    shared: Sharing, engine: docker.DockerClient, image: str
) -> None:
    user = shared.join(REDIS_IMAGE=image)
    assert shared.join(REDIS_IMAGE=image).id == user.id
    container = engine.containers.create(image)
    try:
        repository, _, tag = image.partition(":")
        container.commit(repository, tag)
    finally:
        container.remove(v=True, force=True)
    (folder,) = shared.folders()
    assert until(lambda: not (folder / "open").exists())
    other = shared.join(REDIS_IMAGE=image)
    assert other.id != user.id
    # Who has the old one keeps it.
    assert user.do("env.redis.client().ping()")
    for each in shared.users:
        each.stop()
    assert until(lambda: not left(engine, shared))
