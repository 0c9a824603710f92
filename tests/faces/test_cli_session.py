"""Commands on the session that runs here: `serve` holds it in another process."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis

import lanes
from faces.served import Machine
from patience import until

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]
# On both runtimes only what asks the servers or their containers.
pytestmark = [pytest.mark.timeout(600), pytest.mark.long_on("docker")]


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    return str(request.param)


@pytest.fixture(scope="module")
def machine(runtime: str, callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    variables = os.environ | dict(callers_choice) | {"TRITON_RUNTIME": runtime}
    return Machine(tmp_path_factory.mktemp("machine"), variables)


@pytest.fixture(scope="module")
def session(machine: Machine, runtime: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """All services, served in the machine's project: the id. On Docker the quickest, where others are not needed."""
    quickest = runtime == "docker" and not lanes.is_long_among(request.session.items)
    with machine.serving(*(("postgres", "redis") if quickest else ())) as session:
        yield session


def test_status_asks_each_of_its_services(machine: Machine, session: str, runtime: str) -> None:
    shown = machine.good("status")
    assert f"session {session} in {machine.project}" in shown
    assert shown.count("healthy") == 4
    data = json.loads(machine.good("status", "--json", "redis"))
    assert (data["session"], data["project"], data["runtime"], data["healthy"]) == (session, None, runtime, True)
    assert list(data["services"]) == ["redis"]
    assert data["services"]["redis"]["state"] == "running"


def test_a_folder_of_the_project_is_here(machine: Machine, session: str) -> None:
    folder = machine.project / "src" / "deep"
    folder.mkdir(parents=True, exist_ok=True)
    assert json.loads(machine.good("env", "--format", "json", folder=folder))["TRITON_SESSION"] == session


def test_env_has_the_variables_of_the_services_that_are_named(machine: Machine, session: str) -> None:
    every = json.loads(machine.good("env", "--format", "json"))
    some = json.loads(machine.good("env", "redis", "--format", "json"))
    assert every["TRITON_SESSION"] == session
    assert some == {name: value for name, value in every.items() if name.startswith(("REDIS_", "TRITON_SESSION"))}


@pytest.mark.long_on
def test_psql(machine: Machine, session: str) -> None:
    assert machine.good("psql", "-Atc", "select current_user || '@' || current_database()") == "triton_user@triton\n"
    machine.good("psql", "-q", input="create table by_psql (x int)")
    assert machine.good("psql", "-Atc", "select count(*) from by_psql") == "0\n"
    assert machine.run("psql", "-c", "select nothing").returncode == 1


