"""Starts that take long: seen by `ps`, ended by `stop` and by Ctrl-C. A cluster without room has them wait."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import forkserver
from faces.served import PROGRAM, Machine
from patience import WAIT, until
from pending_cluster import path_with, put_kubectl

WAITS = "no node yet: 0/3 nodes are available: 3 Insufficient cpu."


@pytest.fixture
def machine(callers_choice: Mapping[str, str], tmp_path: Path) -> Machine:
    put_kubectl(tmp_path / "bin")
    own = {"TRITON_RUNTIME": "kubernetes", "PATH": path_with(tmp_path / "bin"), "TRITON_PROGRESS": "plain"}
    return Machine(tmp_path, os.environ | dict(callers_choice) | own)


@contextmanager
def starting(machine: Machine, *command: str) -> "Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]":
    """A command that starts what cannot start, and how `ps` lists that."""
    with forkserver.Popen(
        [*PROGRAM, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=machine.project,
        env=machine.variables,
    ) as process:
        try:
            assert until(lambda: WAITS in machine.good("ps", "--json"))
            (entry,) = environments(machine)
            yield process, entry
        finally:
            process.kill()


def environments(machine: Machine) -> list[dict[str, Any]]:
    found = json.loads(machine.good("ps", "--json"))["environments"]
    return [each for each in found if each["runtime"] == "kubernetes"]


def test_a_start_that_waits_is_listed_with_its_stage_and_ended_by_stop(machine: Machine, tmp_path: Path) -> None:
    with starting(machine, "serve", "redis", "postgres") as (process, entry):
        assert (entry["mode"], entry["started"]) == ("session", None)
        assert (entry["owner"]["pid"], entry["owner"]["held_by"]) == (process.pid, "serve")
        assert {each["name"]: (each["state"], each["stage"]) for each in entry["services"]} == {
            "redis": ("starting", WAITS),
            "postgres": ("starting", WAITS),
        }
        assert "starting" in machine.good("ps")
        machine.good("stop", entry["id"][:5])
        assert process.wait(WAIT) == 128 + signal.SIGTERM
        assert process.stderr is not None
        said = process.stderr.read()
        assert "interrupted; ending what was started" in said
        assert "ended in" in said
        assert "What was started is removed." in said
    assert environments(machine) == []
    assert list((tmp_path / "bin/objects").iterdir()) == []


def test_ctrl_c_says_what_it_does_and_what_came_of_it(machine: Machine, tmp_path: Path) -> None:
    with starting(machine, "run", "--services", "redis", "--", "true") as (process, _):
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=WAIT)[1]
        assert process.returncode == 130
        assert said.index("interrupted; ending") < said.index("ended in") < said.index("Interrupted by Ctrl-C.")
    assert list((tmp_path / "bin/objects").iterdir()) == []


def test_a_start_whose_process_was_killed_is_not_listed(machine: Machine) -> None:
    with starting(machine, "serve", "redis") as (process, _):
        process.kill()
        process.wait(WAIT)
        assert environments(machine) == []
    assert list((machine.state / "starting").iterdir()) == []
