"""An engine behind ssh: a session's ports come through the connection, which may be cut; nothing is left of it.

The engine is this machine's, behind a real sshd on loopback. Its ports are published at another address of loopback,
so that they are not taken for those that are forwarded.
"""

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import psutil
import pytest
import redis

import forkserver
from engine_proxy import EngineProxy, proxied_engine
from patience import WAIT, until
from ssh_server import SshServer, ssh_server
from triton_env import Settings, TritonEnvironment
from triton_env.backup import create
from triton_env.errors import CleanupFailed, EngineUnreachable, RuntimeUnavailable
from triton_env.persistent.docker.stack import DockerStack
from triton_env.runtimes.docker import tunnel, tunnel_guard
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.leftovers import find_owned
from triton_env.runtimes.owner import ENVIRONMENT_LABEL
from triton_env.runtimes.ports import free_port

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves the socket of a failed connection to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

SESSION = """
import sys
from triton_env import TritonEnvironment
env = TritonEnvironment(services=("redis",)).start()
print(env.id, env.redis.port, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture
def proxy(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    """What is between this process and sshd; DOCKER_HOST leads through it."""
    with proxied_engine(tcp=True, before=server.port) as standing:
        monkeypatch.setenv("PATH", server.path)
        monkeypatch.setenv("DOCKER_HOST", server.url(standing.port))
        yield standing
    gc.collect()


def left(engine: docker.DockerClient, environment: str) -> list[str]:
    return [each.name for each in find_owned(engine.api, f"{ENVIRONMENT_LABEL}={environment}")]


def guards(owner: int) -> list[psutil.Process]:
    """The processes that keep the connections of a process, with those of ssh."""
    name = Path(tunnel_guard.__file__).name
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if str(owner) in command and any(Path(word).name == name for word in command):
            found += [process, *process.children(recursive=True)]
    return found


@pytest.mark.usefixtures("proxy")
def test_ports_are_published_on_loopback_and_come_through_the_connection(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    with TritonEnvironment(Settings(triton_bind_address="127.0.0.9"), services=("redis", "postgres")) as env:
        assert env.redis.host == env.postgres.host == "127.0.0.1"
        assert env.redis.client().set("a", "b")
        ports = engine.containers.get(f"triton-{env.id}-redis").attrs["NetworkSettings"]["Ports"]
        ((published,),) = ports.values()
        assert published["HostIp"] == "127.0.0.9"
        # Programs in containers go through it as well.
        assert create(env, tmp_path / "a.backup").services
        (guard, *_) = guards(os.getpid())
        identifier = env.id
    assert left(engine, identifier) == []
    assert until(lambda: not guard.is_running()), "the connection is still there"


def test_a_connection_that_is_cut_comes_back_with_the_same_urls(
    engine: docker.DockerClient, proxy: EngineProxy
) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        url = env.redis.url
        env.redis.client().set("kept", "1")
        proxy.cut()
        assert until(lambda: not answers(env)), "it is not cut"
        with pytest.raises(EngineUnreachable) as caught:
            env.restart("redis")
        assert "ssh://" in caught.value.where
        proxy.come_back()
        assert until(lambda: answers(env)), "it does not come back"
        assert env.redis.url == url
        assert env.redis.client().get("kept") == b"1"
        # And the engine, which has what is asked of it.
        env.restart("redis")
        assert until(lambda: answers(env))
        identifier = env.id
    assert left(engine, identifier) == []


def answers(env: TritonEnvironment) -> bool:
    with suppress(OSError, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
        return bool(env.redis.client(socket_timeout=WAIT).ping())
    return False


def test_what_a_session_leaves_while_it_is_cut_is_removed_as_soon_as_it_is_back(
    engine: docker.DockerClient, proxy: EngineProxy
) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    identifier = env.id
    proxy.cut()
    with pytest.raises(CleanupFailed) as caught:
        env.stop()
    assert "ssh://" in caught.value.where
    assert left(engine, identifier)
    proxy.come_back()
    assert until(lambda: not left(engine, identifier)), "the container is forgotten"
    env.stop()


@pytest.mark.usefixtures("proxy")
def test_nothing_is_left_of_an_owner_that_is_killed(engine: docker.DockerClient) -> None:
    process = forkserver.Popen(
        [sys.executable, "-c", SESSION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    identifier, _ = process.stdout.readline().split()
    running = guards(process.pid)
    assert len(running) > 1, running
    folder = Path(running[0].cmdline()[6])
    assert (folder / tunnel_guard.ENGINE).is_socket()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=WAIT)
    assert until(lambda: not left(engine, identifier)), "the container is forgotten"
    assert until(lambda: not any(each.is_running() for each in running)), "ssh runs on"
    assert until(lambda: not folder.exists())


@pytest.fixture
def connection(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tunnel.Tunnel]:
    monkeypatch.setenv("PATH", server.path)
    made = tunnel.Tunnel(server.url())
    yield made
    made.end()


def test_answers_that_come_too_late_are_not_taken_for_others(
    connection: tunnel.Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = psutil.Process(connection._process.pid)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}:127.0.0.1:1"
        guard.suspend()
        with monkeypatch.context() as hasty:
            hasty.setattr(tunnel, "_REQUEST_TIMEOUT", 0.1)
            late = [connection.add(taken) for _ in range(2)]
        guard.resume()
        assert late == ["timed out"] * 2
        assert connection.add(f"127.0.0.1:{free_port('127.0.0.1')}:127.0.0.1:1") == ""
        assert "forwarding failed" in connection.add(taken)


def test_a_guard_that_has_to_be_killed_leaves_nothing(
    connection: tunnel.Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, *below = guards(os.getpid())
    guard.suspend()
    monkeypatch.setattr(tunnel, "_END_TIMEOUT", 0.1)
    connection.end()
    assert not connection.folder.exists()
    assert until(lambda: not any(each.is_running() for each in below)), "ssh runs on"


def test_a_host_that_is_not_known_is_an_error_with_the_words_of_ssh(
    server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", server.path)
    monkeypatch.setenv("DOCKER_HOST", f"ssh://nobody@127.0.0.1:{server.port}")
    monkeypatch.setattr(tunnel, "_OPTIONS", tunnel._OPTIONS | {"UserKnownHostsFile": "/dev/null"})
    with pytest.raises(EngineUnreachable) as caught:
        TritonEnvironment(services=("redis",), runtime="docker").start()
    assert caught.value.cause == "Host key verification failed."
    assert caught.value.where == os.environ["DOCKER_HOST"]
    assert f"-p {server.port} nobody@127.0.0.1 docker version" in caught.value.hint
    assert guards(os.getpid()) == []


@pytest.mark.usefixtures("proxy")
def test_a_socket_that_is_not_there_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"{os.environ['DOCKER_HOST']}/nonexistent/docker.sock")
    with pytest.raises(EngineUnreachable) as caught:
        Engine()
    assert caught.value.where == os.environ["DOCKER_HOST"]
    assert "open failed" in caught.value.cause
    assert guards(os.getpid()) == []


@pytest.mark.usefixtures("proxy")
def test_a_docker_context_leads_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = os.environ["DOCKER_HOST"]
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    made = subprocess.run(
        ["docker", "context", "create", "far", "--docker", f"host={url}"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "far"}))
    with engine_of_context() as found:
        assert found.url == url
        assert found.ask("/version")["ApiVersion"]


@contextmanager
def engine_of_context() -> Iterator[Engine]:
    engine = Engine()
    try:
        yield engine
    finally:
        engine.close()
        # Testcontainers writes it there.
        os.environ.pop("DOCKER_HOST", None)


@pytest.mark.usefixtures("proxy")
def test_persistent_services_are_refused_in_words() -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        DockerStack(Settings())
    assert "ssh://" in caught.value.where
    assert "python -m triton_env up" in caught.value.hint
    assert guards(os.getpid()) == []


def test_without_ssh_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("ssh") is None
    monkeypatch.setenv("DOCKER_HOST", "ssh://build.example")
    with pytest.raises(EngineUnreachable) as caught:
        Engine()
    assert "ssh is not on PATH" in caught.value.cause
