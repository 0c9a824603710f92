"""What reads the output of commands leaves, or was never there; what is watched ends."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import forkserver
from faces.served import PROGRAM, Machine
from patience import WAIT
from triton_env import cli
from triton_env.cli import command_line

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("embedded_packages")]


@pytest.fixture(scope="module")
def machine(callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    variables = os.environ | dict(callers_choice) | {"TRITON_RUNTIME": "embedded"}
    return Machine(tmp_path_factory.mktemp("machine"), variables)


@pytest.fixture
def session(machine: Machine) -> Iterator[str]:
    with machine.serving("redis") as session:
        yield session


def begun(machine: Machine, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[Any]":
    return forkserver.Popen(
        [*PROGRAM, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=machine.project,
        env=machine.variables,
    )


def test_a_watch_ends_with_the_session_that_it_shows(machine: Machine, session: str) -> None:
    watches = [begun(machine, "status", "--watch", *more) for more in ((), ("--json",))]
    for watch in watches:
        assert watch.stdout is not None
        assert session in watch.stdout.readline()
    machine.good("stop", session)
    for watch in watches:
        _, words = watch.communicate(timeout=WAIT)
        assert (watch.returncode, words) == (0, f"The session {session} has ended.\n")


def test_what_follows_a_log_ends_as_soon_as_its_reader_leaves(machine: Machine, session: str) -> None:
    with begun(machine, "logs", "--follow", "--tail", "1") as following:
        assert following.stdout is not None
        # The server writes no other line.
        assert following.stdout.readline().startswith("redis  | ")
        following.stdout.close()
        assert following.wait(WAIT) == 0
        assert following.stderr is not None
        assert following.stderr.read() == ""


# A dry run: what else is removed on this machine is in the hands of other tests.
@pytest.mark.parametrize(
    "command", ["ps", "ps --json", "ps --watch", "--help", "ps --help", "doctor", "prune --dry-run --json"]
)
def test_no_reader_is_not_a_failure(command: str, machine: Machine) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = begun(machine, *command.split(), stdout=writer)
    finally:
        os.close(writer)
    _, words = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "broken pipe" not in words.lower()
    assert "should not have happened" not in words


def test_neither_is_a_closed_standard_output(machine: Machine) -> None:
    # `sh` closes it: `subprocess` cannot.
    program = f'"{sys.executable}" -m triton_env doctor >&-'
    done = subprocess.run(
        ["sh", "-c", program], cwd=machine.project, env=machine.variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "should not have happened" not in done.stderr


def test_the_connection_of_a_server_that_breaks_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @click.command()
    def failing() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli._Commands, "get_command", lambda *_: failing)
    done = CliRunner().invoke(command_line, ["failing"])
    assert done.exit_code == 1
    assert "This should not have happened: BrokenPipeError" in done.stderr
