"""When something is wrong with the engine, an image, a port or a server: the right error, and nothing left behind."""

import gc
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from shell_images import image_that_runs
from triton_env import Settings, TritonEnvironment
from triton_env.errors import (
    EngineUnreachable,
    ImageUnavailable,
    LocalStackTokenRequired,
    PortTaken,
    ResourceExhausted,
    ServiceExited,
    ServiceNotReady,
    TritonError,
)
from triton_env.runtimes.docker import containers, service_container
from triton_env.runtimes.owner import LABEL
from triton_env.runtimes.ports import free_port

pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def nothing_is_left(engine: docker.DockerClient) -> Iterator[None]:
    def ours() -> set[str]:
        filters = {"label": f"{LABEL}.owner.pid={os.getpid()}"}
        return {item["Id"] for item in engine.api.containers(all=True, filters=filters)} | {
            item["Id"] for item in engine.api.networks(filters=filters)
        }

    before = ours()
    yield
    assert ours() <= before


def failure(settings: Settings, *services: str) -> TritonError:
    with pytest.raises(TritonError) as caught, TritonEnvironment(settings, services=services):
        pass
    message = str(caught.value)
    assert len(message.splitlines()) <= 24, message
    assert max(map(len, message.splitlines())) <= 120, message
    for secret in (settings.postgres_password, settings.aws_secret_access_key):
        assert secret.get_secret_value() not in message or len(secret.get_secret_value()) < 5
    return caught.value


def test_absent_image_is_named_with_its_variable() -> None:
    error = failure(Settings(redis_image="triton-env/absent:1"), "redis", "postgres")
    assert isinstance(error, ImageUnavailable)
    assert "triton-env/absent:1" in error.what
    assert error.where == "REDIS_IMAGE"
    assert error.cause
    assert "docker pull triton-env/absent:1" in error.hint


def test_absent_image_is_not_pulled_where_that_is_forbidden() -> None:
    error = failure(Settings(redis_image="triton-env/absent:1", triton_pull="never"), "redis")
    assert isinstance(error, ImageUnavailable)
    assert "TRITON_PULL" in error.cause


