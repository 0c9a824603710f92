"""The scripts for the first contact: what they show while they install, and what they print to be pasted elsewhere."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import patience
from faces.documents import ROOT
from shells import Printed, in_a_bare_shell

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(500)]

UV = """\
#!/bin/sh
# Stands for uv: everything is installed already.
echo "$@" >> uv-calls
echo "Resolved 99 packages"
printf '\\033[36mDownloading\\033[0m moto (6.2MiB)\\n'
case $* in *"$HELD"*) while [ ! -e go ]; do sleep 0.1; done ;; esac
[ -z "$FAILS" ] || { echo "error: no space left"; exit 3; }
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts, this interpreter's environment as its own, and a uv that does nothing."""
    checkout = tmp_path / "it's a checkout"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    (checkout / "uv.lock").touch()
    environment = checkout / ".venv"
    environment.mkdir()
    for name in ("bin", "lib"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment)
    programs = checkout / "programs"
    programs.mkdir()
    (programs / "uv").write_text(UV)
    (programs / "uv").chmod(0o755)
    return checkout


class Script:
    """A script that runs, with what it has printed so far."""

    def __init__(self, checkout: Path, *words: str, held: str = "nothing is", fails: str = "", **others: str) -> None:
        variables = {"TRITON_RUNTIME": "embedded", "HELD": held, "FAILS": fails, **others}
        path = f"{checkout / 'programs'}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            ["bash", checkout / "scripts" / words[0], *words[1:]],
            # As from anywhere: the scripts find their own folder.
            cwd=checkout.parent,
            env=os.environ | variables | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._output = Printed(self.process)
        self.printed = self._output.lines

    def line(self, beginning: str, stream: str = "stderr") -> str:
        """The first line that begins so, waited for."""
        patience.until(lambda: self.lines(beginning, stream) or self.process.poll() is not None)
        found = self.lines(beginning, stream)
        assert found, self.printed
        return found[0]

    def lines(self, beginning: str, stream: str = "stderr") -> list[str]:
        """All lines so far that begin so."""
        return [line.rstrip("\n") for line in self.printed[stream] if line.startswith(beginning)]

    def wait(self) -> int:
        status = self.process.wait(100)
        self._output.close()
        return status


@contextmanager
def running(checkout: Path, *words: str, held: str = "nothing is", fails: str = "", **others: str) -> Iterator[Script]:
    script = Script(checkout, *words, held=held, fails=fails, **others)
    try:
        yield script
    finally:
        (checkout / "go").touch()
        script.process.send_signal(signal.SIGTERM)
        script.wait()


def test_what_serve_prints_for_another_shell_works_in_one(checkout: Path) -> None:
    with running(checkout, "serve.sh", "--services", "redis") as script:
        command = script.line("Variables for another shell: ").partition(": ")[2]
        done = in_a_bare_shell(f'{command} && echo "$REDIS_URL"')
        assert done.returncode == 0, done.stderr
        assert script.line("Redis ", "stdout").split()[-1] == done.stdout.strip()
    # Its environment has ended.
    done = in_a_bare_shell(f"{command} && echo went on")
    assert done.returncode != 0
    assert not done.stdout
    assert "error:" in done.stderr
    assert "No module" not in done.stderr


@pytest.mark.parametrize(("held", "words"), [("sync", "Installing into .venv"), ("compile", "Compiling what was")])
def test_an_installation_shows_what_it_does_and_for_how_long(checkout: Path, held: str, words: str) -> None:
    with running(checkout, "serve.sh", "--services", "redis", held=held, SECONDS_BETWEEN_LINES="0.5") as script:
        first = script.line(words)
        assert " s, Downloading moto (6.2MiB)" in first
        assert patience.until(lambda: len(script.lines(words)) > 1)
        (checkout / "go").touch()
        script.line("Ready in")
        assert "\x1b" not in "".join(script.printed["stderr"])


def test_a_failed_installation_shows_why_and_ends_the_script(checkout: Path) -> None:
    with running(checkout, "serve.sh", fails="yes") as script:
        assert script.wait() == 3
        assert script.printed["stderr"][0] == "Installing into .venv failed:\n"
        assert "error: no space left\n" in script.printed["stderr"]


def test_what_was_installed_is_compiled_once(checkout: Path) -> None:
    for _ in range(2):
        with running(checkout, "serve.sh", "--services", "redis") as script:
            script.line("Ready in")
    calls = (checkout / "uv-calls").read_text().splitlines()
    assert [call for call in calls if "compile" in call] == [call for call in calls if "compile" in call][:1]
    assert sum("--extra embedded" in call for call in calls) == 2


def test_of_docker_nothing_is_said_where_embedded_was_asked_for(checkout: Path) -> None:
    with running(checkout, "serve.sh", "--services", "redis") as script:
        # The last line of the start: what ends it comes after all of it.
        script.line("Ctrl-C stops")
        assert not [line for line in script.printed["stderr"] if "Docker" in line]


def test_why_it_is_not_docker_is_printed_once(checkout: Path) -> None:
    nowhere = {"TRITON_RUNTIME": "auto", "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    with running(
        checkout, "serve.sh", "--services", "redis", TRITON_STATE_DIR=str(checkout / "state"), **nowhere
    ) as script:
        script.line("Ctrl-C stops")
        why = [line for line in script.printed["stderr"] if "no engine answers" in line]
        assert len(why) == 1, script.printed["stderr"]
