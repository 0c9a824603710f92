"""Programs in pods get their variables through a file. `kubectl exec` is one of our own, which runs them here."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from triton_env.runtimes.kubernetes import with_variables

KUBECTL = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> str:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    return str(program)


def run(
    kubectl: str, folder: Path, variables: Mapping[bytes, bytes], *program: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run a program with these variables, which leave their files in a folder."""
    folder.mkdir()
    names = ",".join(map(os.fsdecode, variables))
    script = (sys.executable, "-I", "-S", with_variables.__file__)
    given = {os.fsencode(with_variables.PREFIX) + name: value for name, value in variables.items()}
    return subprocess.run(
        [*script, names, "pod", "container", "plain", "1", kubectl, *program],
        env={**os.environb, b"TMPDIR": os.fsencode(folder), **given},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("value", [b"", b" a'b\"c\\n $HOME `id`\nsecond\t\n", "\N{SNOWMAN}".encode(), b"\xe9\xff"])
def test_a_value_is_what_it_was_and_leaves_no_file(kubectl: str, tmp_path: Path, value: bytes) -> None:
    done = run(kubectl, tmp_path / "tmp", {b"VALUE": value, b"other": b"1"}, "sh", "-c", 'printf %s "$VALUE$other"')

    assert done.stderr == b""
    assert done.stdout == value + b"1"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_kubectl_does_not_get_what_is_for_the_program(kubectl: str, tmp_path: Path) -> None:
    Path(kubectl).write_text(KUBECTL.replace("while", 'env > "$0.variables"; while', 1))

    done = run(kubectl, tmp_path / "tmp", {b"HTTPS_PROXY": b"hunter2"}, "sh", "-c", 'printf %s "$HTTPS_PROXY"')

    assert done.stdout == b"hunter2"
    assert "hunter2" not in Path(f"{kubectl}.variables").read_text()


def test_a_name_that_a_shell_does_not_take_leaves_no_file(kubectl: str, tmp_path: Path) -> None:
    done = run(kubectl, tmp_path / "tmp", {b"a.b": b"hunter2"}, "true")

    assert done.returncode
    assert b"hunter2" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
