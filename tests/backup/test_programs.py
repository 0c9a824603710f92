"""Programs beside a server: how they are run in each runtime, what they read and write, and how they fail."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from projects import project
from triton_env import Settings, TritonEnvironment
from triton_env.archive.records import Writable
from triton_env.backup.programs import feed, output
from triton_env.core.model import Placement, Program
from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.services import Postgres
from triton_env.services.base_backup import ProgramFailed

# A start takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)

SECRET = "hunter2-hunter2"


def copy_output(program: Program, target: Writable) -> None:
    with closing(output(program)) as pieces:
        for piece in pieces:
            target.write(piece)


def python(code: str, **environment: str) -> Program:
    return Program((sys.executable, "-c", code), os.environ | environment)


class TestStreams:
    def test_output_of_any_length(self) -> None:
        target = io.BytesIO()
        copy_output(python("import sys; sys.stdout.write('x' * 5_000_000)"), target)
        assert target.getvalue() == b"x" * 5_000_000

    def test_input_of_any_length(self) -> None:
        counted: list[int] = []
        code = "import sys; sys.exit(len(sys.stdin.buffer.read()) != 5_000_000)"
        feed(python(code), io.BytesIO(b"x" * 5_000_000), counted.append)
        assert sum(counted) == 5_000_000

    def test_what_it_says_last_is_the_message(self) -> None:
        code = "import sys\nfor n in range(50): print('line', n, file=sys.stderr)\nsys.exit(3)"
        for run in (lambda: copy_output(python(code), io.BytesIO()), lambda: feed(python(code), io.BytesIO(b"x"))):
            with pytest.raises(ProgramFailed) as raised:
                run()
            assert str(raised.value).splitlines() == [f"line {number}" for number in range(38, 50)]

    def test_one_that_says_nothing(self) -> None:
        with pytest.raises(ProgramFailed, match="exit status 3"):
            copy_output(python("raise SystemExit(3)"), io.BytesIO())

    def test_one_that_stops_reading_tells_why(self) -> None:
        code = "import sys; sys.stdin.buffer.read(10); sys.stdin.close(); sys.exit('that is enough')"
        with pytest.raises(ProgramFailed, match="that is enough"):
            feed(python(code), io.BytesIO(b"x" * 20_000_000))

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(ProgramFailed, match="no such program: No such file"):
            copy_output(Program(("no such program",), {}), io.BytesIO())

    def test_one_whose_output_nobody_takes_any_more_ends(self) -> None:
        pids: list[int] = []

        class Full:
            def write(self, data: bytes) -> None:
                pids.append(int(data.split()[0]))
                raise OSError("no space left")

        code = (
            "import os, time\nprint(os.getpid(), flush=True)\n"
            "while True: print('x' * 100_000, flush=True); time.sleep(0.01)"
        )
        with pytest.raises(OSError, match="no space left"):
            copy_output(python(code), Full())
        # That one: what other tests have begun may end at any moment.
        (pid,) = pids
        assert not psutil.pid_exists(pid)


class TestInContainers:
    def test_secrets_are_in_no_command_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        docker = tmp_path / "docker"
        docker.write_text("#!/bin/sh\n")
        docker.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        recipe = Postgres.recipe(Settings())
        argv = ("pg_dump", "--host={host}", "--port={port:postgres}", "{other}")
        access = ContainerAccess("tcp://engine:1", "the-container")
        program = access.program(recipe, Placement({}), argv, {"PGPASSWORD": SECRET})
        words = ("-e", "PGPASSWORD", "the-container", "pg_dump", "--host=127.0.0.1", "--port=5432", "{other}")
        assert program.argv == (str(docker), "exec", "-i", *words)
        assert program.environment["PGPASSWORD"] == SECRET
        assert program.environment["DOCKER_HOST"] == "tcp://engine:1"
        assert SECRET not in repr(program)

    def test_success_is_what_the_container_says_and_not_the_docker_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker = tmp_path / "docker"
        # As where the connection breaks off.
        docker.write_text("#!/bin/sh\necho half\n")
        docker.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        program = ContainerAccess("unix:///x", "the-container").program_inside(("pg_dump",), {})
        for run in (lambda: copy_output(program, io.BytesIO()), lambda: feed(program, io.BytesIO(b"x"))):
            with pytest.raises(
                ProgramFailed, match="the connection to the container was lost before the program had finished"
            ):
                run()

    def test_without_a_docker_command_it_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RuntimeUnavailable, match="docker command line is needed to run pg_dump"):
            ContainerAccess("unix:///x", "the-container").program_inside(("pg_dump",), {})


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("persistent", marks=pytest.mark.docker),
        "embedded",
    ]
)
def env(request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
    """One that has PostgreSQL alone."""
    services = ("postgres",)
    if request.param == "persistent":
        with project() as settings, TritonEnvironment(settings, services=services, persistent=True) as environment:
            yield environment
        return
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    with TritonEnvironment(services=services, runtime=request.param) as environment:
        yield environment


@pytest.mark.long_on("persistent")
def test_they_reach_the_server(env: TritonEnvironment) -> None:
    target = io.BytesIO()
    variables = {"PGUSER": env.postgres.user, "PGPASSWORD": env.postgres.password, "PGDATABASE": "triton"}
    argv = ("psql", "--host={host}", "--port={port:postgres}", "-Atc", "show server_version_num")
    if env.runtime == "embedded":
        # That distribution has no psql.
        argv = ("pg_dump", "--host={host}", "--port={port:postgres}", "--schema-only")
    program = env.program("postgres", argv, variables)
    assert env.postgres.password not in " ".join(program.argv)
    copy_output(program, target)
    assert target.getvalue()
    bad: Mapping[str, str] = variables | {"PGDATABASE": "no-such-database"}
    with pytest.raises(ProgramFailed, match='database "no-such-database" does not exist'):
        copy_output(env.program("postgres", argv, bad), target)


def test_importing_the_package_loads_no_driver() -> None:
    code = "import sys, triton_env.backup; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"psycopg", "redis", "boto3", "urllib3", "docker"}.isdisjoint(done.stdout.split())
