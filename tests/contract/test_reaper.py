"""Owners that are killed with SIGKILL leave nothing on the engine, and the belongings of others are not touched."""

import json
import os
import random
import socket
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import docker
import psutil
import pytest
from testcontainers.core.labels import LABEL_SESSION_ID, LABEL_TESTCONTAINERS

import forkserver
from belongings import are_there, belonging_to, gone_owner, machine_of_its_own, of_version_0_1
from patience import WAIT, until
from triton_env import TritonEnvironment
from triton_env.runtimes.docker import leftovers, reaper, reaper_cleanup
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, LABEL, Owner

pytestmark = pytest.mark.docker

RYUK_IMAGES = ("triton-env/standin-ryuk:0.8.1", "testcontainers/ryuk:0.8.1")
REAPERS = {Path(reaper.__file__).name, Path(reaper_cleanup.__file__).name, leftovers.__name__}


@pytest.fixture(scope="module")
def living() -> Iterator[TritonEnvironment]:
    """What has to be untouched by all that happens here."""
    with TritonEnvironment(services=("redis",), runtime="docker") as env:
        yield env
        assert env.redis.client().ping()


def belongings(engine: docker.DockerClient, label: str) -> list[str]:
    return [f"{each.kind} {each.name}" for each in leftovers.find_owned(engine.api, label)]


def of_environment(environment_id: str) -> str:
    return f"{ENVIRONMENT_LABEL}={environment_id}"


def reapers(environment_id: str) -> list[psutil.Process]:
    """The processes that wait for the end of an environment's owner, or clean up after it."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or ()
        if of_environment(environment_id) in command and REAPERS & {Path(word).name for word in command}:
            found.append(process)
    return [process for process in found if process.info["status"] != psutil.STATUS_ZOMBIE]


def wait_until_nothing_is_left(engine: docker.DockerClient, identifiers: list[str], *, patiently: bool = False) -> None:
    """Nothing on the engine and no process. These look for a while whether more turns up: `patiently` waits for it."""
    assert until(lambda: not left(engine, identifiers)), f"on the engine: {left(engine, identifiers)}"
    processes = [process for each in identifiers for process in reapers(each)]
    if not patiently:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
    assert until(lambda: not any(reapers(each) for each in identifiers)), "processes run on"
    assert left(engine, identifiers) == []


def left(engine: docker.DockerClient, identifiers: list[str]) -> list[str]:
    return [name for each in identifiers for name in belongings(engine, of_environment(each))]


@contextmanager
def owner(script: str, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[str] | forkserver.Forked"]:
    """A process that runs `script`, killed in the end."""
    process = forkserver.Popen(
        [
            sys.executable,
            "-c",
            "from triton_env import Settings, TritonEnvironment\n" + textwrap.dedent(script),
            *arguments,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str] | forkserver.Forked") -> str:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said, "it ended without a word"
    return said


@pytest.mark.parametrize(
    "delays",
    [
        pytest.param((0.2, 0.9), id="two"),
        pytest.param([random.uniform(0, 2.5) for _ in range(6)], id="at random", marks=pytest.mark.long),
    ],
)
def test_killed_at_any_moment_of_the_start(
    engine: docker.DockerClient, living: TritonEnvironment, delays: Sequence[float]
) -> None:
    script = """
        env = TritonEnvironment(services=("redis", "postgres"), lazy=True)
        import triton_env.runtimes.docker.containers
        from triton_env.runtimes.docker import reaper_cleanup
        # Engines here are soon done with what they were asked for, which is waited for below.
        reaper_cleanup.QUIET = 2.0
        env.start()
        print(env.id, flush=True)
        env.postgres, env.redis
        print("ready", flush=True)
        input()
    """
    identifiers = []

    def die(delay: float) -> None:
        with owner(script) as process:
            identifiers.append(line(process))
            time.sleep(delay)
            process.kill()

    threads = [threading.Thread(target=die, args=(delay,)) for delay in delays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(identifiers) == len(delays)
    wait_until_nothing_is_left(engine, identifiers, patiently=True)
    assert len(belongings(engine, of_environment(living.id))) >= 2


def test_killed_while_two_environments_run(engine: docker.DockerClient, living: TritonEnvironment) -> None:
    """With a volume. One of three was stopped before, and its reaper went with it. A fork of the owner lives on."""
    script = """
        import os, time
        settings = Settings(triton_storage="disk")
        three = [TritonEnvironment(settings, services=("redis",)) for _ in range(3)]
        for env in three:
            env.start()
            print(env.id, flush=True)
        three[0].stop()
        fork = os.fork()
        if not fork:
            os.close(0), os.close(1)
            time.sleep(300)
        print(fork, flush=True)
        input()
    """
    with owner(script) as process:
        stopped, *running = [line(process) for _ in range(3)]
        fork = psutil.Process(int(line(process)))
        try:
            assert belongings(engine, of_environment(stopped)) == []
            assert reapers(stopped) == []
            for each in running:
                kinds = [name.partition(" ")[0] for name in belongings(engine, of_environment(each))]
                assert sorted(kinds) == ["container", "network", "volume"]
                assert len(reapers(each)) == 1
            process.kill()
            wait_until_nothing_is_left(engine, running)
        finally:
            with suppress(psutil.NoSuchProcess):
                fork.kill()
    assert len(belongings(engine, of_environment(living.id))) >= 2


def test_nothing_is_left_after_a_normal_end(engine: docker.DockerClient) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        identifier = env.id
        (process,) = reapers(identifier)
    assert reapers(identifier) == []
    assert not process.is_running()
    assert left(engine, [identifier]) == []


class _Forwarder(socketserver.BaseRequestHandler):
    """Passes bytes on to the engine's socket, as an engine that listens on TCP."""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect("/var/run/docker.sock")
            back = threading.Thread(target=self._copy, args=(engine, self.request), daemon=True)
            back.start()
            self._copy(self.request, engine)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.skipif(not Path("/var/run/docker.sock").exists(), reason="the engine has another socket")
