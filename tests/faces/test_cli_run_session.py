"""What uses triton-env inside of `run`, and in a shell with the variables of `env`, uses the session that is there."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from faces.served import Machine

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("embedded_packages")]

SCRIPT = """
import sys
from triton_env import Settings, TritonEnvironment
with TritonEnvironment({arguments}) as env:
    print(env.id)
"""
TESTS = """
import pytest
@pytest.mark.parametrize("number", range(4))
def test_it(number, triton_redis, triton):
    with open("ids", "a") as file:
        file.write(f"{triton_redis.port}\\n")
"""
INI = "[pytest]\naddopts = -p triton_env -p xdist -p asyncio -p timeout\ntriton_services = redis\n"


@pytest.fixture
def machine(callers_choice: Mapping[str, str], tmp_path: Path) -> Machine:
    own = {"TRITON_RUNTIME": "embedded", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Machine(tmp_path, os.environ | dict(callers_choice) | own)


@pytest.fixture
def session(machine: Machine) -> Iterator[Mapping[str, str]]:
    """The variables of a session that `serve` holds, as a shell has them."""
    with machine.serving("redis"):
        yield json.loads(machine.good("env", "--format", "json"))


def script(arguments: str) -> tuple[str, ...]:
    return sys.executable, "-c", SCRIPT.format(arguments=arguments)


def in_run(machine: Machine, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    """What a command prints in `run`, after the id of the session there."""
    shell = 'echo "$TRITON_SESSION"; exec "$@"'
    return machine.good("run", "--services", "redis", *options, "--", "sh", "-c", shell, "-", *command).split()


@pytest.mark.parametrize("arguments", ["services=('redis',)", "services=('redis',), reuse=True"])
def test_a_program_in_run_uses_the_services_of_run(arguments: str, machine: Machine) -> None:
    outer, inner = in_run(machine, *script(arguments))
    assert inner == outer


def test_a_program_may_have_services_of_its_own(machine: Machine) -> None:
    outer, inner = in_run(machine, *script("services=('redis',), isolated=True"))
    assert inner != outer


def test_commands_and_another_run_use_the_services_of_run(machine: Machine) -> None:
    ours = (sys.executable, "-m", "triton_env")
    outer, inner = in_run(machine, *ours, "run", "--services", "redis", "--", "sh", "-c", 'echo "$TRITON_SESSION"')
    assert inner == outer
    outer, *words = in_run(machine, *ours, "status", "--json")
    assert json.loads(" ".join(words))["session"] == outer
    isolated = (*ours, "run", "--isolated", "--services", "redis", "--", "sh", "-c", 'echo "$TRITON_SESSION"')
    outer, inner = in_run(machine, *isolated)
    assert inner != outer


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_tests_in_run_use_the_services_of_run(workers: tuple[str, ...], machine: Machine) -> None:
    (machine.project / "pytest.ini").write_text(INI)
    (machine.project / "test_it.py").write_text(TESTS)
    shell = 'echo "$REDIS_PORT" >> ids; exec "$@"'
    tests = (sys.executable, "-m", "pytest", "-q", *workers)
    machine.good("run", "--services", "redis", "--", "sh", "-c", shell, "-", *tests)
    ports = (machine.project / "ids").read_text().split()
    assert len(ports) == 5
    assert len(set(ports)) == 1


def test_tests_may_have_services_of_their_own(machine: Machine) -> None:
    (machine.project / "pytest.ini").write_text(INI)
    (machine.project / "test_it.py").write_text(TESTS)
    shell = 'echo "$REDIS_PORT" >> ids; exec "$@"'
    tests = (sys.executable, "-m", "pytest", "-q", "--triton-isolated")
    machine.good("run", "--services", "redis", "--", "sh", "-c", shell, "-", *tests)
    outer, *inner = (machine.project / "ids").read_text().split()
    assert outer not in inner


def test_what_serve_holds_is_used_with_its_variables_and_not_reset(
    machine: Machine, session: Mapping[str, str]
) -> None:
    shell = dict(session)
    shown = machine.good("run", "--services", "redis", "--", *script("services=('redis',)"), environment=shell)
    assert shown.split() == [session["TRITON_SESSION"]]
    resetting = (sys.executable, "-c", SCRIPT.format(arguments="services=('redis',)") + "    env.reset()\n")
    done = machine.run("run", "--services", "redis", "--", *resetting, environment=shell)
    assert "Refusing to reset: other processes use the environment." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("services=('redis', 'postgres')", "has no PostgreSQL"),
        ("Settings(triton_storage='disk'), services=('redis',)", "was started with another TRITON_STORAGE"),
    ],
)
def test_a_session_that_is_something_else_is_not_used_and_that_is_said(
    arguments: str, why: str, machine: Machine, session: Mapping[str, str]
) -> None:
    done = machine.run("run", "--isolated", "--services", "redis", "--", *script(arguments))
    outer_words = " ".join(done.stderr.split())
    assert f"which TRITON_SESSION names, {why}; starting another one" in outer_words


def test_a_session_that_has_ended_is_not_used_and_that_is_said(machine: Machine) -> None:
    done = machine.run("run", "--services", "redis", "--", "true", environment={"TRITON_SESSION": "0ddba115"})
    assert done.returncode == 0
    assert "the session 0ddba115, which TRITON_SESSION names, has ended; starting another one" in done.stderr
