"""The traps of the official images, on whatever images the tests run on.

Readiness probes and error messages of this project exist because of these. A stand-in without them would let a broken
probe pass, so each trap is shown here, against the contract and not against the stand-in: the tests hold on the
official images too.
"""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
import redis

from standins import recipes

# For changes to the stand-ins; whatever runs on them finds most of their faults.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600), pytest.mark.long]

LABEL = "org.triton-env.test=true"
# The temporary server of a first start lives for as long as the init files run: this one runs until it is told to end.
HOLD = "until [ -e /tmp/go ]; do sleep 0.05; done\n"
LOCALSTACK_OFFLINE = ("SERVICES=s3", "SKIP_SSL_CERT_DOWNLOAD=1", "DISABLE_EVENTS=1", "DNS_ADDRESS=0")
PATIENCE = 120
"""Seconds for what takes some on a machine that has time."""
T = TypeVar("T")


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    if check and done.returncode != 0:
        pytest.fail(f"docker {' '.join(arguments)} exited {done.returncode}: {done.stderr}")
    return done


def image_of(service: str) -> str:
    """The image that the environment names, else the stand-in, if it was built."""
    standin = recipes.STANDINS[service]
    named = os.environ.get(standin.variable)
    if named:
        return named
    if docker("image", "inspect", standin.tag, check=False).returncode != 0:
        pytest.fail(f"{standin.variable} is not set and {standin.tag} not built\nhint: python tests/standins/build.py")
    return standin.tag


@dataclass(frozen=True)
class Container:
    """A container of these tests."""

    name: str

    def run(self, *command: str, environment: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command inside; its failure is for the test to judge."""
        return docker("exec", *_pairs("--env", environment), self.name, *command, check=False)

    def succeeds(self, *command: str) -> bool:
        return self.run(*command).returncode == 0

    def port(self, inner: int) -> int:
        """The port on 127.0.0.1 that leads to the container's port."""
        return int(docker("port", self.name, f"{inner}/tcp").stdout.split(":")[-1])

    def logs(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def exit_code(self) -> int:
        """Wait for its end."""
        deadline = time.monotonic() + PATIENCE
        while self.is_running():
            if time.monotonic() > deadline:
                pytest.fail(f"the container did not end\n{self.logs()[-3000:]}")
            time.sleep(0.05)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)

    def is_running(self) -> bool:
        return docker("inspect", "--format", "{{.State.Running}}", self.name).stdout.strip() == "true"


def _pairs(option: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (option, value)]


@contextmanager
def container(
    image: str,
    *command: str,
    environment: tuple[str, ...] = (),
    ports: tuple[int, ...] = (),
    options: tuple[str, ...] = (),
    files: dict[str, Path] | None = None,
) -> Iterator[Container]:
    """A running container, gone afterwards with its volumes."""
    name = f"triton-env-test-{uuid.uuid4().hex[:12]}"
    published = _pairs("--publish", tuple(f"127.0.0.1::{port}" for port in ports))
    labelled = ("--name", name, "--label", LABEL)
    try:
        docker("create", *labelled, *_pairs("--env", environment), *published, *options, image, *command)
        for target, source in (files or {}).items():
            docker("cp", str(source), f"{name}:{target}")
        docker("start", name)
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name, check=False)


def eventually(box: Container, what: str, attempt: Callable[[], T]) -> T:
    """The first true answer of `attempt`, while the container lives."""
    deadline = time.monotonic() + PATIENCE
    cause: object = None
    while time.monotonic() < deadline and box.is_running():
        try:
            answer = attempt()
        except (OSError, psycopg.OperationalError, redis.ConnectionError) as error:
            cause = error
        else:
            if answer:
                return answer
            cause = answer
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen; last: {cause!r}\n{box.logs()[-3000:]}")


def get(url: str, data: bytes | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=PATIENCE) as answer:
        return answer.read().decode()


def programs(box: Container, *names: str) -> set[str]:
    """Which of the programs the image has."""
    script = "for name in " + " ".join(names) + '; do command -v "$name" > /dev/null && echo "$name"; done; true'
    return set(box.run("sh", "-c", script).stdout.split())


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("init") / "hold.sh"
    script.write_text(HOLD)
    script.chmod(0o644)
    return script


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"triton-env-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", "--label", LABEL, name)
    yield name
    docker("volume", "rm", "--force", name)


