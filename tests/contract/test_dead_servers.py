"""A server that dies in use: what the environment says of it, wherever one meets it."""

import asyncio
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import clickhouse_connect
import docker
import psutil
import psycopg
import pytest
import redis
from botocore.exceptions import EndpointConnectionError

from patience import until
from projects import project
from shell_images import image_that_runs
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.errors import ServiceDied, ServiceExited
from triton_env.persistent.docker.containers import Project
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.embedded import server
from triton_env.services import SERVICES

# Each runtime starts all four services first.
pytestmark = pytest.mark.timeout(400)

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]
ENDS = {"docker": (137, "SIGKILL"), "embedded": (-9, "ended by signal 9 (SIGKILL)")}
"""By runtime, the exit status of a server that is killed, and how that is worded."""


def kill(env: TritonEnvironment, name: str) -> None:
    """Kill a server, and return when its port is closed."""
    if env.runtime == "docker":
        client = docker.from_env()
        try:
            client.containers.get(f"triton-{env.id}-{name}").kill()
        finally:
            client.close()
        return
    port = env.service(name).port
    (pid,) = (
        each.pid for each in psutil.net_connections("tcp4") if each.laddr.port == port and each.status == "LISTEN"
    )
    process = psutil.Process(pid)
    process.kill()
    process.wait(60)


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """An environment with namespaces in its pool, all of whose servers have been killed since."""
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")))
    with TritonEnvironment(settings, runtime=request.param) as environment:
        environment.namespace().close()
        pool = environment._isolation()._open().pool
        assert until(lambda: all(pool.counts().values()))
        for name in SERVICES:
            kill(environment, name)
        yield environment


def fill(namespace: Namespace) -> None:
    with namespace.postgres.connect() as connection:
        connection.execute("select 1")


async def connect(env: TritonEnvironment, name: str) -> None:
    match name:
        case "postgres":
            await env.postgres.aconnect()
        case "clickhouse":
            await env.clickhouse.aclient()
        case "redis":
            await env.redis.aclient().ping()  # type: ignore[misc]
        case "s3":
            await env.s3.aclient().list_buckets()


DRIVERS = {
    "postgres": psycopg.OperationalError,
    "clickhouse": clickhouse_connect.driver.exceptions.OperationalError,
    "redis": redis.ConnectionError,
    "s3": EndpointConnectionError,
}
CLIENTS: dict[str, Callable[[Any], object]] = {
    "postgres": lambda of: of.postgres.connect(),
    "clickhouse": lambda of: of.clickhouse.client(),
    "redis": lambda of: of.redis.client().ping(),
    "s3": lambda of: of.s3.client().list_buckets(),
}


def check(env: TritonEnvironment, error: ServiceDied, name: str) -> None:
    status, words = ENDS[env.runtime]
    assert error.service == name
    assert error.status == status
    assert error.at is not None
    assert error.what.startswith(f"{SERVICES[name].title} died at ")
    assert words in error.cause
    assert error.log_tail or name == "postgres"  # which may have said nothing
    assert "env.start()" in error.hint


@pytest.mark.parametrize("name", SERVICES)
def test_a_client_that_cannot_connect_says_that_the_server_died(env: TritonEnvironment, name: str) -> None:
    with pytest.raises(ServiceDied) as caught:
        CLIENTS[name](env)
    check(env, caught.value, name)
    # Programs may go by what the driver raises.
    assert isinstance(caught.value, DRIVERS[name])
    assert isinstance(caught.value.__cause__, DRIVERS[name] | OSError)


@pytest.mark.parametrize("name", SERVICES)
def test_so_does_an_asynchronous_one(env: TritonEnvironment, name: str) -> None:
    with pytest.raises(ServiceDied) as caught:
        asyncio.run(connect(env, name))
    check(env, caught.value, name)
    assert isinstance(caught.value, DRIVERS[name])


@pytest.mark.parametrize("name", SERVICES)
def test_so_does_one_of_a_namespace(env: TritonEnvironment, name: str) -> None:
    with pytest.raises(ServiceDied) as caught:
        CLIENTS[name](env.namespace(services=(name,)))
    check(env, caught.value, name)


