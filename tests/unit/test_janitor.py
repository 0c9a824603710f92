"""What tests have started ends when their process was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

import forkserver
import janitor
import scratch

TESTS = """
import subprocess, sys, time
import janitor
with janitor.watching():
    started = subprocess.Popen(["sh", "-c", "trap '' TERM; echo $$; sleep 1000 & wait"], start_new_session=True)
    time.sleep(1000)
"""


def test_processes_end_with_killed_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(janitor.__file__).parent))
    script = f"import janitor\njanitor.GRACE = 0\n{TESTS}"
    with forkserver.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout.readline()
        tests.kill()
        # It is open for writing in all of them.
        assert tests.stdout.read() == ""


def test_after_a_good_end_it_has_nothing_to_do() -> None:
    command = [sys.executable, janitor.__file__, "mark", "0"]
    done = forkserver.run(command, input=f"no-such-project\n{janitor.ALL_IS_WELL}\n", text=True)
    assert done.returncode == 0


HOLDER = """
import sys, time
import scratch
print(scratch.folder("of-"), flush=True)
time.sleep(1000)
"""


def test_folders_of_killed_tests_go_with_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(scratch.__file__).parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        folder = Path(holder.stdout.readline().strip())
        scratch.sweep(tmp_path)
        assert folder.is_dir()
        holder.kill()
    assert folder.is_dir()
    scratch.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.docker
def test_projects_end_with_killed_tests() -> None:
    import docker

    import projects

    name, kept = projects.free_name("test")
    client = docker.from_env()
    with kept:
        client.volumes.create(f"{name}_x", labels={janitor.PROJECT_LABEL: name})
        try:
            # Its standard input ends without the word that all is well.
            forkserver.run([sys.executable, janitor.__file__, "mark", "0"], input=f"{name}\n", text=True, check=True)
            assert projects.belongings(name) == ([], [], [])
        finally:
            projects.remove(name)
            client.close()
