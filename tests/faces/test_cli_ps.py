"""What runs and how it is ended: `ps` and `stop`, and commands on a session that a program has started for itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import forkserver
from faces.served import Machine
from patience import WAIT, until
from triton_env import Settings, TritonEnvironment, inspection
from triton_env.inspection import EnvironmentEntry, Inspection, inspect, without_password

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("embedded_packages")]

_PROGRAM = """
import sys
from triton_env import TritonEnvironment
with TritonEnvironment(services=("redis",), runtime="embedded") as env:
    env.redis.client().set("of", "the program")
    print(env.id, flush=True)
    sys.stdin.read()
"""
_TWO = """
import sys
from triton_env import TritonEnvironment
with (
    TritonEnvironment(services=("redis",), runtime="embedded") as one,
    TritonEnvironment(services=("redis",), runtime="embedded") as other,
):
    print(one.id, other.id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def machine(callers_choice: Mapping[str, str], tmp_path: Path) -> Machine:
    return Machine(tmp_path, os.environ | dict(callers_choice) | {"TRITON_RUNTIME": "embedded"})


@contextmanager
def own_session(machine: Machine, program: str = _PROGRAM) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A program in the machine's project that has started a session for itself: what it prints, and the program."""
    with forkserver.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=machine.project,
        env=machine.variables,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def listed(machine: Machine) -> dict[str, Any]:
    """Sessions and shared environments by id. Persistent services may be those of others on this engine."""
    found = json.loads(machine.good("ps", "--json"))["environments"]
    return {each["id"]: each for each in found if each["mode"] != "persistent"}


def found(inspection: Inspection, environment: TritonEnvironment) -> EnvironmentEntry:
    """One of the environments. Others may be persistent services of others on this machine."""
    (entry,) = (each for each in inspection.environments if each.id == environment.id)
    return entry


def test_a_session_of_a_program_is_seen_and_used_by_its_id_alone(machine: Machine) -> None:
    with own_session(machine) as (session, program):
        (entry,) = listed(machine).values()
        assert (entry["id"], entry["mode"], entry["runtime"], entry["is_offered"]) == (
            session,
            "session",
            "embedded",
            False,
        )
        owner = entry["owner"]
        assert (owner["pid"], owner["held_by"], owner["project"]) == (program.pid, "python", str(machine.project))
        assert owner["command"]
        (redis,) = entry["services"]
        assert (redis["name"], redis["state"]) == ("redis", "running")
        assert redis["url"] == f"redis://:***@127.0.0.1:{redis['ports']['redis']}/0"
        variables = json.loads(machine.good("env", "--session", session, "--format", "json"))
        assert variables["REDIS_PASSWORD"] not in machine.good("ps", "--json") + machine.good("ps")
        status = json.loads(machine.good("status", "--session", session, "--json"))
        assert status["healthy"] is True
        assert status["services"]["redis"]["memory_bytes"] > 1_000_000
        # It is for this program, though commands stand in its project.
        assert "No environment is running here." in machine.refused("env", status=1)


def test_ending_a_session_ends_its_program_which_is_asked_about(machine: Machine) -> None:
    with own_session(machine) as (session, program):
        words = machine.refused("stop", session, status=2)
        assert f"{session}: process {program.pid} ends with it" in words
        assert program.poll() is None
        machine.good("stop", "--yes", session[:5])
        assert program.wait(WAIT) == 128 + signal.SIGTERM or program.returncode == -signal.SIGTERM
    assert listed(machine) == {}


def test_two_sessions_of_one_program_end_with_it(machine: Machine) -> None:
    with own_session(machine, _TWO) as (sessions, program):
        machine.good("stop", "--yes", *sessions.split())
        program.wait(WAIT)
    assert listed(machine) == {}


def test_a_shared_environment_shows_who_uses_it_and_can_be_ended(machine: Machine) -> None:
    with machine.serving("--reuse", "redis") as session:
        entry = listed(machine)[session]
        assert entry["mode"] == "shared"
        (user,) = entry["users"]
        words = machine.refused("stop", session, status=2)
        assert f"{session}: process {user} uses it" in words
        machine.good("stop", "--yes", session)
        assert until(lambda: session not in listed(machine))


def test_logs_and_status_take_an_id_before_the_services(machine: Machine) -> None:
    with machine.serving("redis") as session, machine.serving("redis", folder=machine.other):
        lines = machine.good("logs", session[:6], "redis", "--tail", "5").splitlines()
        assert lines
        assert all(line.startswith("redis  | ") for line in lines)
        status = json.loads(machine.good("status", session, "--json"))
        assert (status["session"], list(status["services"])) == (session, ["redis"])
        words = machine.refused("logs", "nothing", "redis", status=2)
        assert "no environment has the id 'nothing', and there is no service 'nothing'" in words
        assert "there is no service 'nothing'" in machine.refused("logs", "redis", "nothing", status=2)
        words = machine.refused("logs", "--session", session, session, status=2)
        assert "--session, --persistent and --project name an environment already" in words


def test_nothing_is_ended_where_one_of_the_names_is_wrong(machine: Machine) -> None:
    with machine.serving("redis") as session:
        words = machine.refused("stop", session, "nothing", status=2)
        assert "No session is called 'nothing'." in words
        assert "hint: python -m triton_env stop ID" in words.replace(f"{sys.executable} ", "python ")
        assert session in machine.good("ps", "--quiet").split()


def test_reading_logs_is_not_listed_as_a_use(machine: Machine) -> None:
    with (
        machine.serving("redis") as session,
        forkserver.Popen(
            [sys.executable, "-m", "triton_env", "logs", session, "--follow"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=machine.project,
            env=machine.variables,
        ) as reader,
    ):
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline()
            assert listed(machine)[session]["users"] == []
        finally:
            reader.kill()


def test_a_record_of_a_killed_owner_is_removed_by_the_next_start(machine: Machine) -> None:
    with own_session(machine) as (session, program):
        record = machine.state / "environments" / f"{session}.json"
        assert record.exists()
        program.kill()
        program.wait(WAIT)
    with own_session(machine):
        assert not record.exists()


def test_a_lazy_environment_is_listed_once_all_is_ready_and_not_after_its_end(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), triton_runtime="embedded", triton_progress="off")
    environment = TritonEnvironment(settings, services=("redis",), lazy=True).start()
    try:
        environment.redis.client().close()
        assert until(lambda: [each.id for each in inspect(settings).environments if each.mode == "session"])
        assert environment.id in [each.id for each in inspect(settings).environments]
    finally:
        environment.stop()
    assert [each for each in inspect(settings).environments if each.mode == "session"] == []


def test_what_a_session_has_besides_its_own_is_listed(tmp_path: Path) -> None:
    settings = Settings(
        triton_state_dir=str(tmp_path), triton_runtime="embedded", triton_progress="off", triton_pool_size="0"
    )
    with TritonEnvironment(settings, services=("redis",)) as environment:
        environment.snapshot("before")
        with environment.namespace("mine", template=lambda namespace: None):
            spaces = inspect(settings).environments[0].spaces
        assert [(each.kind, each.name, each.pid, each.is_kept) for each in spaces if each.kind != "template"] == [
            ("namespace", "triton_ns_mine", os.getpid(), False),
            ("snapshot", "before", None, True),
        ]
        assert [each.services for each in spaces] == [("redis",)] * 3
        # What was closed is removed in the background.
        assert until(
            lambda: {each.kind for each in inspect(settings).environments[0].spaces} == {"template", "snapshot"}
        )


def test_a_namespace_shows_the_test_that_it_was_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    settings = Settings(
        triton_state_dir=str(tmp_path), triton_runtime="embedded", triton_progress="off", triton_pool_size="1"
    )

    def namespaces() -> "list[tuple[str | None, bool]]":
        entry = found(inspect(settings), environment)
        return [(each.made_by, each.is_ready) for each in entry.spaces if each.kind == "namespace"]

    with TritonEnvironment(settings, services=("redis",)) as environment:
        ours = request.node.nodeid
        with environment.namespace():
            # Of the next one, which the pool makes meanwhile, nothing is known yet.
            assert until(lambda: set(namespaces()) == {(None, True), (ours, False)})
            monkeypatch.delenv("PYTEST_CURRENT_TEST")
            with environment.namespace() as of_pool:
                of_pool.keep()
                assert (None, False) in namespaces()


def test_an_engine_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as silent:
        # Of a short path. It takes connections, and nothing answers them.
        silent.bind(f"{folder}/engine.sock")
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/engine.sock")
        monkeypatch.setattr(inspection, "ENGINE_TIMEOUT", 0.2)
        found = inspect(Settings(triton_state_dir=str(tmp_path), triton_data_dir=str(tmp_path)))
    assert found.environments == ()
    assert found.engine_problem == "no engine answers within 0.2 s"


def test_one_that_hangs_does_not_hold_the_others(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), triton_runtime="embedded", triton_progress="off")
    with (
        TritonEnvironment(settings, services=("redis",)) as hanging,
        TritonEnvironment(settings, services=("redis", "s3")) as well,
    ):
        (server,) = {
            each.pid
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr.port == hanging.redis.port
        }
        assert server
        process = psutil.Process(server)
        process.suspend()
        try:
            seen = inspect(settings, ask=True)
            (entry,) = (each for each in seen.environments if each.id == well.id)
            alone = inspect(settings, ask=True, only=entry.key)
        finally:
            process.resume()
        (stopped,) = found(seen, hanging).services
        assert stopped.health is not None
        assert not stopped.health.is_good
        assert stopped.health.problem
        assert stopped.metrics is None
        for each_seen in (seen, alone):
            assert [each.health and each.health.is_good for each in found(each_seen, well).services] == [True, True]
        # Who asks one environment asks no other, and does not wait for it.
        assert [each.health for each in found(alone, hanging).services] == [None]
        assert alone.leftovers is None


