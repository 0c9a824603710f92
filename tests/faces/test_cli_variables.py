"""Variables as text: real shells and python-dotenv read back what was written."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from triton_env.cli.variables import as_text
from triton_env.errors import TritonError

VALUES = {
    "PLAIN": "postgresql://user:pass@127.0.0.1:5432/db",
    "EMPTY": "",
    "SPACES": " two  words ",
    "HASH": "a #b",
    "DOLLAR": "a$HOME $(id) $1",
    "BACKTICK": "`id`",
    "DOUBLE": 'say "hi"',
    "SINGLE": "it's",
    "BOTH": 'it\'s "that" #1',
    "BACKSLASH": "a\\b\\\\c\\n",
    "ENDS_IN_BACKSLASH": "c:\\",
    "SINGLE_AND_BACKSLASH": "'\\'",
    "STAR": "*?[a-z]~",
    "AMPERSAND": "a;b&c|d>e<f(g)!h",
    "UNICODE": "grün €",
    "TWO_LINES": "one\ntwo",
    "BRACE": "a{b,c}d",
    "TILDE": "~root",
    "EQUALS": "=a=b=",
    "EQUALS_INSIDE": "a:=b",
}
PRINT = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
SHELLS = [shell for name in ("sh", "dash", "bash", "zsh") if (shell := shutil.which(name))]


def read_by(shell: str, commands: str) -> dict[str, str]:
    done = subprocess.run([shell, "-c", f"{commands}\n{PRINT}"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    environ = json.loads(done.stdout)
    return {name: environ[name] for name in VALUES}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_read_the_dotenv_form(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text(as_text(VALUES, "dotenv"), "utf-8")
    assert read_by(shell, f"set -a; . {file}; set +a") == VALUES


def test_python_dotenv_reads_the_dotenv_form() -> None:
    assert dotenv_values(stream=io.StringIO(as_text(VALUES, "dotenv"))) == VALUES


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_evaluate_the_shell_form(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "x.sh"
    hard = VALUES | {"HARD": "it's $1 and ${HOME}\\"}
    file.write_text(as_text(hard, "shell"), "utf-8")
    assert read_by(shell, f'eval "$(cat {file})"') == VALUES


def test_json() -> None:
    assert json.loads(as_text(VALUES, "json")) == VALUES


@pytest.mark.parametrize("value", ["it's $1", "it's `id`", "\\$", "${HOME}", "a\rb", "a\0b"])
def test_what_shells_and_dotenv_readers_would_not_agree_on_is_refused(value: str) -> None:
    with pytest.raises(TritonError, match="SECRET") as caught:
        as_text({"SECRET": value}, "dotenv")
    assert value not in str(caught.value)
    assert "--format json" in caught.value.hint
