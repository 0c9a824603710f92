"""A server that lives and answers nothing: a container that is paused, a process that is stopped by a signal.

It accepts connections, and some clients wait for its answers without end.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import docker
import psutil
import pytest

from patience import SECONDS, until
from triton_env import Settings, TritonEnvironment
from triton_env.core.ending import Ending
from triton_env.core.model import Endpoint, Placement
from triton_env.errors import IsolationFailed, ServiceDied
from triton_env.isolation import parts
from triton_env.runtimes.docker.engine import Engine
from triton_env.services import SERVICES
from triton_env.services.redis import isolation as redis_isolation

pytestmark = pytest.mark.timeout(400)

HeldUp = Callable[[TritonEnvironment, str], AbstractContextManager[str]]


@pytest.fixture(autouse=True)
def looked_at_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LOOK_INTERVAL", 0.5)


@contextmanager
def stopped(env: TritonEnvironment, name: str) -> Iterator[str]:
    """Stop the process of a server; the block gets the command that has it go on."""
    port = env.service(name).port
    listening = [each for each in psutil.net_connections("tcp4") if each.status == "LISTEN" and each.pid]
    (pid,) = {each.pid for each in listening if each.laddr.port == port}
    os.kill(pid, signal.SIGSTOP)
    try:
        yield f"kill -CONT {pid}"
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def paused(env: TritonEnvironment, name: str) -> Iterator[str]:
    """Pause the container of a server; the block gets the command that has it go on.

    Nothing else may be started in it at that moment, such as a health check: the engine would wait for that for ever.
    """
    client = docker.from_env(timeout=SECONDS * 10)
    try:
        container = client.containers.get(f"triton-{env.id}-{name}")
        assert "Health" not in container.attrs["State"]

        def becomes(status: str, change: Callable[[], None]) -> bool:
            with suppress(docker.errors.APIError):  # runc gives up on a busy machine
                change()
            container.reload()
            return bool(container.status == status)

        try:
            assert until(lambda: becomes("paused", container.pause))
            yield f"docker unpause {container.name}"
        finally:
            assert until(lambda: becomes("running", container.unpause))
    finally:
        client.close()


@contextmanager
def stopped_container(env: TritonEnvironment, name: str) -> Iterator[str]:
    """Stop the first process of a server's container; the block gets the command that has it go on."""
    client = docker.from_env()
    try:
        container = client.containers.get(f"triton-{env.id}-{name}")
        container.kill("SIGSTOP")
        try:
            yield f"docker kill -s CONT {container.name}"
        finally:
            container.kill("SIGCONT")
    finally:
        client.close()


def check(env: TritonEnvironment, name: str, hold_up: HeldUp, words: str) -> None:
    """See that each use of a server that is held up says so, and that all is well afterwards."""
    # The connections are there by then, on which a client waits longer than for a new one.
    env.namespace(f"{name}_before", services=(name,)).close()
    with hold_up(env, name) as command:
        for act in (lambda: env.namespace(name, services=(name,)), lambda: env.snapshot("one")):
            with pytest.raises(ServiceDied) as caught:
                act()
            error = caught.value
            assert error.what == f"{SERVICES[name].title} {words}."
            assert error.hint == command
            assert error.lives
            assert error.service == name
        assert f"({name} {words})" in repr(env)
        assert env.deaths().keys() == {name}
    with env.namespace(name, services=(name,)):
        assert env.deaths() == {}
    assert words not in repr(env)


@pytest.mark.docker
@pytest.mark.long_on("postgres")
@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_paused_container_is_named_with_the_command_that_has_it_go_on(name: str, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=(name,), runtime="docker") as env:
        check(env, name, paused, "is paused")


@pytest.mark.docker
def test_a_stopped_container_is_named_with_the_command_that_has_it_go_on(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("postgres", "redis"), runtime="docker") as env:
        check(env, "redis", stopped_container, "is stopped by a signal")
        # Here it is the process that lets clients in; those that are in go on.
        with stopped_container(env, "postgres") as command, pytest.raises(ServiceDied) as caught:
            env.postgres.connect(connect_timeout=2)
        assert caught.value.what == "PostgreSQL is stopped by a signal."
        assert caught.value.hint == command
        with env.postgres.connect():
            pass


@pytest.mark.docker
def test_a_stopped_process_below_the_init_of_a_container_goes_on_by_the_hint() -> None:
    client, engine = docker.from_env(), Engine()
    image = Settings().redis_image
    container = client.containers.run(image, ["redis-server"], init=True, detach=True, ports={"6379": None})

    def ending() -> Ending | None:
        container.reload()
        (published,) = container.ports["6379/tcp"][:1]
        placement = Placement({"redis": Endpoint(engine.addresses(Settings()).host, int(published["HostPort"]))})
        return engine.ending(container.name, placement, where="here", hint="start it anew")

    def process() -> str:
        """The number of the server's in the container."""
        script = "grep -l redis-server /proc/[0-9]*/comm | cut -d / -f 3"
        return str(container.exec_run(["sh", "-c", script]).output.decode().strip())

    try:
        assert until(process)
        assert ending() is None
        assert container.exec_run(["sh", "-c", f"kill -STOP {process()}"]).exit_code == 0
        held_up = ending()
        assert held_up is not None
        assert held_up.held_up == "is stopped by a signal"
        assert held_up.hint.startswith("docker exec ")
        subprocess.run(held_up.hint, shell=True, check=True)
        assert ending() is None
    finally:
        container.remove(force=True, v=True)
        engine.close()
        client.close()


@pytest.fixture
def embedded(embedded_packages: None, tmp_path: Path) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("clickhouse", "redis", "s3"), runtime="embedded") as env:
        yield env


def test_a_stopped_process_is_named_with_the_command_that_has_it_go_on(embedded: TritonEnvironment) -> None:
    for name in embedded.services:
        check(embedded, name, stopped, "is stopped by a signal")


def test_who_shares_an_environment_learns_it_as_well(embedded_packages: None, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), triton_linger=0)
    with TritonEnvironment(settings, services=("redis",), runtime="embedded", reuse=True) as env:
        check(env, "redis", stopped, "is stopped by a signal")


def test_a_server_that_hangs_for_a_reason_that_is_not_known_is_waited_for_once(
    embedded: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its namespace is removed by the next sweep, and not at once, which would be waited for as long again."""
    asked: list[str] = []
    monkeypatch.setattr(redis_isolation, "_TIMEOUT", 1)
    monkeypatch.setattr(psutil, "STATUS_STOPPED", "unknown")
    real = redis_isolation._connection
    monkeypatch.setattr(redis_isolation, "_connection", lambda service: asked.append("redis") or real(service))
    with stopped(embedded, "redis"), pytest.raises(IsolationFailed, match="Redis could not"):
        embedded.namespace("one", services=("redis",))
    assert asked == ["redis"]
    isolator = embedded._isolation()._open()
    isolator.spaces.sweep()
    with embedded.namespace("one", services=("redis",)):
        pass