def test_a_session_starts_where_no_list_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "environments").touch()
    settings = Settings(triton_state_dir=str(tmp_path), triton_runtime="embedded", triton_progress="off")
    with TritonEnvironment(settings, services=("redis",)) as environment:
        assert environment.redis.client().ping()


def test_watch_prints_again_and_again_until_ctrl_c(machine: Machine) -> None:
    with (
        machine.serving("redis") as session,
        forkserver.Popen(
            [sys.executable, "-m", "triton_env", "ps", "--watch"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=machine.project,
            env=machine.variables,
        ) as process,
    ):
        assert process.stdout is not None
        seen = 0
        while seen < 2:
            line = process.stdout.readline()
            assert line
            seen += line.startswith(session)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate()
        assert (process.returncode, words) == (0, "")


def completed(machine: Machine, *words: str) -> list[str]:
    """What bash offers for the last word of a command line."""
    line = {"COMP_WORDS": " ".join(("triton-env", *words)), "COMP_CWORD": str(len(words))}
    variables = machine.variables | line | {"_TRITON_ENV_COMPLETE": "bash_complete"}
    program = "import sys; from triton_env.__main__ import main; sys.argv[:] = ['triton-env']; main()"
    done = forkserver.run([sys.executable, "-c", program], capture_output=True, text=True, env=variables)
    return [word.partition(",")[2] for word in done.stdout.splitlines()]


def test_shells_complete_commands_services_and_what_runs(machine: Machine) -> None:
    with machine.serving("redis") as session:
        assert completed(machine, "stop", session[:3]) == [session]
        assert completed(machine, "status", "--session", session[:1]) == [session]
        assert completed(machine, "logs", session[:3]) == [session]
        assert completed(machine, "logs", session, "-f", "re") == ["redis"]
    assert completed(machine, "st") == ["stop", "status"]
    assert completed(machine, "status", "postgres", "re") == ["redis"]
    assert completed(machine, "up", "--services", "postgres,cl") == ["postgres,clickhouse"]
    assert completed(machine, "serve", "--runtime", "em") == ["embedded"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:p%40ss@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("redis://:p@ss@host:1/0", "redis://:***@host:1/0"),
        ("http://me@host:1", "http://me@host:1"),
        ("http://host:1", "http://host:1"),
        ("postgresql://me@h/db?a=1&password=p%26w&b=", "postgresql://me@h/db?a=1&password=***&b="),
        ("http://h:1/?user=me&Auth-Token=t&a_%53ecret=s", "http://h:1/?user=me&Auth-Token=***&a_%53ecret=***"),
    ],
)
def test_no_url_is_shown_with_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