class TestPostgres:
    @pytest.fixture(scope="class")
    @classmethod
    def held(cls, callers_choice: Mapping[str, str], hold: Path) -> Iterator[Container]:
        """In its first start, where it stays until it is released."""
        files = {"/docker-entrypoint-initdb.d/hold.sh": hold}
        environment = ("POSTGRES_PASSWORD=secret",)
        with container(image_of("postgres"), "-c", "fsync=off", environment=environment, files=files) as box:
            yield box

    @pytest.fixture(scope="class")
    @classmethod
    def box(cls, held: Container) -> Container:
        """The same, past its first start."""
        held.run("touch", "/tmp/go")
        return held

    def test_first_server_answers_on_the_socket_while_tcp_refuses(self, held: Container) -> None:
        eventually(held, "the temporary server", lambda: held.succeeds("pg_isready"))
        assert not held.succeeds("pg_isready", "-h", "127.0.0.1")
        held.run("touch", "/tmp/go")
        eventually(held, "the real server", lambda: held.succeeds("pg_isready", "-h", "127.0.0.1"))
        # The engine may be behind with what a container writes.
        ready = "database system is ready to accept connections"
        eventually(held, "the second of two servers in the log", lambda: held.logs().count(ready) == 2)

    def test_pg_isready_checks_neither_user_nor_database(self, box: Container) -> None:
        probe = ("pg_isready", "-h", "127.0.0.1", "-U", "stranger", "-d", "nothing")
        eventually(box, "readiness", lambda: box.succeeds(*probe))

    def test_empty_password_exits_1(self) -> None:
        with container(image_of("postgres"), environment=("POSTGRES_PASSWORD=",)) as box:
            assert box.exit_code() == 1
            assert "POSTGRES_PASSWORD" in box.logs()

    def test_changed_password_and_database_have_no_effect_on_an_old_volume(self, volume: str) -> None:
        # Where the data is kept depends on the major version.
        paths = docker("image", "inspect", "--format", "{{json .Config.Volumes}}", image_of("postgres")).stdout
        (declared,) = json.loads(paths)

        def start(password: str, database: str) -> AbstractContextManager[Container]:
            environment = (f"POSTGRES_PASSWORD={password}", f"POSTGRES_DB={database}")
            options = ("--volume", f"{volume}:{declared}")
            return container(image_of("postgres"), environment=environment, ports=(5432,), options=options)

        def connect(box: Container, password: str, database: str) -> bool:
            address = {"host": "127.0.0.1", "port": box.port(5432), "user": "postgres", "connect_timeout": PATIENCE}
            with psycopg.connect(**address, password=password, dbname=database):
                return True

        with start("first", "one") as box:
            eventually(box, "the first start", lambda: connect(box, "first", "one"))
            docker("stop", "--time", str(PATIENCE), box.name)
        with start("second", "two") as box:
            eventually(box, "the second start", lambda: connect(box, "first", "one"))
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(box, "second", "one")
            with pytest.raises(psycopg.OperationalError, match='database "two" does not exist'):
                connect(box, "first", "two")

    def test_arguments_reach_the_server(self, box: Container) -> None:
        ask = ("psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc", "SHOW fsync")
        assert eventually(box, "an answer", lambda: box.run(*ask).stdout.strip()) == "off"

    def test_programs(self, box: Container) -> None:
        asked = ("bash", "sh", "wget", "psql", "pg_isready", "curl")
        assert programs(box, *asked) == {"bash", "sh", "wget", "psql", "pg_isready"}


