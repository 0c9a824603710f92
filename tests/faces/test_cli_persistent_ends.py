"""How persistent services begin and end: stopped, reset, interrupted, beside others, and by plain Docker Compose."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from faces.persistent_project import COMPOSE, OURS, ROOT, PersistentProject, Terminal, checkout, variables
from patience import until
from projects import free_name, ports
from triton_env import TritonEnvironment, backup
from triton_env.core.commands import runnable
from triton_env.persistent.docker.compose import compose_program
from triton_env.settings import Settings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

REDIS = ("--services", "redis")
"""The quickest to start and to stop."""


@pytest.fixture(scope="module")
def make(
    callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], PersistentProject]]:
    """Makes projects, which are removed in the end."""
    projects: list[PersistentProject] = []

    def made() -> PersistentProject:
        projects.append(PersistentProject(tmp_path_factory.mktemp("project"), variables(callers_choice)))
        return projects[-1]

    yield made
    for each in projects:
        each.remove()


@pytest.fixture(scope="module")
def project(make: Callable[[], PersistentProject]) -> PersistentProject:
    """One for all tests that do not need a fresh one."""
    return make()


@pytest.fixture
def running(project: PersistentProject) -> PersistentProject:
    """With Redis alone, maybe since an earlier test."""
    return with_services(project, "redis")


@pytest.fixture(scope="module")
def nothing(make: Callable[[], PersistentProject]) -> PersistentProject:
    """One of which nothing is ever started."""
    return make()


@pytest.fixture(scope="module")
def other(make: Callable[[], PersistentProject]) -> PersistentProject:
    """One for all tests that need PostgreSQL too: making its data directory costs seconds."""
    return make()


@pytest.fixture
def gated(make: Callable[[], PersistentProject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PersistentProject:
    """A fresh one whose PostgreSQL waits for `let_boot`: no start is over before it is interrupted."""
    project = make()
    wait = 'until [ -e /tmp/boot ]; do sleep 0.1; done; exec docker-entrypoint.sh "$@"'
    project.folder = checkout(tmp_path / "gated", postgres=["sh", "-c", wait, "sh"])
    monkeypatch.chdir(project.folder)
    return project


def let_boot(project: PersistentProject) -> None:
    assert until(lambda: project.is_running("postgres"))
    api = project.engine.api
    api.exec_start(api.exec_create(project.containers()["postgres"], ["touch", "/tmp/boot"])["Id"])


def with_services(project: PersistentProject, *services: str) -> PersistentProject:
    """The project with these services running; one that has them already is left as it is."""
    if not project.is_running(*services):
        done = project.invoked("up", "--services", ",".join(services))
        assert done.exit_code == 0, done.output
    return project


def set_value(project: PersistentProject, value: str) -> None:
    with project.redis() as client:
        assert client.set("value", value)


def value(project: PersistentProject) -> str | None:
    with project.redis() as client:
        found = client.get("value")
        return None if found is None else str(found)


def answers(project: PersistentProject) -> bool:
    """Whether its Redis does."""
    with project.redis() as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


class TestNothing:
    """Commands where nothing runs."""

    def test_is_fine_for_down_and_reset(self, nothing: PersistentProject) -> None:
        assert "Nothing of the project" in nothing.good("down").stderr
        assert "Nothing to remove: the project" in nothing.good("reset", "--yes").stderr

    def test_is_reported_by_status(self, nothing: PersistentProject) -> None:
        done = nothing.run("status", "--json")
        assert done.returncode == 1
        data = json.loads(done.stdout)
        assert data["healthy"] is False
        assert {service["state"] for service in data["services"].values()} == {"absent"}

    @pytest.mark.parametrize(
        "arguments", [["psql"], ["redis-cli"], ["clickhouse-client"], ["s3", "ls"], ["restart", "redis"], ["logs"]]
    )
    def test_is_an_error_for_others(self, arguments: list[str], nothing: PersistentProject) -> None:
        done = nothing.invoked(*arguments)
        assert done.exit_code == 1
        assert done.stdout == ""
        # A session is the other way.
        assert "hint: start it with: " in done.stderr
        assert runnable("python -m triton_env up") in done.stderr

    @pytest.mark.parametrize("arguments", [["env", "--persistent"], ["env"]])
    def test_has_no_variables(self, arguments: list[str], nothing: PersistentProject) -> None:
        done = nothing.invoked(*arguments)
        assert done.exit_code == 1
        assert done.stdout == ""
        assert "python -m triton_env up" in done.stderr


class TestInterrupted:
    def test_up_leaves_what_ran_before(self, gated: PersistentProject) -> None:
        with_services(gated, "redis")
        before = gated.containers()
        process = gated.begun("up", "--services", "postgres,redis")
        assert until(lambda: "postgres" in gated.containers())
        process.send_signal(signal.SIGINT)
        # What boots is stopped once it is up.
        let_boot(gated)
        _, words = process.communicate(timeout=200)
        assert process.returncode == 130, words
        assert gated.containers() == before

    @pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
    def test_up_stops_what_it_started(self, number: int, gated: PersistentProject, tmp_path: Path) -> None:
        # A first start: PostgreSQL makes its data directory.
        process = gated.begun("up", "--services", "postgres,redis")
        assert until(gated.containers)
        process.send_signal(number)
        let_boot(gated)
        out, words = process.communicate(timeout=200)
        assert process.returncode == 128 + number, words
        assert out == ""
        assert "stopped again" in words
        assert "Traceback" not in words
        assert gated.containers() == {}
        # Nothing half-made is in the volume.
        gated.folder = checkout(tmp_path / "plain")
        url = gated.json("up", "--services", "postgres")["services"]["postgres"]["url"]
        with psycopg.connect(url) as connection:
            assert connection.execute("select 42").fetchone() == (42,)

    def test_a_reader_that_goes_away_stops_nothing(self, running: PersistentProject) -> None:
        script = f"{sys.executable} -m triton_env up --services redis | true"
        subprocess.run(["bash", "-c", script], capture_output=True, env=running.variables, cwd=running.folder)
        assert "redis" in running.containers()
        assert answers(running)


class TestDown:
    def test_keeps_the_data_and_says_where(self, running: PersistentProject) -> None:
        set_value(running, "kept")
        done = running.good("down")
        assert done.stdout == ""
        assert f"{running.name}_redis_data" in done.stderr
        assert running.containers() == {}
        assert running.networks() == set()
        again = running.good("down")
        assert "Nothing of the project" in again.stderr
        assert f"{running.name}_redis_data" in again.stderr
        running.good("up", *REDIS)
        assert value(running) == "kept"

    def test_warns_where_another_process_uses_the_services(self, running: PersistentProject) -> None:
        settings = Settings(triton_project=running.name, triton_state_dir=running.variables["TRITON_STATE_DIR"])
        with TritonEnvironment(settings, services=("redis",), persistent=True):
            assert "other processes" in running.good("down").stderr
        with_services(running, "redis")
        assert "other processes" not in running.good("down").stderr


class TestReset:
    def test_needs_a_yes_where_there_is_no_terminal(self, running: PersistentProject) -> None:
        set_value(running, "still here")
        done = running.run("reset")
        assert done.returncode == 2
        assert "--yes" in done.stderr
        assert value(running) == "still here"
        assert running.invoked("reset", "--yes", "--no-backup", "--backup", "x").exit_code == 2
        assert value(running) == "still here"

    def test_a_backup_that_fails_keeps_everything(self, running: PersistentProject, tmp_path: Path) -> None:
        set_value(running, "not lost")
        done = running.run("reset", "--yes", "--backup", str(tmp_path / "no" / "such" / "folder" / "x.backup"))
        assert done.returncode != 0
        assert value(running) == "not lost"

    def test_removes_all_of_the_project_and_nothing_else(self, running: PersistentProject) -> None:
        api = running.engine.api
        # What comes close: names like ours, Compose's label without ours, ours of another project.
        foreign = [
            (f"{running.name}_redis_data2", {}),
            (f"{running.name}_foreign", {COMPOSE: running.name}),
            (f"{running.name}x_redis_data", {OURS: f"{running.name}x"}),
        ]
        image = api.inspect_container(running.containers()["redis"])["Config"]["Image"]
        beside = api.create_container(image, name=f"{running.name}-redis-9", labels={OURS: f"{running.name}x"})["Id"]
        network = api.create_network(f"{running.name}-network2", labels={OURS: f"{running.name}x"})["Id"]
        try:
            for name, labels in foreign:
                api.create_volume(name, labels=labels)
            volumes = running.volumes() - {name for name, _ in foreign}
            assert volumes == {f"{running.name}_redis_data"}
            done = running.good("reset", "--yes")
            assert f"volume {running.name}_redis_data" in done.stderr
            assert "Removed 1 container, 1 network, 1 volume" in done.stderr
            assert running.containers() == {}
            assert f"{running.name}-network" not in running.networks()
            names = {each["Name"] for each in api.volumes()["Volumes"]}
            assert volumes.isdisjoint(names)
            assert {name for name, _ in foreign} <= names
            assert api.inspect_container(beside)
            assert api.inspect_network(network)
        finally:
            api.remove_container(beside, v=True)
            api.remove_network(network)
            for name, _ in foreign:
                api.remove_volume(name)
        with_services(running, "redis")
        assert value(running) is None

    def test_on_a_terminal_it_asks(self, running: PersistentProject) -> None:
        set_value(running, "precious")
        with Terminal(running, "reset") as terminal:
            assert f"volume {running.name}_redis_data" in terminal.read_until("Write a backup to ")
            terminal.write("n\n")
            terminal.read_until("Destroy all of this?")
            terminal.write("n\n")
            assert terminal.status() == 1
        assert value(running) == "precious"
        with Terminal(running, "reset", "--no-backup") as terminal:
            terminal.read_until("Destroy all of this?")
            terminal.write("y\n")
            assert terminal.status() == 0
        assert running.containers() == {}
        assert running.volumes() == set()

    def test_of_one_service_leaves_the_others(self, other: PersistentProject) -> None:
        with_services(other, "redis", "postgres")
        set_value(other, "gone soon")
        other.good("psql", "-c", "create table kept as select 42 as answer")
        other.good("reset", "--yes", *REDIS)
        assert list(other.containers()) == ["postgres"]
        assert other.volumes() == {f"{other.name}_postgres_data"}
        assert other.json("up", "--services", "redis,postgres")["running"] == ["postgres"]
        assert value(other) is None
        assert other.good("psql", "-At", "-c", "select answer from kept").stdout == "42\n"

    @pytest.mark.long
    def test_with_a_backup_first(self, running: PersistentProject, tmp_path: Path) -> None:
        set_value(running, "saved")
        # It is started for that where it does not run.
        running.good("down")
        path = tmp_path / "before.backup"
        done = running.good("reset", "--yes", "--backup", str(path))
        assert str(path) in done.stderr
        assert running.containers() == {}
        assert running.volumes() == set()
        assert list(backup.read_manifest(path).services) == ["redis"]


class TestBeside:
    def test_a_port_that_is_taken(self, make: Callable[[], PersistentProject]) -> None:
        project = make()
        number = project.redis_port()
        with socket.create_server(("127.0.0.1", number)):
            done = project.run("up", *REDIS)
        assert done.returncode == 1
        assert f"Port {number}" in done.stderr
        assert f"is taken by process {psutil.Process().pid}" in done.stderr
        assert "set REDIS_PORT to another port" in done.stderr
        assert project.containers() == {}

    def test_a_port_of_another_project(self, running: PersistentProject, make: Callable[[], PersistentProject]) -> None:
        done = make().run("up", *REDIS, environment={"REDIS_PORT": str(running.redis_port())})
        assert done.returncode == 1
        assert f"is taken by the container {running.name}-redis-1" in done.stderr

    def test_two_projects_side_by_side(self, running: PersistentProject, make: Callable[[], PersistentProject]) -> None:
        other = make()
        set_value(running, "of the one")
        # By the option: the variable names the first one.
        data = running.json("up", *REDIS, "--project", other.name)
        assert data["id"] == other.name
        assert data["services"]["redis"]["port"] == other.redis_port() != running.redis_port()
        set_value(other, "of the other")
        assert value(running) == "of the one"
        assert running.good("redis-cli", "--project", other.name, "get", "value").stdout == "of the other\n"
        running.good("down", "--project", other.name)
        assert other.containers() == {}
        assert value(running) == "of the one"
        running.good("reset", "--project", other.name, "--yes")
        assert other.volumes() == set()
        assert value(running) == "of the one"

    def test_a_name_that_is_none(self, project: PersistentProject) -> None:
        for arguments in (["up"], ["down"], ["status"], ["reset"], ["psql"]):
            assert project.invoked(*arguments, "--project", "No Name").exit_code == 2

    def test_another_checkout(
        self, running: PersistentProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_value(running, "of this checkout")
        monkeypatch.chdir(checkout(tmp_path / "other"))
        before = running.containers()
        for arguments in (["up", *REDIS], ["down"], ["restart", "redis"], ["reset", "--yes"], ["status"]):
            done = running.invoked(*arguments)
            assert done.exit_code == 1, arguments
            assert "belong to another checkout" in done.stderr
            assert str(ROOT / "docker-compose.yml") in done.stderr
        assert running.containers() == before
        assert value(running) == "of this checkout"


class TestPlainCompose:
    """The same project, run by `docker compose`."""

    @pytest.fixture
    def plain(self, make: Callable[[], PersistentProject], tmp_path: Path) -> Iterator[PersistentProject]:
        project = make()
        project.folder = checkout(tmp_path / "checkout")
        yield project
        self.compose(project, "down", "--volumes")

    @staticmethod
    def compose(project: PersistentProject, *arguments: str) -> str:
        # The ports of the command line, which plain Compose knows from variables alone.
        ports = {"REDIS_PORT": str(project.redis_port())}
        done = subprocess.run(
            [*compose_program(), *arguments],
            capture_output=True,
            text=True,
            cwd=project.folder,
            env=project.variables | ports,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_started_by_it_and_used_and_stopped_here(self, plain: PersistentProject) -> None:
        self.compose(plain, "up", "--detach", "redis")
        assert until(lambda: answers(plain))
        assert json.loads(plain.run("status", "--json").stdout)["services"]["redis"]["healthy"]
        set_value(plain, "by both")
        before = plain.containers()
        assert plain.json("up", *REDIS)["running"] == ["redis"]
        assert plain.containers() == before
        plain.good("down")
        assert plain.containers() == {}
        self.compose(plain, "up", "--detach", "redis")
        assert until(lambda: answers(plain))
        assert value(plain) == "by both"

    @pytest.mark.long
    def test_started_here_and_stopped_by_it(self, plain: PersistentProject) -> None:
        plain.good("up", *REDIS)
        assert "redis" in self.compose(plain, "ps", "--services")
        self.compose(plain, "stop")
        assert json.loads(plain.run("status", "--json").stdout)["services"]["redis"]["state"] == "exited"
        assert plain.json("up", *REDIS)["started"] == ["redis"]
        self.compose(plain, "down")
        assert "Nothing of the project" in plain.good("down").stderr


class TestTrouble:
    def test_a_service_that_does_not_come_up(self, make: Callable[[], PersistentProject]) -> None:
        project = make()
        done = project.run("up", *REDIS, environment={"REDIS_IMAGE": "triton-env.invalid/redis:7"})
        assert done.returncode == 1
        assert done.stdout == ""
        assert "could not be pulled" in done.stderr
        assert project.containers() == {}

    def test_localstack_without_a_token(self, project: PersistentProject) -> None:
        newer = {"LOCALSTACK_IMAGE": "localstack/localstack:latest"}
        done = project.run("up", environment=newer)
        assert done.returncode == 2
        assert "LOCALSTACK_AUTH_TOKEN" in done.stderr
        # That is no reason not to be stopped or looked at.
        assert project.run("status", environment=newer).returncode == 1
        project.good("down", environment=newer)

    @pytest.mark.long
    def test_a_postgresql_without_support_is_reported(self, other: PersistentProject) -> None:
        image = other.variables.get("POSTGRES_IMAGE", "postgres:14-alpine")
        old = f"{other.name}/postgres:14"
        other.engine.images.get(image).tag(old)
        try:
            done = other.good("up", "--services", "postgres", environment={"POSTGRES_IMAGE": old})
        finally:
            other.good("reset", "--yes")
            other.engine.images.remove(old)
        assert "PostgreSQL 14 reached its end of life" in done.stderr

    def test_servers_of_others_are_no_persistent_services(self, project: PersistentProject) -> None:
        done = project.run("up", environment={"TRITON_RUNTIME": "external"})
        assert done.returncode == 1
        assert "so nothing is persistent there" in done.stderr


def test_the_scripts_start_show_and_stop(project: PersistentProject, tmp_path: Path) -> None:
    # All is installed: what uv makes of that is in the acceptance script.
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    def script(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", str(ROOT / "scripts" / f"{name}-infrastructure.sh"), *arguments],
            capture_output=True,
            text=True,
            env=project.variables | {"PATH": path},
        )

    assert script("start", *REDIS).returncode == 0
    assert answers(project)
    assert "healthy" in script("check", "redis").stdout
    assert script("stop").returncode == 0
    assert not project.is_running("redis")


# The scripts first make .venv what uv.lock says.
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_acceptance_script(callers_choice: Mapping[str, str]) -> None:
    # Those that follow from the project's name, which the script chooses, may be of a project of other tests.
    name, kept = free_name("acceptance")
    with kept:
        done = subprocess.run(
            ["bash", str(ROOT / "tests" / "test_infrastructure.sh")],
            capture_output=True,
            text=True,
            env=variables(callers_choice) | ports(name),
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "not ok" not in done.stdout
    assert done.stdout.count("\nok ") >= 10