def test_nothing_of_the_pool_is_used(env: TritonEnvironment) -> None:
    """On Docker its first use finds out: to ask the engine each time would take longer than all else."""
    with pytest.raises(ServiceDied):
        env.namespace().postgres  # noqa: B018
    with pytest.raises(ServiceDied):
        env.namespace()  # known by now


@pytest.mark.parametrize(
    "act",
    [
        lambda env: env.snapshot("one"),
        lambda env: env.reset(),
        lambda env: env.namespace(template=fill),
    ],
    ids=["snapshot", "reset", "template"],
)
def test_what_needs_all_servers_says_it(env: TritonEnvironment, act: Callable[[TritonEnvironment], object]) -> None:
    with pytest.raises(ServiceDied):
        act(env)


def test_what_is_known_of_it_can_be_asked_for(env: TritonEnvironment) -> None:
    deaths = env.deaths()
    assert deaths.keys() == set(SERVICES)
    for name, died in deaths.items():
        check(env, died, name)
        assert ENDS[env.runtime][1] in env.logs(name, 5).splitlines()[-1]
    assert f"({', '.join(env.services)} died)" in repr(env)
    assert env._repr_html_().count("died at ") == len(SERVICES)


@pytest.fixture
def small(embedded_packages: None, tmp_path: Path) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("postgres", "redis"), runtime="embedded") as environment:
        yield environment


def test_the_others_go_on(small: TritonEnvironment) -> None:
    kept = [small.namespace(services=("postgres",)) for _ in range(12)]
    kill(small, "postgres")
    assert small.namespace(services=("redis",)).redis.client().ping()
    assert small.deaths().keys() == {"postgres"}
    for each in kept:
        each.close()  # also where so many wait for their removal that it is done at once


def test_a_template_whose_function_killed_the_server(small: TritonEnvironment) -> None:
    def fatal(namespace: Namespace) -> None:
        kill(small, "postgres")
        raise ValueError("whatever the driver says then")

    with pytest.raises(ServiceDied) as caught:
        small.namespace(template=fatal)
    assert "whatever the driver says then" in "".join(traceback.format_exception(caught.value))


def test_a_lack_of_memory_is_reported_where_the_kernel_has_killed_for_it(
    small: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(small, "redis")
    assert "memory" not in small.deaths()["redis"].cause
    before = server.out_of_memory_kills()
    monkeypatch.setattr(server, "out_of_memory_kills", lambda: before + 1)
    assert "the kernel has killed processes for lack of memory since the start" in small.deaths()["redis"].cause


def test_servers_whose_guard_was_killed(small: TritonEnvironment) -> None:
    guard = psutil.Process(small._running().runtime.result()._guard._process.pid)  # type: ignore[attr-defined]
    servers = guard.children()
    guard.kill()
    psutil.wait_procs(servers, 60)
    assert until(small.deaths)
    for died in small.deaths().values():
        assert died.status is None
        assert "the guard of the servers was ended" in died.cause


def test_a_fork_can_tell_as_well(small: TritonEnvironment) -> None:
    kill(small, "redis")
    child = os.fork()
    if not child:
        try:
            with pytest.raises(ServiceDied):
                small.redis.client().ping()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_who_shares_it_learns_it_from_its_keeper(embedded_packages: None, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), triton_linger=0)
    with TritonEnvironment(settings, services=("redis", "postgres"), runtime="embedded", reuse=True) as environment:
        kill(environment, "redis")
        with pytest.raises(ServiceDied) as caught:
            environment.redis.client().ping()
        check(environment, caught.value, "redis")
        keeper = psutil.Process(int(environment._running().mode._part._instance.alive.read_text()))  # type: ignore[union-attr]
        keeper.kill()
        # A server that is on its way out may take one more connection.
        found: dict[str, ServiceDied] = {}
        assert until(lambda: found.update(environment.deaths()) or "postgres" in found)
        assert found["postgres"].cause == "the process that kept the environment has ended"