def test_an_engine_that_is_reached_over_tcp(engine: docker.DockerClient) -> None:
    script = """
        env = TritonEnvironment(services=("redis",)).start()
        print(env.id, flush=True)
        input()
    """

    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), _Forwarder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            with owner(script, DOCKER_HOST=f"tcp://127.0.0.1:{server.server_address[1]}") as process:
                identifier = line(process)
                process.kill()
                wait_until_nothing_is_left(engine, [identifier])
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def machine() -> Iterator[str]:
    """The start of another test process may not come before ours, nor its `prune`."""
    with machine_of_its_own() as name:
        yield name


def test_the_next_start_removes_what_is_left_and_touches_nothing_else(
    engine: docker.DockerClient, machine: str
) -> None:
    """The reaper was killed together with its owner."""
    script = """
        import socket, sys
        socket.gethostname = lambda: sys.argv[1]
        env = TritonEnvironment(Settings(triton_storage="disk"), services=("redis",)).start()
        print(env.id, flush=True)
        input()
    """
    with owner(script, machine) as process:
        identifier = line(process)
        (reaper_process,) = reapers(identifier)
        # The reaper first: it would see the owner go.
        reaper_process.kill()
        process.kill()
        process.wait()
        assert len(belongings(engine, of_environment(identifier))) == 3
    gone = gone_owner("0123abcd")
    with (
        belonging_to(engine, replace(gone, machine="m", boot="another").labels()) as of_another_machine,
        belonging_to(engine, replace(gone, boot="another").labels()) as from_before_a_restart,
        belonging_to(engine, replace(gone, host="elsewhere").labels()) as of_another_host,
        belonging_to(engine, replace(gone, uid=gone.uid + 1).labels()) as of_another_user,
        belonging_to(engine, replace(gone, namespace="1").labels()) as of_another_namespace,
        belonging_to(engine, Owner.this_process("0123abcd").labels()) as of_the_living,
        belonging_to(engine, of_version_0_1(gone)) as of_an_older_version,
        belonging_to(engine, {f"{LABEL}.project": "triton"}) as persistent,
        belonging_to(engine, {LABEL: "true"}) as of_nobody,
        TritonEnvironment(services=("redis",)) as env,
    ):
        wait_until_nothing_is_left(engine, [identifier])
        # The engine lists what is newest first, so this went after the others were looked at.
        swept = from_before_a_restart if gone.machine and gone.boot else ()
        assert until(lambda: not any(are_there(swept))), "what a restart of the machine left is there"
        for kept in (
            of_another_machine,
            of_another_host,
            of_another_user,
            of_another_namespace,
            of_the_living,
            of_an_older_version,
            persistent,
            of_nobody,
        ):
            assert all(are_there(kept))
        assert env.redis.client().ping()