class TestRedis:
    @pytest.fixture(scope="class")
    @classmethod
    def box(cls, callers_choice: Mapping[str, str]) -> Iterator[Container]:
        with container(image_of("redis"), ports=(6379,)) as box:
            yield box

    def test_open_without_a_password(self, box: Container) -> None:
        with redis.Redis(host="127.0.0.1", port=box.port(6379), decode_responses=True) as client:
            assert eventually(box, "readiness", client.ping) is True
            assert client.config_get("protected-mode") == {"protected-mode": "no"}

    def test_ping_without_the_password_is_no_pong_though_the_command_succeeds(self) -> None:
        with container(image_of("redis"), "--requirepass", "secret") as box:
            answer = eventually(box, "an answer", lambda: box.run("redis-cli", "ping").stdout)
            assert "NOAUTH" in answer
            assert box.succeeds("redis-cli", "ping")
            assert box.run("redis-cli", "ping", environment=("REDISCLI_AUTH=secret",)).stdout.strip() == "PONG"

    def test_data_is_saved_on_sigterm(self, volume: str) -> None:
        options = ("--volume", f"{volume}:/data")
        with container(image_of("redis"), "redis-server", options=options) as box:
            eventually(box, "readiness", lambda: "PONG" in box.run("redis-cli", "ping").stdout)
            box.run("redis-cli", "set", "key", "value")
            docker("stop", "--time", str(PATIENCE), box.name)
        with container(image_of("redis"), options=options) as box:
            # While it loads what was saved, it may answer that it does.
            eventually(box, "what was saved", lambda: box.run("redis-cli", "get", "key").stdout.strip() == "value")

    def test_programs(self, box: Container) -> None:
        assert programs(box, "sh", "wget", "redis-cli", "bash", "curl") == {"sh", "wget", "redis-cli"}


class TestClickHouse:
    @pytest.fixture(scope="class")
    @classmethod
    def box(cls, callers_choice: Mapping[str, str]) -> Iterator[Container]:
        with container(image_of("clickhouse"), ports=(8123,)) as box:
            yield box

    def test_default_user_is_locked_to_the_container_while_ping_is_fine(self, box: Container) -> None:
        url = f"http://127.0.0.1:{box.port(8123)}"
        assert eventually(box, "a ping", lambda: get(f"{url}/ping")) == "Ok.\n"
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(url, b"SELECT 42")
        assert "Authentication failed" in caught.value.read().decode()
        inside = box.run("wget", "-qO-", "--post-data=SELECT 42", "http://127.0.0.1:8123/")
        assert inside.stdout.strip() == "42"

    def test_programs(self, box: Container) -> None:
        assert programs(box, "bash", "wget", "curl") == {"bash", "wget"}

    def test_setup_can_be_skipped_which_leaves_default_open(self) -> None:
        environment = ("CLICKHOUSE_SKIP_USER_SETUP=1",)
        with container(image_of("clickhouse"), ports=(8123,), environment=environment) as box:
            url = f"http://127.0.0.1:{box.port(8123)}/"
            assert eventually(box, "an answer", lambda: get(url, b"SELECT 42")) == "42\n"

    def test_a_read_only_users_folder_breaks_the_user_setup(self) -> None:
        options = ("--tmpfs", "/etc/clickhouse-server/users.d:ro")
        environment = ("CLICKHOUSE_PASSWORD=secret",)
        with container(image_of("clickhouse"), environment=environment, options=options) as box:
            assert box.exit_code() != 0