@pytest.mark.docker
def test_who_shares_it_on_docker_asks_the_engine(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), triton_linger=0)
    with TritonEnvironment(settings, services=("redis",), runtime="docker", reuse=True) as environment:
        kill(environment, "redis")
        with pytest.raises(ServiceDied) as caught:
            environment.redis.client().ping()
        check(environment, caught.value, "redis")


@pytest.mark.docker
def test_persistent_services_that_end_and_come_back(tmp_path: Path) -> None:
    values = {name: value for each in SERVICES.values() for name, value in each.fresh_credentials().items()}
    client = docker.from_env()
    try:
        with (
            project(triton_state_dir=str(tmp_path), **values) as settings,
            TritonEnvironment(settings, services=("redis",), persistent=True) as environment,
        ):
            (container,) = client.containers.list(
                filters={"label": f"com.docker.compose.project={settings.triton_project}"}
            )
            container.stop()
            with pytest.raises(ServiceDied) as caught:
                environment.redis.client().ping()
            assert "python -m triton_env up" in caught.value.hint
            container.start()
            assert until(lambda: not environment.deaths())
            assert until(lambda: _answers(environment))
    finally:
        client.close()


@pytest.mark.docker
@pytest.mark.parametrize(
    "script", ["echo hopeless; exit 3", pytest.param("echo hopeless; sleep 1; exit 3", marks=pytest.mark.long)]
)
def test_persistent_services_that_end_again_and_again_are_not_waited_for(script: str, tmp_path: Path) -> None:
    client = docker.from_env()
    image = image_that_runs(client, tmp_path, script)
    try:
        with project(redis_image=image, triton_redis_timeout=3600, triton_state_dir=str(tmp_path)) as settings:
            environment = TritonEnvironment(settings, services=("redis",), persistent=True)
            with pytest.raises(ServiceExited) as caught:
                environment.start()
        assert "exit code 3" in caught.value.cause
        assert "hopeless" in caught.value.log_tail
    finally:
        client.images.remove(image)
        client.close()


WRITES_MUCH_WHEN_RESTARTED = """
if [ -e /restarted ]; then seq 50 | sed 's/^/restarted /'; exec sleep 600; fi
touch /restarted
echo hopeless
exit 3"""


@pytest.mark.docker
def test_the_last_words_of_a_container_are_not_those_of_its_next_run(tmp_path: Path) -> None:
    client = docker.from_env()
    image = image_that_runs(client, tmp_path, WRITES_MUCH_WHEN_RESTARTED)
    try:
        container = client.containers.run(image, detach=True, restart_policy={"Name": "always"})
        try:
            assert until(lambda: b"restarted 50" in container.logs())
            with closing(Engine()) as engine:
                assert Project(engine, "any").last_words(container.id).split() == ["hopeless"]
        finally:
            container.remove(force=True, v=True)
    finally:
        client.images.remove(image)
        client.close()


def _answers(environment: TritonEnvironment) -> bool:
    try:
        return bool(environment.redis.client().ping())
    except Exception:
        return False


def test_a_healthy_server_is_not_looked_at(small: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = small._running().runtime.result()
    looks: list[str] = []
    real = type(runtime).ending

    def ending(self: Any, service: str, *, look: bool = True) -> Any:
        if look:
            looks.append(service)
        return real(self, service, look=look)

    monkeypatch.setattr(type(runtime), "ending", ending)
    with small.namespace() as namespace, namespace.postgres.connect() as connection:
        connection.execute("select 1")
        assert namespace.redis.client().ping()
    assert looks == []


def test_a_server_that_exits_by_itself(small: TritonEnvironment) -> None:
    small.redis.client().shutdown(nosave=True)  # which redis-py takes for done once it cannot connect
    assert until(small.deaths)
    assert small.deaths()["redis"].status == 0
    assert "exit code 0" in small.deaths()["redis"].cause
    assert signal.Signals(9).name not in small.deaths()["redis"].cause
