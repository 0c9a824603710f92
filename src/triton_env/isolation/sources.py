"""Which of the files that a build reads are the project's, and which modules they import."""

import ast
import os
import shlex
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from triton_env.core.files import is_hidden

_OURS = str(Path(__file__).parents[1])
_PACKAGES = ("site-packages", "dist-packages", "node_modules")
_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/etc", "/usr", "/lib", "/lib64", "/bin", "/opt")
_PRODUCTS = frozenset(
    (".pyc", ".so", ".log", ".out", ".tmp", ".sqlite", ".sqlite3", ".db", ".html", ".png", ".jpg", ".pdf", ".whl")
)
"""Endings of files that programs make, rather than read."""
_LIBRARY_PROGRAMS = ("/ctypes/util.py", "/platform.py", "/uuid.py")
"""Modules of Python that start programs for their own use."""


class TooMany(Exception):
    """There are more files than are looked at."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What belongs to a project, and what is the machine's.

    Attributes:
        root: of the project.
        spared: folders whose files do not count.
    """

    root: Path
    spared: tuple[Path, ...] = ()

    def is_inside(self, path: str) -> bool:
        """Whether it is below the root."""
        return _is_below(path, str(self.root))

    def counts(self, path: str) -> bool:
        """Whether a change of that file or folder is one of the template."""
        return _counts(self, path)

    def outermost(self, folders: Iterable[str]) -> list[str]:
        """The working folders of programs whose files count, without those that are below others of them."""
        found = {str(self.root) if _is_below(str(self.root), each) else each for each in folders}
        found = {each for each in found if each == str(self.root) or self.counts(each)}
        return [
            each for each in found if not any(each != other and Path(each).is_relative_to(other) for other in found)
        ]


# It is asked for the same files again and again, and without pathlib, which takes ten times as long.
@lru_cache(maxsize=100_000)
def _counts(scope: Scope, path: str) -> bool:
    root = str(scope.root)
    inside = _is_below(path, root)
    *folders, name = (path.removeprefix(root) if inside else path).split("/")
    if name in (*_PACKAGES, "__pycache__") or any(is_hidden(each) or each in _PACKAGES for each in folders if each):
        return False
    # A project may be below a folder of the system, such as /usr/src/app, but what is installed in it is not of it.
    machines = (*_libraries(), sys.prefix, sys.base_prefix)
    installed = [each for each in machines if not inside or (each != root and _is_below(each, root))]
    spared = (*map(str, scope.spared), _OURS, *installed, *(() if inside else _SYSTEM))
    return not any(_is_below(path, each) for each in spared)


def _is_below(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder, or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@cache
def _libraries() -> tuple[str, ...]:
    """Where Python's own modules are, and those that are installed for it."""
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*found, site.getusersitepackages())


def is_installed(path: str) -> bool:
    """Whether a module is Python's own, or was installed, or is this project's."""
    if path.startswith("<frozen") or any(name in _PACKAGES for name in path.split("/")):
        return True
    return any(_is_below(path, each) for each in (*_libraries(), _OURS))


def imported(files: Iterable[str], folders: Iterable[str], scope: Scope) -> set[str]:
    """The project's modules that these files import, directly or through others, as far as they are loaded.

    Args:
        files: of Python sources; others are passed over.
        folders: that were listed: modules in them may have been found in that way, and count as well.
    """
    by_file = {os.path.abspath(file): module for module in _loaded() if (file := getattr(module, "__file__", None))}
    listed = frozenset(folders)
    waiting = [path for path in files if path.endswith(".py")]
    waiting += [path for path in by_file if os.path.dirname(path) in listed and scope.counts(path)]
    found: set[str] = set()
    names: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        new = _imports(path, by_file.get(path)) - names
        names |= new
        for name in new:
            file = getattr(sys.modules.get(name), "__file__", None)
            if file and file.endswith(".py") and scope.counts(file := os.path.abspath(file)):
                waiting.append(file)
    return {path for path in found if os.path.isfile(path) and scope.counts(path)}


def _loaded() -> list[ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def _imports(path: str, module: ModuleType | None) -> set[str]:
    """The names of the modules that a source imports, anywhere in it, with the packages that they are in."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    package = (getattr(module, "__package__", None) or "").split(".")
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
    parts = (name.split(".") for name in names)
    return {".".join(each[:count]) for each in parts for count in range(1, len(each) + 1)}


def of_cached(path: str) -> str:
    """The source of a module for the file in which Python, or pytest, keeps it compiled; any other path as it is."""
    folder, name = os.path.split(path)
    stem, mark, _ = name.partition(f".{sys.implementation.cache_tag}")
    if not (mark and name.endswith(".pyc")):
        return path
    if sys.pycache_prefix and folder.startswith(sys.pycache_prefix + os.sep):
        return os.path.join(folder.removeprefix(sys.pycache_prefix), f"{stem}.py")
    return os.path.join(os.path.dirname(folder), f"{stem}.py") if os.path.basename(folder) == "__pycache__" else path


def tree(folder: Path, limit: int) -> Iterator[Path]:
    """The files below a folder that a program started there may read: no tests, nothing hidden, installed or made.

    Raises:
        TooMany: there are more.
    """
    count = 0
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(
            each
            for each in folders
            if not is_hidden(each)
            and each not in _PACKAGES
            and not each.endswith(".egg-info")
            and not os.path.exists(os.path.join(above, each, "pyvenv.cfg"))
        )
        for name in sorted(names):
            path = Path(above, name)
            if is_hidden(name) or path.suffix in _PRODUCTS or _is_test(name) or not path.is_file():
                continue
            count += 1
            if count > limit:
                raise TooMany
            yield path


def _is_test(name: str) -> bool:
    return name == "conftest.py" or (name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py")))


def is_import(frame: FrameType | None) -> bool:
    """Whether it is the import system that reads, or pytest in its place."""
    name = frame.f_code.co_filename if frame else ""
    return "importlib._bootstrap" in name or name.endswith("/_pytest/assertion/rewrite.py")


def is_own_program(frame: FrameType | None) -> bool:
    """Whether a program was started by this project, or by Python for its own use, and not by the build."""
    while frame and frame.f_code.co_filename.endswith(("/subprocess.py", "/os.py", "/asyncio/unix_events.py")):
        frame = frame.f_back
    name = frame.f_code.co_filename if frame else ""
    return name.startswith(_OURS) or name.endswith(_LIBRARY_PROGRAMS)


def words(arguments: Any) -> list[str]:
    """The words of a command, some of which may be files."""
    if isinstance(arguments, (str, bytes)):
        try:
            return shlex.split(os.fsdecode(arguments))
        except ValueError:
            return []
    if isinstance(arguments, Mapping) or not isinstance(arguments, Iterable):
        return []
    return [os.fsdecode(word) for word in arguments if isinstance(word, (str, bytes, os.PathLike))]
