"""Servers that are Python programs start from compiled modules, however the packages were installed."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.core.private import make_folder
from triton_env.runtimes.embedded import bytecode, packages
from triton_env.runtimes.embedded.bytecode import Bytecode, is_compiled
from triton_env.runtimes.embedded.runtime import EmbeddedRuntime
from triton_env.services import S3

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(500)]

TAG = sys.implementation.cache_tag
RECIPE = S3.recipe(Settings())


@contextmanager
def nothing_compiled() -> Iterator[Path]:
    """As after `uv sync`, which compiles nothing: a cache folder that is not there yet, where every user can look."""
    with tempfile.TemporaryDirectory(prefix="triton-test-") as base, pytest.MonkeyPatch.context() as patch:
        Path(base).chmod(0o755)
        folder = Path(base) / "cache" / "bytecode"
        patch.setattr(bytecode, "is_compiled", lambda distributions: False)
        patch.setattr(bytecode, "_cache_folder", lambda account: folder)
        yield folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """The cache folder of servers whose packages are not compiled."""
    with nothing_compiled() as folder:
        yield folder


@dataclass(frozen=True)
class First:
    """What the first start of S3 has done.

    Attributes:
        cache: the folder in which it has made the cache.
        prefix: where its process looked for compiled modules.
    """

    cache: Path
    prefix: str


@pytest.fixture(scope="module")
def first(embedded_packages: None) -> Iterator[First]:
    with nothing_compiled() as folder:
        yield First(folder.parent, started(Bytecode.wait))


@pytest.fixture
def compiled(first: First, folder: Path) -> Path:
    """A cache folder of the test's own, as the first start has left it."""
    shutil.copytree(first.cache, folder.parent)
    return folder


def started(then: Callable[[Bytecode], None] = lambda compiled: None) -> str:
    """Start S3 and use it; returns where its process looks for compiled modules."""
    with TritonEnvironment(services=("s3",), runtime="embedded") as env:
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="a", Body=b"1")
        runtime = env._startup.runtime.result()  # type: ignore[union-attr]
        assert isinstance(runtime, EmbeddedRuntime)
        child = runtime._servers["s3"].child
        assert child is not None
        then(runtime._host.bytecode)
        return psutil.Process(child.pid).environ().get("PYTHONPYCACHEPREFIX", "")


def test_what_the_first_start_has_imported_the_next_finds_compiled(first: First, compiled: Path) -> None:
    assert not Path(first.prefix).is_relative_to(first.cache)
    (kept,) = (path for path in compiled.iterdir() if path.is_dir())
    found = {path.name for path in kept.rglob("*.pyc")}
    assert {f"{module}.{TAG}.pyc" for module in ("door", "werkzeug_app", "serving", "argparse")} <= found
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.pyc")}
    assert started() == str(kept)
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.pyc")} == before
    # It is this user's, and the servers' user can only read it.
    for path in (compiled, kept, *kept.rglob("*")):
        assert path.stat().st_uid == os.geteuid()
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022
        assert os.geteuid() != 0 or path.stat().st_mode & stat.S_IROTH


@pytest.mark.parametrize(
    "kept", [pytest.param(16, id="no content", marks=pytest.mark.long), pytest.param(200, id="half of it")]
)
def test_a_module_that_was_cut_short_is_made_again(compiled: Path, kept: int, caplog: pytest.LogCaptureFixture) -> None:
    (module,) = compiled.rglob(f"werkzeug_app.{TAG}.pyc")
    os.truncate(module, kept)
    assert not Path(started(Bytecode.wait)).is_relative_to(compiled)
    assert "S3 did not start with it, so it is made again" in caplog.text
    assert Path(started()).is_relative_to(compiled)


@pytest.mark.long
def test_what_is_not_a_folder_is_made_again(folder: Path) -> None:
    cache = Bytecode(None, folder.parent, folder)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    cache._place(RECIPE).write_text("content")
    assert not Path(started(Bytecode.wait)).is_relative_to(folder)
    assert Path(started()).is_relative_to(folder)


def test_a_stop_ends_the_compiler(folder: Path) -> None:
    compilers: list[Bytecode] = []
    started(compilers.append)
    assert all(compiler.poll() is not None for compiler in compilers[0]._compilers)
    assert compilers[0]._compilers
    # Half of it is not taken for the whole.
    complete = [path for path in folder.iterdir() if path.is_dir() and path.suffix != ".new"]
    assert all((path / sys.prefix[1:]).is_dir() for path in complete)


def test_where_the_installer_has_compiled_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "is_compiled", lambda distributions: True)
    assert Bytecode(None, folder, folder).prefix(RECIPE) is None


def test_a_package_is_compiled_where_all_its_modules_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_package"
    compiled = package / "__pycache__"
    compiled.mkdir(parents=True)
    for module in ("__init__", "other"):
        (package / f"{module}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (compiled / f"__init__.{TAG}.pyc").touch()
    assert not is_compiled(["some-package"])
    (compiled / f"other.{TAG}.pyc").touch()
    assert is_compiled(["some-package", "not-installed"])


@pytest.mark.parametrize("open_one", ["bytecode", "cache"])
def test_a_folder_in_which_others_can_write_is_not_used(folder: Path, open_one: str) -> None:
    cache = Bytecode(None, folder.parent, folder)
    folder.mkdir(parents=True)
    make_folder(cache._place(RECIPE))
    for each in (folder, folder.parent):
        each.chmod(0o755)
    assert cache.prefix(RECIPE) == cache._place(RECIPE)
    (folder if open_one == "bytecode" else folder.parent).chmod(0o777)
    assert cache.prefix(RECIPE) is None


def test_of_what_a_server_writes_only_names_of_installed_modules_count(tmp_path: Path) -> None:
    written = tmp_path / "s3-bytecode"
    (tmp_path / "mine.py").write_text("print('hello')")
    installed = Path(packages.__file__)
    for source in (installed, tmp_path / "mine.py", Path("/etc/passwd"), installed.with_name("no_such_module.py")):
        place = written / str(source.parent)[1:] / f"{source.stem}.{TAG}.pyc"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"anything")
    assert list(bytecode._sources(written)) == [str(installed)]