class TestFirstStartOfClickHouse:
    """One first start, with a user, a database and files to run."""

    LOGIN = "user=guest&password=secret"
    OUTSIDE = ("sh", "-c", "wget -qO- -T 20 -t 1 http://$(hostname):8123/ping")

    @pytest.fixture(scope="class")
    @classmethod
    def held(
        cls, callers_choice: Mapping[str, str], hold: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Container]:
        script = tmp_path_factory.mktemp("init") / "tables.sql"
        script.write_text(
            "CREATE TABLE default.t (n Int64, s String) ENGINE = MergeTree ORDER BY n;"
            " INSERT INTO default.t VALUES (1, ';')"
        )
        script.chmod(0o644)
        folder = "/docker-entrypoint-initdb.d"
        # In this order: what is held is held before there is a table.
        files = {f"{folder}/1-hold.sh": hold, f"{folder}/2-tables.sql": script}
        environment = ("CLICKHOUSE_DB=triton", "CLICKHOUSE_USER=guest", "CLICKHOUSE_PASSWORD=secret")
        with container(image_of("clickhouse"), ports=(8123,), environment=environment, files=files) as box:
            yield box

    @pytest.fixture(scope="class")
    @classmethod
    def box(cls, held: Container) -> Container:
        """The same, past its first start."""
        held.run("touch", "/tmp/go")
        eventually(held, "the real server", lambda: held.succeeds(*cls.OUTSIDE))
        return held

    @staticmethod
    def url(box: Container) -> str:
        # The engine may give another host port at each start.
        return f"http://127.0.0.1:{box.port(8123)}/"

    def rows(self, box: Container) -> str:
        return get(f"{self.url(box)}?{self.LOGIN}", b"SELECT * FROM default.t")

    def test_first_server_answers_localhost_while_the_own_address_refuses(self, held: Container) -> None:
        local = ("wget", "-qO-", "-T", "20", "-t", "1", "http://127.0.0.1:8123/ping")
        eventually(held, "the temporary server", lambda: held.succeeds(*local))
        assert not held.succeeds(*self.OUTSIDE)
        with pytest.raises(OSError):  # noqa: PT011 - refused, reset or closed, as the proxy of the engine has it
            get(f"{self.url(held)}ping")
        held.run("touch", "/tmp/go")
        eventually(held, "the real server", lambda: held.succeeds(*self.OUTSIDE))
        databases = get(f"{self.url(held)}?{self.LOGIN}", b"SHOW DATABASES")
        assert "triton" in databases.splitlines()

    def test_a_password_opens_the_user_to_the_host(self, box: Container) -> None:
        assert get(f"{self.url(box)}?{self.LOGIN}", b"SELECT 42") == "42\n"
        for refused in (self.url(box), f"{self.url(box)}?user=guest&password=wrong"):
            with pytest.raises(urllib.error.HTTPError):
                get(refused, b"SELECT 42")

    def test_init_files_run_once_and_only_on_the_first_start(self, box: Container) -> None:
        assert self.rows(box) == "1\t;\n"
        docker("restart", "--time", str(PATIENCE), box.name)
        # A second run of the file would fail, since the table is there, and end the container.
        assert eventually(box, "the second start", lambda: self.rows(box)) == "1\t;\n"


class TestLocalStack:
    """One container for those that look, which is stopped by the last of them."""

    @pytest.fixture(scope="class")
    @classmethod
    def box(cls, callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
        folder = tmp_path_factory.mktemp("init") / "boot.d"
        folder.mkdir()
        hook = folder / "mark.sh"
        hook.write_text("#!/bin/sh\ntouch /var/lib/localstack/booted\n")
        hook.chmod(0o755)
        files = {"/etc/localstack/init/": folder}
        with container(image_of("localstack"), ports=(4566,), environment=LOCALSTACK_OFFLINE, files=files) as box:
            yield box

    def test_boot_hook_runs_before_the_server(self, box: Container) -> None:
        url = f"http://127.0.0.1:{box.port(4566)}/_localstack/init"
        stages = eventually(box, "health", lambda: json.loads(get(url)))
        assert stages["completed"]["BOOT"] is True
        assert box.succeeds("test", "-e", "/var/lib/localstack/booted")

    def test_health_is_good_before_s3_is_loaded(self, box: Container) -> None:
        url = f"http://127.0.0.1:{box.port(4566)}"

        def state() -> str:
            return json.loads(get(f"{url}/_localstack/health"))["services"]["s3"]

        assert eventually(box, "health", state) == "available"
        with suppress(urllib.error.HTTPError):
            # Any S3 request loads the provider, whatever it answers.
            get(f"{url}/some-bucket")
        assert state() == "running"

    def test_programs(self, box: Container) -> None:
        assert programs(box, "bash", "curl", "wget") == {"bash", "curl"}

    def test_stops_on_sigterm(self, box: Container) -> None:
        url = f"http://127.0.0.1:{box.port(4566)}/_localstack/health"
        eventually(box, "health", lambda: get(url))
        docker("stop", "--time", str(PATIENCE), box.name)
        assert box.exit_code() == 0

    def test_a_mount_on_its_temporary_folder_breaks_the_start(self) -> None:
        options = ("--volume", "/tmp/localstack")
        with container(image_of("localstack"), environment=LOCALSTACK_OFFLINE, options=options) as box:
            assert box.exit_code() != 0
            assert "busy" in box.logs()

    def test_a_newer_tag_refuses_without_a_token(self) -> None:
        newer = image_of("localstack").rpartition(":")[0] + ":latest"
        official = not newer.startswith("triton-env/")
        if official and docker("image", "inspect", newer, check=False).returncode != 0:
            pytest.skip(f"{newer} is not on this engine")
        with container(newer, environment=(*LOCALSTACK_OFFLINE, "LOCALSTACK_AUTH_TOKEN=")) as box:
            assert box.exit_code() == 55
