"""A server that is restarted: the same address and credentials, and an environment that is whole again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import lanes
from contract.test_dead_servers import kill
from patience import until
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.errors import ServiceDied, UsageError
from triton_env.services import SERVICES

pytestmark = pytest.mark.timeout(400)
RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """On Docker two services, where others are not needed: the others take seconds."""
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    quickest = request.param == "docker" and not lanes.is_long_among(request.session.items)
    names = ("postgres", "redis") if quickest else tuple(SERVICES)
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")))
    with TritonEnvironment(settings, services=names, runtime=request.param) as environment:
        yield environment


def fill(namespace: Namespace) -> None:
    namespace.redis.client().set("from", "the template")


def test_each_has_its_old_address_and_works(env: TritonEnvironment) -> None:
    before = env.environ()
    for name in env.services:
        env.restart(name)
        env.service(name).check_ready()
    assert env.environ() == before
    assert env.deaths() == {}


def test_one_that_died_is_as_good_as_new_for_namespaces_too(env: TritonEnvironment) -> None:
    with env.namespace(template=fill, services=("redis",)) as namespace:
        assert namespace.redis.client().get("from") == b"the template"
    pool = env._isolation()._open().pool
    assert until(lambda: all(pool.counts().values()))
    kill(env, "redis")
    with pytest.raises(ServiceDied):
        env.redis.client().ping()
    env.restart("redis")
    assert env.deaths() == {}
    # Those that were ready, and others that are made now: what they begin with was in the memory of the one that died.
    for _ in range(8):
        with env.namespace(template=fill, services=("redis",)) as namespace:
            assert namespace.redis.client().get("from") == b"the template"


@pytest.mark.usefixtures("embedded_packages")
def test_what_other_processes_keep_is_not_restarted_from_here(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), triton_runtime="embedded", triton_linger="0")
    with TritonEnvironment(settings, services=("redis",), reuse=True) as environment:
        with pytest.raises(UsageError, match="Redis is another process's server"):
            environment.restart("redis")
        assert environment.redis.client().ping()
        entry = environment.inspect()
    assert (entry.mode, entry.owner and entry.owner.held_by) == ("shared", "reuse")
