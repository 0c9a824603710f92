"""`top` on a terminal: what it shows, what its keys do, and how it leaves the terminal behind."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import redis

import terminals
from faces.served import Machine
from patience import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("embedded_packages")]

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e"
"""Renames the window, clears the screen, and turns what follows around."""
SHOWN = r"\x1b]0;owned\x07\x1b[2J\u202e"


class Running(NamedTuple):
    machine: Machine
    id: str
    variables: Mapping[str, str]


def machine_in(folder: Path, choice: Mapping[str, str]) -> Machine:
    """One on which nothing else runs: persistent services of others are neither on its engine nor in its folder."""
    alone = {"DOCKER_HOST": f"unix://{folder}/no.sock", "TRITON_DATA_DIR": str(folder / "data")}
    return Machine(folder, os.environ | dict(choice) | {"TRITON_RUNTIME": "embedded"} | alone)


@pytest.fixture(scope="module")
def running(callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A session with two services, which no test ends."""
    machine = machine_in(tmp_path_factory.mktemp("top"), callers_choice)
    with machine.serving("postgres", "redis") as session:
        variables = json.loads(machine.good("env", "--session", session, "--format", "json"))
        yield Running(machine, session, variables)


@pytest.fixture
def top(running: Running) -> Iterator[terminals.Terminal]:
    with terminals.command_line(["top"], running.machine.variables, running.machine.project) as terminal:
        assert terminal.shows(running.id, "redis", "postgres", "healthy")
        yield terminal


def test_services_are_shown_with_what_they_use_and_do(running: Running, top: terminals.Terminal) -> None:
    client = redis.Redis.from_url(running.variables["REDIS_URL"])

    def shows_operations() -> bool:
        for _ in range(500):
            client.ping()
        words = next((line for line in top.screen.splitlines() if "redis" in line), "").split()
        # Of a machine that has no time, some of it is lacking now and then.
        if len(words) < 9 or words[:3] != [running.id, "redis", "running"] or words[4:7:2] != ["%", "MiB"]:
            return False
        # The connections, then operations per second: far more than the questions of `top` itself.
        return words[7].isdigit() and "." in words[8] and float(words[8]) > 50

    assert until(shows_operations)
    client.close()


def test_a_filter_and_the_arrows_select_the_log_that_is_followed(running: Running, top: terminals.Terminal) -> None:
    top.press("/pg\x7f\x7fpostg")
    assert top.shows("1 of 2 service", "/postg_")
    assert "redis" not in top.screen.partition("\n")[2].rpartition("\n")[0]
    top.press("\rl")
    assert top.shows(f"postgres of {running.id}", "follows")
    with (
        psycopg.connect(running.variables["DATABASE_URL"], autocommit=True) as connection,
        pytest.raises(psycopg.errors.SyntaxError),
    ):
        connection.execute(f"nonsense {HOSTILE} of a test")
    assert top.shows(f"nonsense {SHOWN} of a test")
    top.press("q\x1b")
    assert top.shows("2 services")
    top.press("\x1b[B\x1b[A\x1bOBl")
    assert top.shows(f"redis of {running.id}")
    assert "\x1b]0;" not in top.seen
    assert "\u202e" not in top.seen


def test_what_has_no_letters_is_not_typed_for_a_filter(top: terminals.Terminal) -> None:
    top.press("/\u202eñ\x01[x")
    assert top.shows("/ñ[x_", "Nothing has these letters. Escape shows all.")
    top.press("\x1b?")
    assert top.shows("restart the service, after a question")
    top.press("x")
    assert top.shows("2 services")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 129)]
)
def test_signals_leave_the_terminal_as_it_was(running: Running, number: int, status: int) -> None:
    with terminals.command_line(["top"], running.machine.variables, running.machine.project) as top:
        assert top.shows(running.id)
        during = top.mode()
        if number == signal.SIGINT:
            top.press("\x03")
        else:
            top.process.send_signal(number)
        assert top.wait() == status
        # Another screen and no cursor, then the screen and the cursor of before.
        assert until(lambda: top.seen.rstrip().endswith(("\x1b[?1049l", "\x1b[?25h")))
        assert top.seen.rindex("\x1b[?1049l") > top.seen.rindex("\x1b[?1049h")
        assert top.seen.rindex("\x1b[?25h") > top.seen.rindex("\x1b[?25l")
        assert "Traceback" not in top.seen
        assert top.mode() != during
        assert top.mode()[3] & terminals.ECHO_AND_LINES == terminals.ECHO_AND_LINES


def test_a_terminal_of_any_size_is_filled_and_not_overrun(running: Running, top: terminals.Terminal) -> None:
    for rows, columns in ((4, 40), (3, 20), (2, 9), (1, 1), (30, 150)):
        top.resize(rows, columns)
        assert until(lambda rows=rows, columns=columns: top.size_shown() == (rows, columns)), (rows, columns)
    assert top.shows(running.id, "health")
    top.press("q")
    assert top.wait() == 0


def test_a_restart_and_an_end_come_after_a_question(callers_choice: Mapping[str, str], tmp_path: Path) -> None:
    machine = machine_in(tmp_path, callers_choice)
    with (
        machine.serving("redis") as session,
        terminals.command_line(["top"], machine.variables, machine.project, columns=80) as top,
    ):
        assert top.shows(session, "healthy")
        top.press("r")
        assert top.shows(f"Restart Redis of {session}? Lost: ", "that may be all. y/n")
        top.press("n")
        assert top.shows("q quit")
        top.press("s")
        assert top.shows(f"Stop {session}? Lost: ", "y/n")
        top.press("y")
        assert top.shows(f"The environment {session} has ended.")
        assert top.shows("Nothing runs.")
        top.press("q")
        assert top.wait() == 0


def test_without_a_terminal_it_says_so(running: Running) -> None:
    words = running.machine.refused("top", status=2)
    assert "`top` needs a terminal" in words
    assert "ps --long --watch" in words
