"""`pip` for what documents say: it installs for the length of a test, from folders alone."""

import shutil
import sys
from pathlib import Path

import pytest


def put_pip_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the processes of this test find a `pip` whose installations they alone see.

    Args:
        folder: for the program, and for what it installs.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    # Without an index: what builds it is here already, and so is all that it needs.
    start = f"{uv} pip install --python {sys.executable}" if uv else f"{sys.executable} -m pip install"
    target = folder / "site-packages"
    program = folder / "bin" / "pip"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh -eu\n"
        '[ "$1" = install ] || exit 2\n'
        "shift\n"
        f'exec {start} --quiet --no-deps --no-build-isolation --target {target} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(target), prepend=":")