def test_one_name_with_testcontainers_prefix(engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up, created and reported under that name, and pulled under it."""
    name = f"redis-{uuid4().hex}"
    image = engine.images.get(Settings().redis_image)
    monkeypatch.setenv("TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX", "registry.invalid/hub/")
    image.tag("registry.invalid/hub/" + name, "1")
    try:
        settings = Settings(redis_image=f"{name}:1", triton_pull="never")
        with TritonEnvironment(settings, services=("redis",)) as env:
            container = engine.containers.get(f"triton-{env.id}-redis")
            assert container.attrs["Config"]["Image"] == f"registry.invalid/hub/{name}:1"
    finally:
        engine.images.remove(f"registry.invalid/hub/{name}:1")
    error = failure(Settings(redis_image=f"{name}:1"), "redis")
    assert isinstance(error, ImageUnavailable)
    assert f"registry.invalid/hub/{name}:1" in error.what
    assert "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX" in error.where


def test_newer_localstack_without_a_token_is_refused_before_anything_starts(engine: docker.DockerClient) -> None:
    error = failure(Settings(localstack_image="localstack/localstack:latest"), "s3")
    assert isinstance(error, LocalStackTokenRequired)
    assert "LOCALSTACK_AUTH_TOKEN" in error.hint


def test_exit_at_start_is_noticed_long_before_the_timeout(tmp_path: Path, engine: docker.DockerClient) -> None:
    script = "echo my password is $REDIS_PASSWORD; echo 'FATAL: nothing works' >&2; exit 3"
    image = image_that_runs(engine, tmp_path, script)
    error = failure(Settings(redis_image=image, triton_redis_timeout=3600), "redis", "postgres")
    assert isinstance(error, ServiceExited)
    assert "exit code 3" in error.cause
    assert "FATAL: nothing works" in error.log_tail
    assert "my password is ***" in error.log_tail
    assert "triton-" in error.where


def test_server_that_never_answers_times_out_with_the_last_cause(
    tmp_path: Path, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_that_runs(engine, tmp_path, "echo 'still thinking'; exec sleep 600")
    wait_until_ready = service_container.wait_until_ready

    def once_it_has_spoken(*arguments: Any, **options: Any) -> int:
        (container,) = engine.containers.list(filters={"ancestor": image})
        deadline = time.monotonic() + 200
        while not container.logs():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return wait_until_ready(*arguments, **options)

    # The two seconds begin then, since its words are looked for in the error.
    monkeypatch.setattr(service_container, "wait_until_ready", once_it_has_spoken)
    error = failure(Settings(redis_image=image, triton_redis_timeout=2), "redis")
    assert isinstance(error, ServiceNotReady)
    assert "after 2 s" in error.what
    assert error.cause
    assert "status running" in error.where
    assert "still thinking" in error.log_tail
    assert "TRITON_REDIS_TIMEOUT" in error.hint


def test_fixed_port_taken_by_a_process_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        error = failure(Settings(triton_ports="fixed", redis_port=port), "redis")
    assert isinstance(error, PortTaken)
    assert str(port) in error.what
    assert "python" in error.what
    assert "TRITON_PORTS=random" in error.hint


def test_fixed_port_taken_by_a_container_names_it() -> None:
    with TritonEnvironment(services=("redis",)) as env:
        error = failure(Settings(triton_ports="fixed", redis_port=env.redis.port), "redis")
        assert isinstance(error, PortTaken)
        assert f"triton-{env.id}-redis" in error.what


def test_fixed_ports_are_used_where_asked_for() -> None:
    # At an address of its own, where no other program takes the port before the engine does.
    address = "127.0.0.3"
    port = free_port(address)
    settings = Settings(triton_ports="fixed", triton_bind_address=address, redis_port=port)
    with TritonEnvironment(settings, services=("redis",)) as env:
        assert env.redis.port == port
        assert env.redis.client().ping() is True


def test_random_port_that_is_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        picks = iter([server.getsockname()[1]])
        pick = containers.free_port
        monkeypatch.setattr(containers, "free_port", lambda bind: next(picks, None) or pick(bind))
        with TritonEnvironment(services=("redis",)) as env:
            assert env.redis.port != server.getsockname()[1]
            assert env.redis.client().ping() is True


def test_no_engine() -> None:
    script = "from triton_env import TritonEnvironment\nTritonEnvironment(runtime='docker').start()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"DOCKER_HOST": "unix:///nonexistent/docker.sock", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert EngineUnreachable.__name__ in done.stderr
    assert "hint:" in done.stderr


@pytest.fixture(autouse=True)
def _built_images(engine: docker.DockerClient) -> Iterator[None]:
    yield
    for image in engine.images.list(filters={"label": f"org.triton-env.test-image={os.getpid()}"}):
        engine.images.remove(image.id, force=True)


@contextmanager
def few_threads(spare: int) -> Iterator[None]:
    """No more than so many threads can be started."""
    start = threading.Thread.start
    started = []

    def counted(thread: threading.Thread) -> None:
        if len(started) >= spare:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(threading.Thread, "start", counted)
        yield


@contextmanager
def few_files(spare: int) -> Iterator[None]:
    """No more than so many descriptors are free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/dev/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "spares",
    [(0, 3, 8, 60), pytest.param((0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 24, 60), marks=pytest.mark.long)],
    ids=["some", "many"],
)
@pytest.mark.parametrize("shortage", [few_threads, few_files])
def test_whatever_has_run_out_nothing_is_left(
    shortage: Callable[[int], AbstractContextManager[None]], spares: Sequence[int]
) -> None:
    with TritonEnvironment(services=("redis",), runtime="docker") as env:  # what it imports is there then
        env.redis.client().ping()
    gc.collect()  # connections that nothing refers to any more
    outcomes = []
    for spare in spares:
        try:
            with shortage(spare), TritonEnvironment(services=("redis",), runtime="docker") as env:
                if spare == spares[-1]:  # with less, a client may itself lack what it needs
                    env.redis.client().ping()
        except ResourceExhausted as error:
            outcomes.append(str(error))
        else:
            outcomes.append("")
    assert all("file descriptor" in each or "thread" in each or not each for each in outcomes), outcomes
    assert outcomes[0]
    assert outcomes[-1] == ""
