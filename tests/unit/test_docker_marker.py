"""Tests marked `docker` never pass over a problem: they run where an engine answers, and CI has to have one."""

import os
import sys
from pathlib import Path

import pytest

import forkserver
from unit.fake_engine import serving

TESTS = Path(__file__).parents[1]
MODULE = """
import os
import pytest

@pytest.mark.docker
def test_real(callers_choice):
    print("images:", os.environ.get("REDIS_IMAGE"), os.environ.get("POSTGRES_DB"))

def test_unit():
    assert "REDIS_IMAGE" not in os.environ
"""


def outcome(folder: Path, **variables: str) -> tuple[int, str]:
    """Run a marked and an unmarked test in a process of their own, with this project's conftest."""
    (folder / "conftest.py").write_bytes((TESTS / "conftest.py").read_bytes())
    (folder / "test_it.py").write_text(MODULE)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS}\nmarkers =\n    docker: needs an engine\n")
    without = {name: value for name, value in os.environ.items() if name != "CI"}
    done = forkserver.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", str(folder)],
        cwd=folder,
        env=without | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


NOWHERE = "unix:///nonexistent/docker.sock"


def test_without_an_engine_they_are_skipped_with_the_reason(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, DOCKER_HOST=NOWHERE)
    assert code == 0
    assert "1 passed, 1 skipped" in output
    assert f"no Docker engine answers at {NOWHERE}" in output


@pytest.mark.parametrize("ci", ["true", "1"])
def test_in_ci_they_fail_without_an_engine(tmp_path: Path, ci: str) -> None:
    code, output = outcome(tmp_path, DOCKER_HOST=NOWHERE, CI=ci)
    assert code == 1
    assert "1 passed, 1 error" in output
    assert "CI has to run the docker tests" in output


def test_with_an_engine_they_run_on_the_callers_images_and_else_a_clean_environment(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with serving(tmp_path) as engine:
        code, output = outcome(folder, DOCKER_HOST=engine.url, REDIS_IMAGE="redis:mine", POSTGRES_DB="leaked")
    assert code == 0, output
    assert "2 passed" in output
    assert "images: redis:mine None" in output