@pytest.fixture
def ryuk_image(engine: docker.DockerClient) -> str:
    """A stand-in that speaks its protocol where that was built, else the official one."""
    for image in RYUK_IMAGES:
        with suppress(docker.errors.ImageNotFound):
            engine.images.get(image)
            return image
    try:
        engine.images.pull(RYUK_IMAGES[-1])
    except docker.errors.APIError as error:
        words = f"there is none of the images {', '.join(RYUK_IMAGES)}: {error.explanation}"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    return RYUK_IMAGES[-1]


def ryuk_variables(image: str) -> dict[str, str]:
    """With which a process has Ryuk, which does not wait longer than it has to for its process to come back."""
    variables = {"RYUK_CONTAINER_IMAGE": image, "TESTCONTAINERS_RYUK_DISABLED": "false"}
    return variables | {"RYUK_RECONNECTION_TIMEOUT": "1s"}


class TestRyuk:
    def test_it_removes_what_its_process_left_also_what_is_not_ours(
        self, engine: docker.DockerClient, ryuk_image: str
    ) -> None:
        """The reaper is killed with the owner, so it is Ryuk that does it."""
        script = """
            import json
            from testcontainers.core.container import DockerContainer
            from testcontainers.core.labels import SESSION_ID
            settings = Settings(triton_storage="disk")
            env = TritonEnvironment(settings, services=("redis",)).start()
            with DockerContainer(settings.redis_image) as users:
                print(json.dumps([env.id, SESSION_ID, users._container.id]), flush=True)
                input()
        """
        with owner(script, **ryuk_variables(ryuk_image)) as process:
            identifier, session, users = json.loads(line(process))
            session_label = f"{LABEL_SESSION_ID}={session}"
            ours = {
                f"{each.kind} {each.name}": each
                for each in leftovers.find_owned(engine.api, of_environment(identifier))
            }
            kinds = sorted(each.kind for each in ours.values())
            assert kinds == ["container", "network", "volume"]
            # All of it is Ryuk's to remove, and so is the user's own container.
            assert set(ours) < set(belongings(engine, session_label))
            assert engine.containers.get(users).labels[LABEL_SESSION_ID] == session
            ryuk = engine.containers.get(f"testcontainers-ryuk-{session}")
            (reaper_process,) = reapers(identifier)
            reaper_process.kill()
            process.kill()
        assert until(lambda: not belongings(engine, session_label)), "Ryuk left something"
        assert belongings(engine, of_environment(identifier)) == []
        assert until(lambda: are_there((ryuk,)) == [False]), "Ryuk runs on"

    @pytest.mark.long
    def test_both_work_side_by_side_and_a_normal_end_leaves_neither(
        self, engine: docker.DockerClient, ryuk_image: str
    ) -> None:
        script = """
            from testcontainers.core.labels import SESSION_ID
            with TritonEnvironment(services=("redis",)) as env:
                print(env.id, flush=True)
                print(SESSION_ID, flush=True)
                if input() == "die":
                    import os
                    os.kill(os.getpid(), 9)
        """
        for word in ("die", "end"):
            with owner(script, **ryuk_variables(ryuk_image)) as process:
                identifier, session = line(process), line(process)
                process.communicate(f"{word}\n", timeout=WAIT)
            wait_until_nothing_is_left(engine, [identifier])
            ryuk = f"container testcontainers-ryuk-{session}"
            assert until(lambda ryuk=ryuk: ryuk not in belongings(engine, LABEL_TESTCONTAINERS)), "Ryuk runs on"


def test_containers_of_a_cluster_on_the_same_engine_are_for_the_cluster_to_remove(engine: docker.DockerClient) -> None:
    # As the node gives the labels of a pod to its containers.
    labels = {LABEL: "true", ENVIRONMENT_LABEL: "c0ffee01"}
    with belonging_to(engine, {**labels, "io.kubernetes.pod.uid": "4711"}), belonging_to(engine, labels) as ours:
        found = [
            each.name
            for each in leftovers.find_owned(engine.api, of_environment("c0ffee01"))
            if each.kind == "container"
        ]
        assert found == [ours[0].attrs["Name"]]
