"""What is particular to a session on Docker: network, ports, labels, several at once, and cleaning up."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest
import redis

import forkserver
import lanes
from triton_env import Settings, TritonEnvironment
from triton_env.errors import ServiceNotSelected
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, LABEL, SERVICE_LABEL
from triton_env.services import SERVICES, Postgres

pytestmark = pytest.mark.docker

WAIT = 120
"""Seconds within which something has to happen. It takes some, and many times as long on a busy machine."""


@pytest.fixture(scope="module")
def env(warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm("docker")


@pytest.fixture(scope="module")
def other() -> Iterator[TritonEnvironment]:
    """A second environment beside `env`, with two of the services."""
    with TritonEnvironment(runtime="docker", services=("postgres", "redis")) as environment:
        yield environment


def belongings(engine: docker.DockerClient, label: str) -> list[str]:
    """The names of all containers, networks and volumes with a label."""
    filters = {"label": label}
    api = engine.api
    return [
        *(container["Names"][0] for container in api.containers(all=True, filters=filters)),
        *(network["Name"] for network in api.networks(filters=filters)),
        *(volume["Name"] for volume in api.volumes(filters=filters)["Volumes"] or []),
    ]


def of_environment(environment_id: str) -> str:
    return f"{ENVIRONMENT_LABEL}={environment_id}"


def container(engine: docker.DockerClient, env: TritonEnvironment, service: str) -> Any:
    return engine.containers.get(f"triton-{env.id}-{service}")


class TestNetwork:
    """`internal_url`s work for another container on the network, here with the client programs of the images."""

    def run(self, engine: docker.DockerClient, env: TritonEnvironment, image: str, *command: str) -> str:
        client = engine.containers.run(
            image,
            entrypoint=["sleep", "600"],
            network=f"triton-network-{env.id}",
            detach=True,
            labels={ENVIRONMENT_LABEL: env.id},
        )
        try:
            status, output = client.exec_run(list(command))
            assert status == 0, output
            return output.decode()
        finally:
            client.remove(force=True, v=True)

    def test_postgres(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        url = env.postgres.internal_url
        assert url is not None
        assert "@postgres:5432/" in url
        assert "42" in self.run(engine, env, env.settings.postgres_image, "psql", url, "-Atc", "select 42")

    def test_redis(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        url = urlsplit(env.redis.internal_url)
        assert (url.hostname, url.port) == ("redis", 6379)
        # Not -u URL: redis-cli 7.0 takes a URL without a user name for one with an empty user name.
        command = ("redis-cli", "-h", url.hostname, "-p", str(url.port), "--pass", url.password, "ping")
        assert "PONG" in self.run(engine, env, env.settings.redis_image, *command)

    def test_clickhouse(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        variables = env.clickhouse.environ(internal=True)
        url = "http://{CLICKHOUSE_HOST}:{CLICKHOUSE_HTTP_PORT}/?user={CLICKHOUSE_USER}".format(**variables)
        url += "&password={CLICKHOUSE_PASSWORD}&database={CLICKHOUSE_DB}&query=select+currentDatabase()".format(
            **variables
        )
        assert variables["CLICKHOUSE_HOST"] == "clickhouse"
        answer = self.run(engine, env, env.settings.clickhouse_image, "wget", "-qO-", url)
        assert answer.strip() == env.clickhouse.database

    def test_s3(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="inside", Body=b"seen", ACL="public-read")
        url = f"{env.s3.internal_url}/{env.s3.bucket}/inside"
        assert url.startswith("http://localstack:4566/")
        assert "seen" in self.run(engine, env, env.settings.localstack_image, "curl", "-sS", url)


class TestOwnership:
    def test_everything_is_labelled(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        names = belongings(engine, of_environment(env.id))
        assert {f"/triton-{env.id}-{service}" for service in env.services} <= set(names)
        assert f"triton-network-{env.id}" in names
        for service in env.services:
            labels = container(engine, env, service).labels
            assert labels[LABEL] == "true"
            assert labels[SERVICE_LABEL] == service
            assert labels[f"{LABEL}.owner.pid"] == str(os.getpid())
            assert labels[f"{LABEL}.owner.host"] == socket.gethostname()
            assert float(labels[f"{LABEL}.owner.started"]) <= time.time()
            assert Path(labels[f"{LABEL}.owner.project"]).is_absolute()

    def test_every_volume_is_labelled(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        for service in env.services:
            for mount in container(engine, env, service).attrs["Mounts"]:
                if mount["Type"] == "volume":
                    labels = engine.volumes.get(mount["Name"]).attrs["Labels"]
                    assert labels[ENVIRONMENT_LABEL] == env.id

    def test_ports_are_published_on_loopback_alone(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        for service in env.services:
            for bindings in container(engine, env, service).attrs["NetworkSettings"]["Ports"].values():
                assert {binding["HostIp"] for binding in bindings or []} <= {"127.0.0.1"}

    def test_password_is_in_no_process_list(self, env: TritonEnvironment) -> None:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        for password in (env.postgres.password, env.redis.password, env.clickhouse.password):
            assert password not in listed


class TestStorage:
    def test_small_services_live_in_memory(self, engine: docker.DockerClient, env: TritonEnvironment) -> None:
        assert container(engine, env, "postgres").attrs["HostConfig"]["Tmpfs"]
        with env.postgres.connect() as connection:
            assert connection.execute("show fsync").fetchone() == ("off",)

    @pytest.mark.long
    def test_s3_in_memory_does_not_survive_a_kill_of_the_container(
        self, engine: docker.DockerClient, env: TritonEnvironment
    ) -> None:
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="before", Body=b"1")
        assert "before" in keys(env)
        kill_s3(engine, env)
        assert keys(env) == set()


class TestDisk:
    @pytest.fixture(scope="class")
    @classmethod
    def one(cls, request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
        settings = Settings(triton_storage="disk")
        # LocalStack boots slowest. What it keeps is in `persistence`.
        s3 = ("s3",) if lanes.is_long_among(request.session.items) else ()
        with TritonEnvironment(settings, runtime="docker", services=("postgres", "redis", *s3)) as environment:
            yield environment

    @pytest.fixture
    def on_disk(self, one: TritonEnvironment) -> TritonEnvironment:
        """One environment for all of them, which one of them stops."""
        return one.start()

    def test_it_means_durable(self, engine: docker.DockerClient, on_disk: TritonEnvironment) -> None:
        with on_disk.postgres.connect() as connection:
            assert connection.execute("show fsync").fetchone() == ("on",)
        assert on_disk.redis.client().config_get("appendonly") == {"appendonly": "yes"}
        mounts = container(engine, on_disk, "postgres").attrs["Mounts"]
        assert [mount["Type"] for mount in mounts] == ["volume"]

    def test_port_and_data_survive_a_restart_of_the_container(
        self, engine: docker.DockerClient, on_disk: TritonEnvironment
    ) -> None:
        client = on_disk.redis.client(retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 900))
        client.set("before", "1")
        port = on_disk.redis.port
        container(engine, on_disk, "redis").restart()
        assert client.get("before") == b"1"
        assert on_disk.redis.port == port

    @pytest.mark.long
    def test_s3_survives_a_kill_of_the_container(self, engine: docker.DockerClient, on_disk: TritonEnvironment) -> None:
        on_disk.s3.client().put_object(Bucket=on_disk.s3.bucket, Key="before", Body=b"1")
        kill_s3(engine, on_disk)
        assert keys(on_disk) == {"before"}

    def test_volumes_go_with_the_environment(self, engine: docker.DockerClient, on_disk: TritonEnvironment) -> None:
        environment_id = on_disk.id
        mounts = [mount for name in on_disk.services for mount in container(engine, on_disk, name).attrs["Mounts"]]
        volumes = [mount["Name"] for mount in mounts if mount["Type"] == "volume"]
        assert len(volumes) >= len(on_disk.services)
        on_disk.stop()
        assert belongings(engine, of_environment(environment_id)) == []
        for volume in volumes:
            with pytest.raises(docker.errors.NotFound):
                engine.volumes.get(volume)


def kill_s3(engine: docker.DockerClient, env: TritonEnvironment) -> None:
    """Kill its container, start it again and wait until it works."""
    localstack = container(engine, env, "s3")
    localstack.kill()
    localstack.start()
    deadline = time.monotonic() + WAIT
    while True:
        try:
            env.s3.ensure_ready()
            break
        except Exception:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def keys(env: TritonEnvironment) -> set[str]:
    return {each["Key"] for each in env.s3.client().list_objects_v2(Bucket=env.s3.bucket).get("Contents", [])}


class TestSeveral:
    def test_two_environments_do_not_see_each_other(self, env: TritonEnvironment, other: TritonEnvironment) -> None:
        env.redis.client().set("mine", "1")
        assert other.redis.client().get("mine") is None
        assert env.postgres.password != other.postgres.password
        with pytest.raises(redis.AuthenticationError):
            other.redis.client(password=env.redis.password, retry=None).ping()

    @pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.long)])
    def test_many_at_once(self, engine: docker.DockerClient, count: int) -> None:
        def use(number: int) -> tuple[str, int, bytes | None]:
            with TritonEnvironment(Settings(triton_redis_timeout=WAIT), services=("redis",)) as env:
                client = env.redis.client()
                client.set("number", number)
                return env.id, env.redis.port, client.get("number")

        with ThreadPoolExecutor(count) as pool:
            results = list(pool.map(use, range(count)))
        assert [value for _, _, value in results] == [str(number).encode() for number in range(count)]
        assert len({identifier for identifier, _, _ in results}) == count
        assert all(belongings(engine, of_environment(identifier)) == [] for identifier, _, _ in results)

    def test_two_checkouts(self, engine: docker.DockerClient, tmp_path: Path) -> None:
        script = textwrap.dedent("""
            import sys
            from triton_env import TritonEnvironment
            with TritonEnvironment(services=("redis",)) as env:
                env.redis.client().set("from", sys.argv[1])
                print(env.id, flush=True)
                sys.stdin.readline()
                print(env.redis.client().get("from").decode(), flush=True)
        """)
        processes = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            processes.append(
                forkserver.Popen(
                    [sys.executable, "-c", script, name],
                    cwd=tmp_path / name,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        outputs = []
        for process in processes:
            assert process.stdout is not None
            outputs.append(process.stdout.readline().strip())
        projects = {
            engine.containers.get(f"triton-{identifier}-redis").labels[f"{LABEL}.owner.project"]
            for identifier in outputs
        }
        answers = [process.communicate("\n", timeout=WAIT)[0].strip() for process in processes]
        assert projects == {str(tmp_path / "one"), str(tmp_path / "two")}
        assert answers == ["one", "two"]

    def test_several_in_a_row_leave_nothing(self, engine: docker.DockerClient) -> None:
        ours = f"{LABEL}.owner.pid={os.getpid()}"
        before = set(belongings(engine, ours))
        identifiers = set()
        for _ in range(2):
            with TritonEnvironment(services=("redis",)) as env:
                identifiers.add(env.id)
        assert len(identifiers) == 2
        assert set(belongings(engine, ours)) == before


class TestSubsetAndLazy:
    def test_only_the_named_services_run(self, engine: docker.DockerClient, other: TritonEnvironment) -> None:
        running = [name for name in belongings(engine, of_environment(other.id)) if name.startswith("/")]
        assert sorted(running) == sorted([f"/triton-{other.id}-postgres", f"/triton-{other.id}-redis"])
        with pytest.raises(ServiceNotSelected):
            _ = other.s3

    def test_lazy_waits_on_first_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked = threading.Event()
        ensure_ready = Postgres.ensure_ready

        def not_before(postgres: Postgres) -> None:
            assert looked.wait(WAIT)
            ensure_ready(postgres)

        # However long it takes to come back from the start, and for Redis: PostgreSQL gets ready later.
        monkeypatch.setattr(Postgres, "ensure_ready", not_before)
        with TritonEnvironment(services=("redis", "postgres"), lazy=True) as env:
            assert env.timeline.ready_at("postgres") is None
            assert env.redis.client().ping() is True
            assert env.timeline.ready_at("postgres") is None
            looked.set()
            assert env.postgres.connect().close() is None
            assert env.timeline.ready_at("postgres") is not None

    def test_lazy_stopped_at_once_leaves_nothing(self, engine: docker.DockerClient) -> None:
        env = TritonEnvironment(lazy=True).start()
        identifier = env.id
        env.stop()
        assert belongings(engine, of_environment(identifier)) == []


SCRIPTS = {
    "an exception": "raise RuntimeError('from the body')",
    "exit without stop": "sys.exit(0)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)",
    "SIGHUP": "os.kill(os.getpid(), signal.SIGHUP); time.sleep(30)",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)",
}


STARTS = {
    "with": "with TritonEnvironment(services=('redis',)) as env:",
    "start": "env = TritonEnvironment(services=('redis',)).start()\nif True:",
}


@pytest.mark.parametrize(
    "end", ["SIGTERM", *(pytest.param(end, marks=pytest.mark.long) for end in SCRIPTS if end != "SIGTERM")]
)
def test_nothing_is_left_however_the_process_ends(engine: docker.DockerClient, end: str) -> None:
    """With a `with` block and without one, in two processes at once. Every way is in `unit.test_process_end`."""

    def run(start: str) -> "subprocess.CompletedProcess[str]":
        lines = ["import os, signal, sys, time", "from triton_env import TritonEnvironment", start]
        lines += ["    print(env.id, flush=True)", f"    {SCRIPTS[end]}"]
        return forkserver.run(
            [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=WAIT, check=False
        )

    with ThreadPoolExecutor(len(STARTS)) as pool:
        ended = dict(zip(STARTS, pool.map(run, STARTS.values()), strict=True))
    for start, done in ended.items():
        identifier = done.stdout.strip()
        assert len(identifier) == 8, f"{start}: {done.stderr}"
        assert belongings(engine, of_environment(identifier)) == [], start


MOMENTS = {("SIGINT", 0.5), ("SIGTERM", 1.2)}
"""Of the start, in which a signal comes also in the short run."""


@pytest.mark.parametrize(
    ("signal_name", "delay"),
    [
        pytest.param(name, delay, marks=() if (name, delay) in MOMENTS else pytest.mark.long)
        for name in ("SIGINT", "SIGTERM")
        for delay in (0.2, 0.5, 0.8, 1.2, 2.0)
    ],
)
def test_a_signal_at_a_moment_of_the_start_leaves_nothing(
    engine: docker.DockerClient, signal_name: str, delay: float
) -> None:
    services = tuple(SERVICES) if signal_name == "SIGINT" else ("postgres", "redis")
    script = textwrap.dedent(f"""
        import os, signal, threading, time
        from triton_env import TritonEnvironment
        from triton_env.errors import NotStarted
        import triton_env.runtimes.docker.containers
        env = TritonEnvironment(services={services})

        def kill():
            # Not before the start has an id, by which is looked for what it leaves.
            while True:
                try:
                    print(env.id, flush=True)
                    break
                except NotStarted:
                    time.sleep(0.001)
            os.kill(os.getpid(), signal.{signal_name})

        threading.Timer({delay}, kill).start()
        env.start()
        time.sleep(30)
    """)
    done = forkserver.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    identifier = done.stdout.strip()
    assert len(identifier) == 8, done.stderr
    assert done.returncode != 0
    assert belongings(engine, of_environment(identifier)) == []


@pytest.mark.parametrize("disabled", ["true", pytest.param("false", marks=pytest.mark.long)])
def test_works_without_ryuk(engine: docker.DockerClient, disabled: str) -> None:
    """Disabled, and asked for: where its image is absent the environment starts all the same."""
    # Two, which ask for Ryuk at the same time.
    services = ("redis",) if disabled == "true" else ("redis", "postgres")
    script = textwrap.dedent(f"""
        from triton_env import TritonEnvironment
        with TritonEnvironment(services={services}) as env:
            print(env.redis.client().ping(), env.id)
    """)
    variables = dict(os.environ) | {
        "TESTCONTAINERS_RYUK_DISABLED": disabled,
        "RYUK_CONTAINER_IMAGE": "triton-env/absent-ryuk:1",
    }
    done = forkserver.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=False, env=variables
    )
    answer, _, identifier = done.stdout.strip().partition(" ")
    assert answer == "True", done.stderr
    assert belongings(engine, of_environment(identifier)) == []
