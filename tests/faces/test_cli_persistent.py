"""The commands on persistent services that run: shown, restarted, asked, and used by shells. One project for all."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil
import psycopg
import pytest
import redis

from engine_proxy import proxied_engine
from faces.persistent_project import PASSWORD, PROGRAM, PersistentProject, Terminal, variables
from held_up import held_up
from patience import until
from triton_env import S3, Settings
from triton_env.cli.output import print_data
from triton_env.core.model import Endpoint, Placement
from triton_env.errors import UsageError
from triton_env.services import SERVICES
from triton_env.services.s3 import commands

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def project(callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersistentProject]:
    project = PersistentProject(tmp_path_factory.mktemp("project"), variables(callers_choice))
    yield project
    project.remove()


@pytest.fixture(scope="module")
def up(project: PersistentProject) -> Any:
    """What `up --json` printed when it started all four."""
    return project.json("up")


@pytest.fixture(scope="module")
def redis_url(up: Any) -> str:
    return str(up["services"]["redis"]["url"])


class TestUp:
    def test_opens_one_connection_to_the_engine(self, project: PersistentProject, up: Any) -> None:
        with proxied_engine() as proxy:
            again = project.json("up", environment={"DOCKER_HOST": proxy.url})
            # What an engine is asked first. Pings name the version of the API, and other programs speak HTTP 1.1.
            opened = proxy.requests.count(b"GET /version HTTP/1.0")
        assert again["running"] == up["started"]
        assert opened == 1

    def test_starts_all_four_and_leaves_them_running(self, project: PersistentProject, up: Any) -> None:
        assert up["id"] == project.name
        assert up["runtime"] == "docker"
        assert up["started"] == list(SERVICES)
        assert up["replaced"] == up["running"] == []
        assert set(up["services"]) == set(SERVICES)
        with psycopg.connect(up["services"]["postgres"]["url"]) as connection:
            assert connection.execute("select 6 * 7").fetchone() == (42,)
        assert up["environ"]["DATABASE_URL"] == up["services"]["postgres"]["url"]

    def test_ps_lists_them_under_their_project(self, project: PersistentProject, up: Any) -> None:
        environments = project.json("ps")["environments"]
        (entry,) = (each for each in environments if each["id"] == project.name)
        assert (entry["mode"], entry["runtime"], entry["owner"]) == ("persistent", "docker", None)
        assert {each["name"]: each["state"] for each in entry["services"]} == dict.fromkeys(SERVICES, "running")
        for service in entry["services"]:
            assert service["ports"].items() >= up["services"][service["name"]]["ports"].items()
        words = project.invoked("stop", project.name)
        assert words.exit_code == 2
        assert f"down --project {project.name}" in words.stderr

    def test_again_changes_nothing_and_says_so(self, project: PersistentProject, up: Any) -> None:
        before = project.containers()
        done = project.good("up")
        assert "were running already." in done.stderr
        assert "python -m triton_env down" in done.stderr
        assert up["services"]["postgres"]["url"] in done.stdout
        assert project.containers() == before

    def test_starts_what_is_missing_alone(self, project: PersistentProject, up: Any, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.set("kept", "yes")
        before = project.containers()
        project.engine.api.stop(before["redis"])
        again = json.loads(project.invoked("up", "--json").stdout)
        assert again["started"] == ["redis"]
        assert again["running"] == [name for name in SERVICES if name != "redis"]
        assert again["services"]["redis"]["url"] == redis_url
        assert {name: each for name, each in project.containers().items() if name != "redis"} == {
            name: each for name, each in before.items() if name != "redis"
        }
        with redis.Redis.from_url(redis_url) as client:
            assert client.get("kept") == b"yes"

    def test_a_changed_setting_is_applied_and_the_data_stays(
        self, project: PersistentProject, up: Any, redis_url: str
    ) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.set("before", "1")
        changed = {"REDIS_PASSWORD": "another-pass-word"}
        try:
            again = project.json("up", "--services", "redis", environment=changed)
            assert again["replaced"] == ["redis"]
            assert "another-pass-word" in again["services"]["redis"]["url"]
            # Without the setting: what the container was given counts.
            assert project.good("redis-cli", "get", "before").stdout == "1\n"
            assert "another-pass-word" in project.invoked("env", "--persistent").stdout
        finally:
            back = project.invoked("up", "--services", "redis", "--json")
        assert json.loads(back.stdout)["replaced"] == ["redis"]


class TestStatus:
    def test_as_json(self, project: PersistentProject, up: Any) -> None:
        data: Any = {}

        def told() -> bool:
            # What they use is left out where the engine takes its time.
            data.update(project.json("status"))
            return all(service["memory_bytes"] is not None for service in data["services"].values())

        assert until(told)
        assert data["project"] == project.name
        assert data["healthy"] is True
        assert list(data["services"]) == list(SERVICES)
        for name, service in data["services"].items():
            assert service["state"] == "running"
            assert service["healthy"] is True
            assert service["problem"] is None
            assert service["ports"] == up["services"][name]["ports"]
            assert service["version"] == up["services"][name]["version"]
            assert service["container"].startswith(f"{project.name}-")
            assert service["uptime_seconds"] > 0
            assert service["restarts"] == 0
            assert 0 < service["memory_bytes"] < service["memory_limit_bytes"]
            assert service["cpu_percent"] >= 0
        assert data["services"]["redis"]["memory_limit_bytes"] == 256 * 1024**2

    def test_as_a_table(self, project: PersistentProject, up: Any) -> None:
        lines = project.invoked("status").stdout.splitlines()
        for name, kind in SERVICES.items():
            (line,) = (line for line in lines if line.startswith(kind.title))
            assert " running " in line
            assert " healthy " in line
            assert str(up["services"][name]["port"]) in line

    def test_a_service_that_hangs_is_unhealthy_whatever_docker_says(self, project: PersistentProject, up: Any) -> None:
        with held_up(project.engine.containers.get(project.containers()["redis"])):
            done = project.invoked("status", "--json")
        assert done.exit_code == 1
        data = json.loads(done.stdout)
        assert data["healthy"] is False
        assert data["services"]["redis"]["problem"]
        assert data["services"]["postgres"]["healthy"] is True

    def test_one_that_runs_but_does_not_answer(self, project: PersistentProject, up: Any) -> None:
        with redis.Redis.from_url(up["services"]["redis"]["url"]) as client:
            client.config_set("requirepass", "unknown-to-all")
            try:
                done = project.invoked("status")
            finally:
                client.config_set("requirepass", "")
        assert done.exit_code == 1
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("Redis"))
        assert "unhealthy: " in line
        assert " running " in line

    def test_what_a_restore_left_whose_journal_is_gone(self, project: PersistentProject, up: Any) -> None:
        name = "triton_restore_0a1b2c3d_old_0"
        with psycopg.connect(up["services"]["postgres"]["url"], autocommit=True) as connection:
            connection.execute(f"create database {name}")
            try:
                # Both at once: they wait for the engine most of the time.
                as_json, done = project.begun("status", "--json"), project.invoked("status")
                shown, _ = as_json.communicate()
            finally:
                connection.execute(f"drop database {name}")
        assert (done.exit_code, as_json.returncode) == (1, 1)
        assert f"its journal is gone; it left PostgreSQL's database {name}" in " ".join(done.stderr.split())
        assert name in json.loads(shown)["restore"]
        assert json.loads(shown)["services"]["redis"]["healthy"] is True

    def test_watch_prints_again_and_again(self, project: PersistentProject, up: Any) -> None:
        process = project.begun("status", "--watch", "--json")
        assert process.stdout is not None
        try:
            # Both at once: they wait most of the time.
            with Terminal(project, "status", "--watch") as terminal:
                terminal.read_until("S3 ")
                terminal.read_until("S3 ")
                terminal.write("\x03")
                assert terminal.status() == 0
            looks = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            _, words = process.communicate()
        finally:
            process.kill()
        assert process.returncode == 0
        assert words == ""
        assert looks[0]["healthy"]
        first, second = (look["services"]["redis"]["uptime_seconds"] for look in looks)
        assert second > first


class TestLoading:
    """What a command loads decides how long it takes, more than what it does."""

    HEAVY = frozenset(
        (
            *("docker", "testcontainers", "requests", "urllib3", "pydantic", "pydantic_settings", "rich"),
            *("psycopg", "clickhouse_connect", "redis", "boto3", "botocore", "asyncio"),
            *(
                "triton_env.backup.recovery",
                "triton_env.services.postgres.restore",
                "triton_env.services.redis.restore",
            ),
        )
    )

    @pytest.mark.parametrize(
        ("words", "needed"),
        [
            ("env --persistent", set()),
            ("logs --tail 1 redis", set()),
            ("psql -c select", set()),
            pytest.param("redis-cli ping", set(), marks=pytest.mark.long),
            ("s3 ls", set()),
            pytest.param("s3 ls s3://triton-documents", set(), marks=pytest.mark.long),
            ("status --json", set()),
            pytest.param("status", {"rich"}, marks=pytest.mark.long),
            ("doctor", set()),
            pytest.param("up --json", set(), marks=pytest.mark.long),
            ("up", {"rich"}),
            (
                "backup --force little.backup",
                {"psycopg", "asyncio", "redis", "boto3", "botocore", "urllib3", "pydantic"},
            ),
            ("--help", set()),
        ],
    )
    def test_a_command_loads_no_more_than_it_needs(
        self, words: str, needed: set[str], project: PersistentProject, up: Any, tmp_path: Path
    ) -> None:
        docker = shutil.which("docker")
        assert docker
        # Without the AWS command line, which would take over.
        (tmp_path / "docker").symlink_to(docker)
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *PROGRAM[1:], *words.split()],
            capture_output=True,
            text=True,
            cwd=project.folder,
            env=project.variables | {"PATH": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        # Also of a command that becomes another program.
        loaded = set(re.findall(r"^import time:.*\|\s+(\S+)$", done.stderr, re.MULTILINE))
        assert "click" in loaded
        assert loaded & self.HEAVY == needed


class TestRestart:
    def test_clients_come_back_on_the_same_url(self, project: PersistentProject, up: Any, redis_url: str) -> None:
        before = project.engine.api.inspect_container(project.containers()["redis"])["State"]["StartedAt"]
        with redis.Redis.from_url(redis_url) as client:
            client.set("over", "restart")
            done = project.good("restart", "redis", "postgres")
            assert "Redis answers again after " in done.stderr
            assert "PostgreSQL answers again after " in done.stderr
            assert done.stdout == ""
            assert client.get("over") == b"restart"
        with psycopg.connect(up["services"]["postgres"]["url"]) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert project.engine.api.inspect_container(project.containers()["redis"])["State"]["StartedAt"] > before

    def test_s3_may_be_named_as_in_docker(self, project: PersistentProject, up: Any) -> None:
        assert "localstack-1" in project.good("logs", "--tail", "1", "localstack").stdout
        assert project.good("logs", "--tail", "1", "s3").stdout

    @pytest.mark.parametrize("arguments", [["restart"], ["restart", "mongo"], ["logs", "mongo"], ["logs", "--tail=x"]])
    def test_wrong_use(self, arguments: list[str], project: PersistentProject) -> None:
        assert project.invoked(*arguments).exit_code == 2


class TestLogs:
    def test_are_those_of_the_services_without_passwords(self, project: PersistentProject, up: Any) -> None:
        fail(up, f"select '{PASSWORD}' from nowhere")
        shown: list[str] = []

        def logged() -> bool:
            # The engine takes what a server writes from a pipe.
            shown.append(project.good("logs", "--tail", "20", "postgres").stdout)
            return "from nowhere" in shown[-1]

        assert until(logged)
        assert PASSWORD not in shown[-1]
        assert "redis" not in shown[-1]
        assert len(shown[-1].splitlines()) <= 20

    def test_of_all(self, project: PersistentProject, up: Any) -> None:
        written = project.good("logs", "--tail", "1").stdout
        for name in ("postgres", "redis", "clickhouse", "localstack"):
            assert f"{name}-1" in written

    def test_can_be_followed_until_ctrl_c(self, project: PersistentProject, up: Any) -> None:
        process = project.begun("logs", "-f", "--tail", "0", "postgres")
        assert process.stdout is not None
        try:
            # Nothing tells when it has begun to follow.
            assert until(lambda: psutil.Process(process.pid).children())
            marked = False
            for number in range(100):
                fail(up, f"select marker_{number}")
                # Something else may come first: PostgreSQL also tells of its checkpoints.
                if select.select([process.stdout], [], [], 0.5)[0] and "marker_" in process.stdout.readline():
                    marked = True
                    break
            assert marked
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            _, words = process.communicate(timeout=200)
        finally:
            process.kill()
        assert process.returncode == 130
        assert "Traceback" not in words
        assert psutil.wait_procs(children, timeout=200)[1] == []


def fail(up: Any, statement: str) -> None:
    """Give PostgreSQL a statement that it logs since it cannot run it."""
    with psycopg.connect(up["services"]["postgres"]["url"]) as connection, pytest.raises(psycopg.ProgrammingError):
        connection.execute(statement)


@pytest.mark.parametrize("command", ["logs", "logs -f", "status --watch --json"])
def test_whoever_reads_may_stop(command: str, project: PersistentProject, up: Any) -> None:
    # There is no reader from the beginning.
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = project.begun(*command.split(), stdout=writer)
    finally:
        os.close(writer)
    _, words = process.communicate()
    assert process.returncode == 0
    assert words == ""


class TestPsql:
    def test_is_the_right_user_in_the_right_database(self, project: PersistentProject, up: Any) -> None:
        done = project.good("psql", "-At", "-c", "select current_user || '@' || current_database()")
        assert done.stdout == "triton_user@triton\n"

    def test_reads_standard_input(self, project: PersistentProject, up: Any) -> None:
        assert project.good("psql", "-qAt", input="select '{port:x}';\nselect 6 * 7;\n").stdout == "{port:x}\n42\n"

    def test_its_exit_status_is_the_programs(self, project: PersistentProject, up: Any) -> None:
        assert project.run("psql", "-v", "ON_ERROR_STOP=1", input="select bad;").returncode == 3

    def test_its_own_help_comes_after_dashes(self, project: PersistentProject, up: Any) -> None:
        assert "psql is the PostgreSQL interactive terminal" in project.good("psql", "--", "--help").stdout
        assert "Usage: python -m triton_env psql" in project.good("psql", "--help").stdout

    def test_the_password_is_no_argument(self, project: PersistentProject, up: Any) -> None:
        # It waits for what to run.
        process = project.begun("psql", stdin=subprocess.PIPE)
        watched = psutil.Process(process.pid)
        assert until(lambda: "psql" in watched.cmdline() and "exec" in watched.cmdline())
        words = " ".join(watched.cmdline())
        process.communicate()
        assert process.returncode == 0
        assert "PGPASSWORD" in words
        assert PASSWORD not in words

    def test_on_a_terminal(self, project: PersistentProject, up: Any) -> None:
        # Engines before 23 tell a terminal's size after the start, and a program may see none: no page is long enough.
        with Terminal(project, "psql", "-qAt", "-P", "pager=off") as terminal:
            terminal.read_until("triton=#")
            terminal.write("select 'answer ' || 6 * 7;\n")
            terminal.read_until("answer 42")
            terminal.write("\\q\n")
            assert terminal.status() == 0


class TestRedisCli:
    def test_arguments_and_standard_input(self, project: PersistentProject, up: Any) -> None:
        assert project.good("redis-cli", "set", "greeting", "hello").stdout == "OK\n"
        assert project.good("redis-cli", input="get greeting\n").stdout == "hello\n"

    def test_a_lone_h_is_for_the_program(self, project: PersistentProject, up: Any) -> None:
        assert project.good("redis-cli", "-h", "redis", "ping").stdout == "PONG\n"


def test_clickhouse_client_runs_or_says_what_to_do_instead(project: PersistentProject, up: Any) -> None:
    container = project.containers()["clickhouse"]
    there = subprocess.run(["docker", "exec", container, "sh", "-c", "command -v clickhouse-client"]).returncode == 0
    done = project.run("clickhouse-client", "--query", "select currentUser() || '@' || currentDatabase()")
    if there:
        assert (done.returncode, done.stdout) == (0, "default@triton\n")
        return
    assert done.returncode == 1
    assert "has no clickhouse-client" in done.stderr
    hint = done.stderr.partition("hint: ")[2].strip()
    variables = re.search(r"eval .*", done.stderr)
    assert variables
    # What it says works as it stands.
    script = re.sub(r"(?<!/)python -m", f"{sys.executable} -m", f"{variables[0]}; {hint}")
    shown = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=project.variables, cwd=project.folder
    )
    assert shown.stdout.strip() == "1", shown.stderr


class TestS3:
    @pytest.fixture
    def run(self, up: Any) -> Callable[..., int]:
        """The commands that are built in, on the running server."""
        server = up["services"]["s3"]
        service = S3(Settings(), Placement({"s3": Endpoint(server["host"], server["port"])}))
        return lambda *words: commands.run(service, words, print_data)

    @pytest.fixture
    def bucket(self, run: Callable[..., int]) -> str:
        bucket = f"s3://made-{token_hex(4)}"
        assert run("mb", bucket) == 0
        return bucket

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        (tmp_path / "tree" / "below").mkdir(parents=True)
        (tmp_path / "tree" / "one.txt").write_text("one\n")
        (tmp_path / "tree" / "below" / "two.txt").write_text("two\n")
        return tmp_path / "tree"

    def test_built_in_copies_and_lists(
        self, run: Callable[..., int], bucket: str, tree: Path, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        def output() -> str:
            return capfdbinary.readouterr().out.decode()

        assert run("ls") == 0
        assert bucket.removeprefix("s3://") in output()
        assert run("cp", str(tree / "one.txt"), f"{bucket}/first/") == 0
        assert output() == f"copied: {tree}/one.txt to {bucket}/first/one.txt\n"
        assert run("cp", str(tree), f"{bucket}/all", "--recursive") == 0
        assert run("cp", f"{bucket}/first/one.txt", f"{bucket}/again") == 0
        output()
        assert run("cat", f"{bucket}/again") == 0
        assert run("cp", f"{bucket}/all/below/two.txt", "-") == 0
        assert output() == "one\ntwo\n"
        assert run("ls", bucket) == 0
        lines = [line.split() for line in output().splitlines()]
        assert [line[-2:] for line in lines] == [["PRE", "all/"], ["PRE", "first/"], ["4", "again"]]
        assert run("ls", f"{bucket}/all/", "--recursive") == 0
        assert [line.split()[-1] for line in output().splitlines()] == ["all/below/two.txt", "all/one.txt"]
        assert run("ls", f"{bucket}/no-such") == 1

    def test_built_in_fetches(self, run: Callable[..., int], bucket: str, tree: Path, tmp_path: Path) -> None:
        run("cp", str(tree), f"{bucket}/all/", "--recursive")
        assert run("cp", f"{bucket}/all", str(tmp_path / "back"), "--recursive") == 0
        assert (tmp_path / "back" / "below" / "two.txt").read_text() == "two\n"
        assert run("cp", f"{bucket}/all/one.txt", str(tmp_path)) == 0
        assert (tmp_path / "one.txt").read_text() == "one\n"

    def test_built_in_removes(
        self, run: Callable[..., int], bucket: str, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("cp", str(tree), f"{bucket}/all", "--recursive")
        run("cp", str(tree / "one.txt"), bucket)
        assert run("rm", f"{bucket}/all", "--recursive") == 0
        capsys.readouterr()
        assert run("ls", bucket, "--recursive") == 0
        assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["one.txt"]
        assert run("rm", f"{bucket}/one.txt") == 0
        capsys.readouterr()
        assert run("ls", bucket) == 0
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        "words",
        ["sync a b", "cp a b", "cp a", "ls --what", "rm s3://only-a-bucket", "cat", "cat file", "cp - s3://bucket/"],
    )
    def test_wrong_use_of_what_is_built_in(self, words: str, run: Callable[..., int]) -> None:
        with pytest.raises(UsageError) as caught:
            run(*words.split())
        assert caught.value.hint

    def test_without_aws(self, project: PersistentProject, up: Any, tmp_path: Path, bucket: str) -> None:
        nothing = {"PATH": str(tmp_path)}
        project.good("s3", "cp", "-", f"{bucket}/piped", environment=nothing, input="from a pipe\n")
        assert project.good("s3", "cat", f"{bucket}/piped", environment=nothing).stdout == "from a pipe\n"
        failed = project.run("s3", "ls", "s3://no-such-bucket-here", environment=nothing)
        assert failed.returncode == 1
        assert "NoSuchBucket" in failed.stderr
        assert "Traceback" not in failed.stderr

    @pytest.mark.skipif(shutil.which("aws") is None, reason="there is no aws on this machine")
    @pytest.mark.long
    def test_with_aws(self, project: PersistentProject, up: Any, bucket: str) -> None:
        # What is configured for other servers does no harm, nor does a proxy that leads nowhere.
        elsewhere = {"AWS_PROFILE": "of-another-account", "AWS_ENDPOINT_URL_S3": "https://example.org"}
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
        environment = elsewhere | proxies
        project.good("s3", "cp", "-", f"{bucket}/piped", environment=environment, input="from a pipe\n")
        assert project.good("s3", "cat", f"{bucket}/piped", environment=environment).stdout == "from a pipe\n"
        # Of `aws` alone.
        listed = project.good("s3", "ls", bucket, "--summarize", environment=environment).stdout
        assert "Total Objects: 1" in listed

    def test_without_arguments(self, project: PersistentProject) -> None:
        assert project.invoked("s3").exit_code == 2


class TestEnv:
    def test_persistent(self, project: PersistentProject, up: Any) -> None:
        done = project.good("env", "--persistent", "--format", "json")
        assert json.loads(done.stdout) == up["environ"]
        named = project.good("env", "--project", project.name, "--format", "json", environment={"TRITON_PROJECT": "no"})
        assert json.loads(named.stdout) == up["environ"]

    def test_falls_back_to_them_where_no_session_runs(self, project: PersistentProject, up: Any) -> None:
        done = project.invoked("env", "--format", "json")
        assert done.exit_code == 0
        assert json.loads(done.stdout) == up["environ"]
        assert project.name in done.stderr

    def test_beside_a_session_one_has_to_be_chosen(self, project: PersistentProject, up: Any) -> None:
        process = project.begun("serve", "--services", "redis", "--json")
        assert process.stdout is not None
        try:
            session = json.loads(process.stdout.readline())
            for arguments in (("env",), ("psql", "-c", "select 1"), ("logs",), ("backup", "x.backup")):
                refused = project.run(*arguments)
                assert refused.returncode == 2
                assert f"choose one with --session {session['id']} or --persistent" in " ".join(refused.stderr.split())
            chosen = project.invoked("env", "--session", session["id"], "--format", "json")
            assert json.loads(chosen.stdout) == session["environ"]
            persistent = project.invoked("env", "--persistent", "--format", "json")
            assert json.loads(persistent.stdout) == up["environ"]
            shown = project.good("status").stdout
            assert f"session {session['id']}" in shown
            assert f"project {project.name}" in shown
            given = project.good("status", "--json", environment={"TRITON_SESSION": session["id"]})
            assert json.loads(given.stdout)["session"] == session["id"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()

    def test_an_id_is_no_persistent_project(self, project: PersistentProject) -> None:
        assert project.invoked("env", "--persistent", "--id", "x").exit_code == 2
