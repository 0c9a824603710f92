"""Commands in messages: they work in any shell, and are in one piece."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from shells import in_a_bare_shell
from triton_env.cli.output import say
from triton_env.core import commands
from triton_env.core.commands import runnable, wrapped
from triton_env.errors import TritonError

PYTHON = shlex.quote(sys.executable)


def test_a_command_of_ours_runs_in_another_shell() -> None:
    done = in_a_bare_shell(runnable("python -m triton_env --version"))
    assert done.stdout.startswith("triton-env ")
    assert done.returncode == 0


def test_an_interpreter_in_a_folder_with_a_space_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "it's a folder" / "environment"
    link.parent.mkdir()
    link.symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(link / "bin" / "python"))
    command = runnable('echo "$(python -m triton_env --version)"')
    done = in_a_bare_shell(command)
    assert done.stdout.startswith("triton-env "), done.stderr


@pytest.mark.parametrize(
    "text",
    [
        f"{PYTHON} -m triton_env up",
        "/usr/bin/python -m triton_env up",
        "'/a folder/bin/python' -m triton_env up",
        "python -m triton_environment",
        "uv pip install moto",
        "/usr/bin/python -m pip install moto",
        "pip installs",
    ],
)
def test_what_names_its_program_stays(text: str) -> None:
    assert runnable(text) == text


def test_it_may_be_done_again() -> None:
    once = runnable("try: python -m triton_env up; or: pip install 'triton-env[embedded]'")
    assert runnable(once) == once


def test_pip_is_that_of_this_interpreter() -> None:
    done = in_a_bare_shell(runnable("pip install --help"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("modules", "on_path", "installer"),
    [
        ({"pip", "uv"}, "", f"{PYTHON} -m pip install"),
        ({"uv"}, "", f"{PYTHON} -m uv pip install"),
        (set(), "/opt/uv", f"VIRTUAL_ENV={shlex.quote(sys.prefix)} /opt/uv pip install"),
        (set(), "", f"{PYTHON} -m pip install"),
    ],
)
def test_where_pip_is_missing_uv_is_taken(
    monkeypatch: pytest.MonkeyPatch, modules: set[str], on_path: str, installer: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in modules else None)
    monkeypatch.setattr("shutil.which", lambda name: on_path or None)
    assert runnable("pip install moto") == f"{installer} moto"


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (("file:///", True), "-e '/[embedded]'"),
        (("file:///", False), "'triton-env[embedded] @ file:///'"),
        (("file:///no/such/folder", True), '"triton-env[embedded]"'),
        (("https://example.org/triton-env.whl", False), '"triton-env[embedded]"'),
        (("", False), '"triton-env[embedded]"'),
    ],
    ids=["checkout", "wheel", "gone", "web", "index"],
)
def test_triton_env_comes_from_where_it_was_installed(
    monkeypatch: pytest.MonkeyPatch, origin: tuple[str, bool], requirement: str
) -> None:
    monkeypatch.setattr(commands, "_origin", lambda: origin)
    command = runnable('pip install "triton-env[embedded]" --force-reinstall, or set TRITON_RUNTIME=docker')
    _, _, what = command.partition(" install ")
    assert what == f"{requirement} --force-reinstall, or set TRITON_RUNTIME=docker"


def test_no_line_ends_within_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"/{'long/' * 12}bin/python")
    hint = (
        "to move on with the data: python -m triton_env backup FILE, then python -m triton_env reset, then "
        'eval "$(python -m triton_env env --format shell)"; or pip install --force-reinstall moto'
    )
    lines = wrapped(runnable(hint), 60)
    assert " ".join(lines) == runnable(hint)
    text = "\n".join(lines)
    for command in ("backup FILE", "reset", "env --format shell"):
        assert f"{sys.executable} -m triton_env {command}" in text
    assert len(lines) > 4


def test_errors_and_all_that_is_said_name_the_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "start one with: python -m triton_env serve"
    assert str(TritonError("None runs.", hint=hint)).endswith(f"hint: {runnable(hint)}")
    say(hint)
    assert capsys.readouterr().err == f"{runnable(hint)}\n"


def test_no_message_names_the_interpreter_by_itself() -> None:
    """They are written with `python`, which is replaced where they are printed: nothing else is the same everywhere."""
    sources = Path(commands.__file__).parent.rglob("*.py")
    found = [
        str(path)
        for path in sources
        if path != Path(commands.__file__) and re.search(r"sys\.executable\} -m triton_env", path.read_text("utf-8"))
    ]
    assert not found
