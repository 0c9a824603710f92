"""The address at which services answer, from every place where this process may find itself."""

import contextlib
import os
import select
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from typing import Any

import docker
import pytest

import forkserver
from triton_env import Settings, TritonEnvironment
from triton_env.runtimes.docker.address import possible_own_container_ids
from triton_env.runtimes.owner import LABEL

pytestmark = pytest.mark.docker

OF_REDIS = """
from triton_env import TritonEnvironment
with TritonEnvironment(services=("redis",)) as env:
    env.redis.client().ping()
    print("answered at", env.redis.host, env.redis.port)
"""
OF_REDIS_AND_S3 = """
from triton_env import Settings, TritonEnvironment
with TritonEnvironment(Settings(triton_s3_timeout=180), services=("redis", "s3")) as env:
    env.redis.client().ping()
    env.s3.client().head_bucket(Bucket=env.s3.bucket)
    print("answered at", env.redis.host, env.redis.port)
"""
"""Where the address is not this machine's loopback: S3 is asked by its name too, which is in its URLs."""

SHOW_PUBLISHED = """
    import docker
    container = docker.from_env().containers.get(f"triton-{env.id}-redis")
    (bindings,) = container.attrs["NetworkSettings"]["Ports"].values()
    print("published at", *(each["HostIp"] for each in bindings))
"""


@pytest.mark.long
def test_a_container_that_somebody_copies_from_is_not_taken_for_ones_own(engine: docker.DockerClient) -> None:
    before = possible_own_container_ids()
    looked = threading.Event()
    copied = 0
    with TritonEnvironment(services=("redis",)) as env:
        container = engine.containers.get(f"triton-{env.id}-redis")

        def copy() -> None:
            nonlocal copied
            while not looked.is_set():
                for _ in container.get_archive("/etc/os-release")[0]:
                    pass
                copied += 1

        thread = threading.Thread(target=copy)
        thread.start()
        found = {possible_own_container_ids()}
        # Copies are made as long as is looked, whichever of the two is the slower one.
        while copied < 10 and thread.is_alive():
            found.add(possible_own_container_ids())
        looked.set()
        thread.join()
    assert found == {before}


def engine_socket() -> str:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        pytest.skip(f"the engine is not on a local socket but at {host}")
    return host.removeprefix("unix://")


class _ToEngine(socketserver.BaseRequestHandler):
    """Carries the bytes of one connection to the engine's socket and back."""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(engine_socket())
            other = {self.request: upstream, upstream: self.request}
            while other:
                for source in select.select(list(other), [], [])[0]:
                    sink = other[source]
                    if data := source.recv(65536):
                        sink.sendall(data)
                    else:
                        return


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the test's business."""


@contextlib.contextmanager
def engine_over_tcp(address: str) -> Iterator[int]:
    """The engine's socket, made reachable over TCP at `address`; yields the port."""
    with _Proxy((address, 0), _ToEngine) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield proxy.server_address[1]
        finally:
            proxy.shutdown()
            serving.join()


@pytest.fixture
def bridge_address(engine: docker.DockerClient) -> Iterator[str]:
    """An address of this machine that is not loopback and that the outside does not reach: a bridge's of our own."""
    labels = {LABEL: "true", f"{LABEL}.owner.pid": str(os.getpid())}
    network = engine.networks.create(f"triton-test-{os.getpid()}", labels=labels)
    try:
        network.reload()
        yield network.attrs["IPAM"]["Config"][0]["Gateway"]
    finally:
        network.remove()


def run(script: str, **variables: str) -> str:
    done = forkserver.run(
        [sys.executable, "-c", script],
        env=dict(os.environ) | variables,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_local_engine_answers_on_loopback() -> None:
    assert run(OF_REDIS).startswith("answered at 127.0.0.1 ")


def test_engine_over_tcp_on_loopback_answers_on_loopback() -> None:
    with engine_over_tcp("127.0.0.1") as port:
        assert run(OF_REDIS, DOCKER_HOST=f"tcp://127.0.0.1:{port}").startswith("answered at 127.0.0.1 ")


@pytest.mark.long
def test_remote_engine_answers_at_its_own_address(bridge_address: str) -> None:
    """As remote as an engine can be made on one machine. Its ports are not published anywhere else."""
    with engine_over_tcp(bridge_address) as port:
        output = run(OF_REDIS_AND_S3 + SHOW_PUBLISHED, DOCKER_HOST=f"tcp://{bridge_address}:{port}")
    assert output.startswith(f"answered at {bridge_address} ")
    assert output.splitlines()[1] == f"published at {bridge_address}"


def test_bind_address_is_obeyed(engine: docker.DockerClient) -> None:
    settings = Settings(triton_bind_address="127.0.0.2")
    with TritonEnvironment(settings, services=("redis",)) as env:
        assert env.redis.host == "127.0.0.2"
        assert env.redis.client().ping() is True
        ports = engine.containers.get(f"triton-{env.id}-redis").attrs["NetworkSettings"]["Ports"]
        assert {binding["HostIp"] for bindings in ports.values() for binding in bindings or []} == {"127.0.0.2"}


def test_from_inside_a_container_beside_the_services(engine: docker.DockerClient) -> None:
    """This process in a container with the engine's socket: loopback is its own, the services answer elsewhere.

    The container sees this machine's files, so that it has the same Python, but has its own network.
    """
    path = engine_socket()
    command = ["chroot", "/machine", "env", "HOME=/tmp", *image_variables(), sys.executable, "-c", OF_REDIS_AND_S3]
    container = engine.containers.create(
        Settings().postgres_image,
        entrypoint=command,
        volumes={"/": {"bind": "/machine", "mode": "rw"}, path: {"bind": f"/machine{path}", "mode": "rw"}},
        # With this machine's process ids its /proc shows the container's own network and mounts.
        pid_mode="host",
        user="root",
        labels={LABEL: "true", f"{LABEL}.owner.pid": str(os.getpid())},
    )
    try:
        container.start()
        status = container.wait(timeout=200)["StatusCode"]
        output = container.logs().decode()
        assert status == 0, output
        assert "answered at 127." not in output
        assert "answered at " in output
    finally:
        container.remove(force=True, v=True)


def image_variables() -> list[str]:
    return [f"{name}={value}" for name, value in os.environ.items() if name.endswith("_IMAGE")]