@pytest.mark.long_on
def test_redis_cli_runs_or_says_what_to_install(machine: Machine, session: str, runtime: str) -> None:
    if runtime == "docker":
        assert machine.good("redis-cli", "ping") == "PONG\n"
    else:
        words = machine.refused("redis-cli", "ping", status=1, environment={"PATH": "/nonexistent"})
        assert "apt-get install redis-tools" in words
        # What works everywhere is a command that can be typed as it stands.
        instead = words.partition("without it: ")[2].partition("; or install it")[0]
        done = subprocess.run(
            ["bash", "-c", instead],
            cwd=machine.project,
            env=machine.variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "True\n"


def test_clickhouse_client_runs_or_says_what_to_do_instead(machine: Machine, session: str) -> None:
    done = machine.run("clickhouse-client", "--query", "select currentDatabase()")
    if done.returncode:
        assert re.search(r"clickhouse-client is not installed on this machine|has no clickhouse-client\.", done.stderr)
        assert "hint: curl" in done.stderr
    else:
        assert done.stdout == "triton\n"


def test_s3(machine: Machine, session: str) -> None:
    machine.good("s3", "cp", "-", "s3://triton-documents/greeting", input="hello")
    assert machine.good("s3", "cat", "s3://triton-documents/greeting") == "hello"


@pytest.mark.long_on
def test_logs(machine: Machine, session: str) -> None:
    assert "postgres  | " in machine.good("logs", "postgres", "--tail", "3")
    shown = machine.good("logs", "--services", "postgres,redis", "--tail", "1").splitlines()
    assert sorted(line.partition(" ")[0] for line in shown) == ["postgres", "redis"]


def test_backup_and_restore(machine: Machine, session: str, tmp_path: Path) -> None:
    file = tmp_path / "session.backup"
    machine.good("psql", "-q", input="create table saved as select 42 as x")
    machine.good("backup", str(file), "postgres")
    machine.good("psql", "-q", input="drop table saved")
    assert session in machine.run("restore", str(file), "--yes").stderr
    assert machine.good("psql", "-Atc", "select x from saved") == "42\n"


def test_what_keeps_no_data_is_neither_started_nor_reset(machine: Machine, session: str) -> None:
    for more in ((), ("--session", session)):
        words = machine.refused("reset", "--yes", *more, status=2)
        assert "`reset` is for persistent services" in words
        assert f"down --session {session}" in words
    assert session in machine.refused("up", "--session", session, status=2)


def test_a_service_of_it_is_restarted_where_it_is_named(machine: Machine, session: str) -> None:
    assert f"restart --session {session} SERVICE" in machine.refused("restart", "redis", status=2)
    before = machine.good("env", "--format", "json")
    url = json.loads(before)["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        process = client.info("server")["run_id"]
    done = machine.run("restart", session, "redis", folder=machine.other)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Redis answers again after " in done.stderr
    with redis.Redis.from_url(url) as client:
        assert client.info("server")["run_id"] != process
    assert machine.good("env", "--format", "json") == before
    seen = json.loads(machine.good("status", "--json", "--session", session))["services"]
    assert seen["redis"]["uptime_seconds"] < seen["postgres"]["uptime_seconds"]


@pytest.mark.parametrize(
    "arguments", [("env",), ("psql", "-c", "select 1"), ("s3", "ls"), ("logs",), ("restart", "redis")]
)
def test_in_another_project_it_is_named_and_not_taken(
    arguments: tuple[str, ...], machine: Machine, session: str
) -> None:
    words = machine.refused(*arguments, status=1, folder=machine.other)
    # A long path is cut.
    assert f"--session {session} runs in {machine.project.parents[2]}" in words
    assert "python -m triton_env serve" in words


@pytest.mark.parametrize("by", ["id", "short", "name"])
def test_from_another_project_it_can_be_chosen(by: str, machine: Machine, session: str) -> None:
    name = {"id": session, "short": session[:5], "name": "claims"}[by]
    assert machine.good("psql", "--session", name, "-Atc", "select 6 * 7", folder=machine.other) == "42\n"
    shown = machine.good("env", "--session", name, "--format", "json", folder=machine.other)
    assert json.loads(shown)["TRITON_SESSION"] == session


def test_with_two_of_them_a_person_is_asked_and_a_program_has_to_choose(machine: Machine, session: str) -> None:
    with machine.serving("redis") as second:
        words = machine.refused("env", status=2)
        assert "2 environments run here" in words
        assert f"--session {session} or --session {second}" in words
        first = "1" if session in machine.on_terminal("env", answer="1").partition("Which one")[2] else "2"
        seen = machine.on_terminal("env", answer="2" if first == "1" else "1").partition("Which one")[2]
        assert f"TRITON_SESSION={second}" in seen
        assert machine.good("status").count("session ") == 2
        words = machine.refused("psql", "--session", second, status=2)
        assert f"The session {second} has no PostgreSQL." in words


def test_an_id_is_taken_where_services_are_and_else_named_by_an_option(machine: Machine, session: str) -> None:
    shown = json.loads(machine.good("env", session[:6], "redis", "--format", "json", folder=machine.other))
    assert shown["TRITON_SESSION"] == session
    assert "Missing argument 'SERVICE...'" in machine.refused("restart", session, status=2)
    for command in ("backup any.backup", "restore any.backup"):
        words = machine.refused(*command.split(), session, status=2)
        assert f"is chosen by: --session {session}" in words
    assert "no environment has the id 'nothing'" in machine.refused("down", "nothing", status=2)


def test_down_names_all_sessions_that_it_leaves(machine: Machine, session: str) -> None:
    with machine.serving("redis") as second:
        done = machine.run("down")
        assert done.returncode == 0
        for each in (session, second):
            assert f"down --session {each}" in done.stderr


@pytest.mark.parametrize("name", [("--session",), ()])
def test_down_ends_it_by_its_id(machine: Machine, name: tuple[str, ...]) -> None:
    with machine.serving("redis", folder=machine.other) as session:
        machine.good("down", *name, session)
        assert not (machine.state / "environments" / f"{session}.json").exists()
    assert not list((machine.state / "environments").glob(f"{session}*"))


def test_a_shared_one_is_used_as_well_and_ended_by_its_id(machine: Machine) -> None:
    with machine.serving("redis", "--reuse", folder=machine.other) as session:
        data = json.loads(machine.good("status", "--json", folder=machine.other))
        assert (data["session"], data["healthy"]) == (session, True)
        assert "redis" in machine.good("logs", folder=machine.other)
        machine.good("down", "--session", session)
    assert until(lambda: not list((machine.state / "shared").glob(f"*-{session}")))


def test_one_that_has_ended_is_said_to_have(machine: Machine, session: str) -> None:
    done = machine.run("env", "--format", "json", environment={"TRITON_SESSION": "0ddba115"})
    assert "the session 0ddba115, which TRITON_SESSION names, has ended" in done.stderr
    assert json.loads(done.stdout)["TRITON_SESSION"] == session


def test_nothing_that_could_change_data_takes_another_one_in_its_place(
    machine: Machine, session: str, tmp_path: Path
) -> None:
    file = tmp_path / "session.backup"
    machine.good("backup", str(file), "redis")
    new = str(tmp_path / "new.backup")
    commands = (("restore", str(file), "--yes"), ("backup", new), ("psql", "-c", "select 1"), ("s3", "ls"))
    for arguments in (*commands, ("reset", "--yes")):
        words = machine.refused(*arguments, status=2, environment={"TRITON_SESSION": "0ddba115"})
        assert "The session 0ddba115, which TRITON_SESSION names, has ended" in words
        assert "unset TRITON_SESSION, or choose one with --session or --persistent" in words
    machine.good("restore", str(file), "--yes", "--session", session, environment={"TRITON_SESSION": "0ddba115"})


def test_an_empty_name_is_not_the_one_that_runs_here(machine: Machine, session: str) -> None:
    for command in (("down",), ("env",), ("psql",), ("reset", "--yes"), ("restore", "any.backup", "--yes")):
        assert "'--session': it is empty" in machine.refused(*command, "--session", "", status=2)
