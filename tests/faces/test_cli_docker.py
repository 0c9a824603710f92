"""The command line as users run it: processes, real containers, real signals, and nothing left on the engine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import psycopg
import pytest
import redis
from dotenv import dotenv_values

import forkserver

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

PROGRAM = (sys.executable, "-m", "triton_env")
SERVICES = "postgres,redis"
SERVE = ["serve", "--services", SERVICES]
RUN = ["run", "--services", SERVICES, "--", "true"]
PROJECT = "org.triton-env.owner.project"


class Engine:
    """What the engine has of the environments that were started in this folder."""

    def __init__(self, folder: Path) -> None:
        self._client = docker.from_env()
        self._folder = folder

    def left(self) -> list[str]:
        ours = {"label": f"{PROJECT}={self._folder}"}
        api = self._client.api
        found = [*api.containers(all=True, filters=ours), *api.networks(filters=ours)]
        found += api.volumes(filters=ours)["Volumes"] or []
        return [str(each.get("Names") or each.get("Name")) for each in found]

    def wait_for_containers(self, process: subprocess.Popen[str]) -> None:
        while not self.left():
            assert process.poll() is None
            time.sleep(0.02)

    def kill(self, environment: str, service: str) -> None:
        self._client.containers.get(f"triton-{environment}-{service}").kill()

    def clear(self) -> None:
        """Remove what a failed test left behind."""
        ours = {"label": f"{PROJECT}={self._folder}"}
        for container in self._client.containers.list(all=True, filters=ours, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in self._client.networks.list(filters=ours):
            network.remove()

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine, in the end checked to have nothing of this test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
    # Of which no persistent services run, whatever else does on this engine.
    monkeypatch.setenv("TRITON_PROJECT", "no-such-project")
    engine = Engine(tmp_path)
    yield engine
    left = engine.left()
    engine.clear()
    engine.close()
    assert left == []


def started(*arguments: str) -> subprocess.Popen[str]:
    return forkserver.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forkserver.run([*PROGRAM, *arguments], capture_output=True, text=True)


class Serving:
    """`serve --json` in a process of its own, ready."""

    def __init__(self, *arguments: str) -> None:
        self.process = started("serve", "--json", *arguments)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.data: Mapping[str, Any] = json.loads(line)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@contextmanager
def ended(serving: Serving) -> Iterator[Serving]:
    """What serves, and does not any more in the end."""
    try:
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.end()


@pytest.fixture
def serving(engine: Engine, tmp_path: Path) -> Iterator[Serving]:
    """PostgreSQL and Redis, with their variables in session.env."""
    with ended(Serving("--services", SERVICES, "--env-file", str(tmp_path / "session.env"))) as serving:
        yield serving


@pytest.fixture
def redis_alone(engine: Engine) -> Iterator[Serving]:
    """The quickest to start."""
    with ended(Serving("--services", "redis")) as serving:
        yield serving


def test_what_serve_prints_can_be_used_and_is_gone_in_the_end(engine: Engine, serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "session.env"
    assert path.stat().st_mode & 0o777 == 0o600
    assert dotenv_values(path) == serving.data["environ"]
    services = serving.data["services"]
    assert serving.data["runtime"] == "docker"
    with psycopg.connect(services["postgres"]["url"]) as connection:
        assert connection.execute("select 6 * 7").fetchone() == (42,)
    with redis.Redis.from_url(services["redis"]["url"]) as client:
        assert client.ping()
        assert services["redis"]["version"] == client.info("server")["redis_version"]
    assert services["postgres"]["version"].split(".")[0].isdigit()
    assert len(engine.left()) == 3
    status, out, err = serving.end(signal.SIGTERM)
    assert status == 0
    assert out == ""
    assert "Traceback" not in err
    assert "Nothing is left." in err
    assert engine.left() == []
    assert not path.exists()


# SIGTERM is the one of the test before.
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_a_signal_while_it_serves(number: int, engine: Engine, redis_alone: Serving) -> None:
    status, _, err = redis_alone.end(number)
    assert status == 0
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (SERVE, signal.SIGINT),
        pytest.param(SERVE, signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(RUN, signal.SIGINT, marks=pytest.mark.long),
        (RUN, signal.SIGTERM),
    ],
)
def test_a_signal_while_it_starts(
    command: list[str], number: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PostgreSQL does not answer the first question, and it is not asked again before the signal comes.
    monkeypatch.setenv("TRITON_POLL_INTERVAL", "15")
    process = started(*command)
    engine.wait_for_containers(process)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert out == ""
    assert "Interrupted by" in err
    assert "Traceback" not in err


def test_sigint_ends_it_also_where_a_shell_started_it_in_the_background(engine: Engine) -> None:
    # POSIX shells without job control start background commands with SIGINT ignored.
    script = f'trap "" INT; exec {sys.executable} -m triton_env serve --json --services redis'
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.long
def test_env_prints_the_same_variables_in_each_format_and_with_two_environments_asks_which(
    engine: Engine, serving: Serving
) -> None:
    expected = serving.data["environ"]
    assert json.loads(done("env", "--format", "json").stdout) == expected
    shell = f'eval "$({sys.executable} -m triton_env env --format shell)" && echo "$DATABASE_URL"'
    assert subprocess.check_output(["sh", "-c", shell], text=True).strip() == expected["DATABASE_URL"]
    dotenv = done("env")
    Path("x.env").write_text(dotenv.stdout)
    assert dotenv_values("x.env") == expected
    sourced = subprocess.check_output(["sh", "-c", 'set -a; . ./x.env; echo "$REDIS_URL"'], text=True)
    assert sourced.strip() == expected["REDIS_URL"]

    with ended(Serving("--services", "redis")) as other:
        result = done("env")
        assert result.returncode == 2
        assert result.stdout == ""
        for each in (serving, other):
            assert each.data["id"] in result.stderr
            chosen = done("env", "--format", "json", "--id", each.data["id"])
            assert json.loads(chosen.stdout) == each.data["environ"]
    assert json.loads(done("env", "--format", "json").stdout) == expected


def test_serve_says_that_a_container_died_and_still_cleans_up(engine: Engine, serving: Serving) -> None:
    engine.kill(serving.data["id"], "redis")
    assert serving.process.stderr is not None
    for line in serving.process.stderr:
        if "Redis died at " in line:
            break
    assert "exit code 137, which stands for SIGKILL" in line
    assert serving.end()[0] == 0


def test_run_gives_the_variables_and_passes_output_and_status_on(engine: Engine) -> None:
    script = "import os, psycopg; print(psycopg.connect(os.environ['DATABASE_URL']).info.dbname); raise SystemExit(7)"
    result = done("run", "--services", "postgres", "--", sys.executable, "-c", script)
    assert result.returncode == 7
    assert result.stdout == "triton\n"
    assert "PostgreSQL ready after" in result.stderr


def test_run_passes_signals_on_and_tears_down_afterwards(engine: Engine) -> None:
    script = "import signal, time; signal.signal(15, lambda *_: exit(42)); print('up', flush=True); time.sleep(600)"
    process = started("run", "--services", "redis", "--", sys.executable, "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert engine.left()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 42


def test_run_reports_a_command_that_a_signal_ended(engine: Engine) -> None:
    script = "import os; os.kill(os.getpid(), 9)"
    assert done("run", "--services", "redis", "--", sys.executable, "-c", script).returncode == 137


def test_an_image_that_cannot_be_had(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_IMAGE", "triton-env.invalid/redis:7")
    result = done("serve", "--services", SERVICES)
    assert result.returncode == 1
    assert result.stdout == ""
    words = " ".join(result.stderr.split())
    assert "error: The image triton-env.invalid/redis:7 is not on the engine and could not be pulled." in words
    assert "hint: docker pull" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pipe_without_reader_does_not_keep_it_from_cleaning_up(engine: Engine) -> None:
    process = started("serve", "--services", "redis")
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    assert "redis://" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.stdout.close()
    assert process.wait() == 0


def test_doctor_finds_nothing_bad(engine: Engine) -> None:
    result = done("doctor", "--json")
    assert result.returncode == 0, result.stdout
    data = json.loads(result.stdout)
    assert data["bad"] == 0
    image = os.environ.get("REDIS_IMAGE", "redis:7-alpine")
    assert any(image in row["words"] for row in data["findings"])
