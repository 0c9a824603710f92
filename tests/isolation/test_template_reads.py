"""Templates know what their functions read: a change of that builds them anew, here and in other processes."""

import importlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from triton_env import Namespace, Template, TritonEnvironment
from triton_env.errors import UsageError
from triton_env.isolation import reads
from triton_env.isolation.building import TemplateBuilder
from triton_env.isolation.reads import Reads, recorded
from triton_env.isolation.sources import Scope

LONG_AGO = 1_000_000_000
"""A time of files, in seconds: what is older than a moment is looked at by its times alone."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of a project, whose modules can be imported."""
    root = tmp_path / "project"
    write(root / "pyproject.toml", "")
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield root
    for name in set(sys.modules) - known:
        if (file := getattr(sys.modules[name], "__file__", None)) and file.startswith(str(root)):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def read_by(build: Callable[[], object], root: Path, *, programs: bool = True, source: Path | None = None) -> Reads:
    with recorded() as recording:
        build()
    return recording.finished(Scope(root), source, programs=programs)


def names(found: Reads) -> set[str]:
    return {f"{read.kind} {read.path}" for read in found.reads}


def test_files_and_folders_that_are_read_count_and_products_do_not(project: Path, tmp_path: Path) -> None:
    migrations = project / "migrations"
    for name in ("001.sql", "002.sql"):
        write(migrations / name, name)
    outside = write(tmp_path / "shared" / "types.sql", "")
    write(project / ".venv/lib/x.py", "")
    for name in ("unread.sql", "updated.txt", "rows.db"):
        write(project / name, "")

    def build() -> None:
        for path in sorted(migrations.glob("*.sql")):
            path.read_text()
        outside.read_bytes()
        (project / "made.log").write_text("made")
        (project / "made.log").read_text()
        (project / ".venv/lib/x.py").read_text()
        Path(os.__file__).read_text()
        with pytest.raises(FileNotFoundError):
            Path("optional.toml").read_text()
        with open("updated.txt", "r+") as file:
            file.read()
        with open("made.txt", "a+") as file:
            file.write("made")
        with closing(sqlite3.connect("file:rows.db?mode=ro", uri=True)) as connection:
            connection.execute("select 1 from sqlite_schema")

    found = read_by(build, project)
    assert names(found) == {
        *("file migrations/001.sql", "file migrations/002.sql", "folder migrations", f"file {outside}"),
        *("file optional.toml", "file updated.txt", "file rows.db"),
    }
    assert found.is_certain
    assert found.renewed(project)
    write(project / "unread.sql", "changed")
    (migrations / "002.sql").touch()  # with the same content
    (migrations / "__pycache__").mkdir()
    assert found.renewed(project)

    # Whatever else happens to them, the template is not the same.
    write(migrations / "002.sql", "0002")
    assert not found.renewed(project)
    write(migrations / "002.sql", "002.sql")
    assert found.renewed(project)
    for path in (migrations / "003.sql", project / "optional.toml"):
        write(path, "")
        assert not found.renewed(project)
        path.unlink()
    (migrations / "001.sql").rename(migrations / "000.sql")
    assert not found.renewed(project)


def test_modules_count_with_what_they_import(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "app/__init__.py", "")
    write(project / "app/models.py", "from . import base\nimport json")
    write(project / "app/base.py", "")
    write(project / "app/unrelated.py", "")
    fills = write(project / "fills.py", "def fill():\n    from app.models import base\n    import late")
    write(project / "late.py", "")
    write(project / "migrations/__init__.py", "")
    first = write(project / "migrations/m1.py", "")
    for name in ("fills", "app.models", "app.unrelated", "migrations.m1"):
        importlib.import_module(name)

    def build() -> None:
        sys.modules["fills"].fill()
        for path in sorted(os.listdir(project / "migrations")):  # as Django finds them
            importlib.import_module(f"migrations.{path.removesuffix('.py')}")

    found = read_by(build, project, source=fills)
    assert names(found) == {
        *("file fills.py", "file late.py", "file app/__init__.py", "file app/models.py", "file app/base.py"),
        *("file migrations/__init__.py", "file migrations/m1.py", "folder migrations"),
    }
    assert found.is_certain
    # In memory it may be older than its file, which no other process may take for what was built.
    os.utime(first)
    monkeypatch.setattr(reads, "_started", lambda: first.stat().st_mtime - 60)
    assert not read_by(build, project, source=fills).is_certain


