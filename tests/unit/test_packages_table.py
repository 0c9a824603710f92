"""The table of packages in docs/architecture.md is made of their docstrings."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "triton_env"
SCRIPT = ROOT / "scripts" / "packages_table.py"


def test_the_document_has_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    made = runpy.run_path(str(SCRIPT))
    table = made["TABLE"]
    text = table.document.read_text("utf-8")
    assert table.rewritten(text) == text, "just packages-table"
    damaged = re.sub(r"^\| `state/` \|.*\n", "", text, flags=re.MULTILINE)
    assert table.rewritten(damaged) == text != damaged
    assert all(map(made["first_line"], made["places"]().values()))


def test_the_document_names_modules_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    made = runpy.run_path(str(SCRIPT))
    named = set(re.findall(r"`([\w/*-]+\.py)`", made["TABLE"].document.read_text("utf-8")))
    assert "core/model.py" in named
    assert [each for each in named if not any(SOURCE.rglob(each)) and not (ROOT / each).is_file()] == []


def test_the_servers_have_a_document_that_names_their_programs() -> None:
    text = (SOURCE / "servers" / "README.md").read_text("utf-8")
    modules = [SOURCE.parent.joinpath(*each.split(".")) for each in re.findall(r"python -m ([\w.]+)", text)]
    assert len(modules) >= 3
    assert [
        each for each in modules if not (each / "__main__.py").is_file() and not each.with_suffix(".py").is_file()
    ] == []
    assert [each for each in re.findall(r"`(\w+\.py)`", text) if not any((SOURCE / "servers").rglob(each))] == []