def test_the_files_below_the_folder_of_a_program_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "alembic.ini", "")
    write(project / "versions/001.py", "")
    write(project / "tool.py", "")
    for name in ("tests/test_it.py", "conftest.py", "node_modules/x.js", ".git/HEAD", "venv/pyvenv.cfg", "out.log"):
        write(project / name, "")

    def build() -> None:
        subprocess.run([sys.executable, "tool.py"], check=True)

    found = read_by(build, project)
    assert names(found) == {"file tool.py", "tree ."}
    for name in ("tests/test_it.py", "conftest.py", "node_modules/x.js", ".git/HEAD", "venv/x.py", "out.log"):
        write(project / name, "changed")
    assert found.renewed(project)
    added = write(project / "versions/002.py", "")
    assert not found.renewed(project)
    added.unlink()
    write(project / "alembic.ini", "x")
    assert not found.renewed(project)
    # What is named leaves nothing to guess.
    assert names(read_by(build, project, programs=False)) == {"file tool.py"}
    assert names(read_by(lambda: os.system("true"), project)) == {"tree ."}
    # Of too many files nothing is known: this process goes on, others do not rely on it.
    monkeypatch.setattr(reads, "_TREE_LIMIT", 1)
    found = read_by(build, project)
    assert found.renewed(project)
    assert not found.is_certain


def test_what_changes_while_it_is_read_is_read_again(project: Path) -> None:
    seed = write(project / "seed.sql", "one")

    def build() -> None:
        seed.read_text()
        write(seed.with_name("new"), "two").replace(seed)

    found = read_by(build, project)
    assert not found.is_certain
    assert not found.renewed(project)


def test_files_are_read_again_only_where_the_system_says_that_they_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = write(project / "seed.sql", "one")
    monkeypatch.setattr(reads, "_RACY", 0)
    found = read_by(seed.read_text, project)

    def never(*_: object) -> str:
        raise AssertionError("it was read again")

    with monkeypatch.context() as patched:
        patched.setattr(reads, "_content", never)
        assert found.renewed(project)
    seed.touch()
    renewed = found.renewed(project)
    assert renewed
    assert renewed != found


def test_inputs_are_relative_to_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "sub/fills.py", "def fill(namespace): pass")
    write(project / "migrations/001.sql", "")
    monkeypatch.chdir(project / "sub")
    fill = importlib.import_module("sub.fills").fill
    assert Template(fill, inputs=["migrations"]).inputs == (project / "migrations",)
    with pytest.raises(UsageError, match="An input of the template does not exist") as caught:
        Template(fill, inputs=["fills.py"])
    assert str(project) in caught.value.hint


def test_it_is_built_anew_here_and_in_other_processes(small: TritonEnvironment, project: Path) -> None:
    write(project / "versions/001.sql", "create table users (name text)")
    log = project / "built.log"

    def build(namespace: Namespace) -> None:
        with log.open("a") as file:
            print(namespace.id, file=file)
        with namespace.postgres.connect() as connection:
            for path in sorted(Path("versions").iterdir()):
                connection.execute(path.read_text())

    def columns(env: TritonEnvironment, template: Template) -> list[str]:
        with env.namespace(template=template) as namespace, namespace.postgres.connect() as connection:
            query = "select column_name from information_schema.columns where table_name = 'users' order by 1"
            return [name for (name,) in connection.execute(query).fetchall()]

    def built() -> int:
        return len(log.read_text().splitlines())

    template = Template(build)
    another = small._isolation()._open()
    assert columns(small, template) == ["name"]
    assert columns(small, template) == ["name"]
    TemplateBuilder(another.spaces).finished(Template(build))
    assert built() == 1
    added = write(project / "versions/002.sql", "alter table users add age int")
    assert columns(small, template) == ["age", "name"]
    TemplateBuilder(another.spaces).finished(Template(build))
    assert built() == 2
    # As after a change of branches and back: what was built before is still there.
    added.unlink()
    assert columns(small, template) == ["name"]
    assert built() == 2
    anew = Template(build, rebuild=True)
    for _ in range(2):
        assert columns(small, anew) == ["name"]
    assert built() == 3
    TemplateBuilder(another.spaces).finished(Template(build))
    assert built() == 3
