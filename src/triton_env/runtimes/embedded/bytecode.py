"""Compiled modules of servers that are Python programs, where the installation has none.

pip compiles what it installs; uv does not, and the servers' user may not write to where packages are. Compiling takes
longer than everything else that such a server does until it answers, so what it imports is compiled once and kept in a
folder of the user who runs the environment.

At the first start the server writes its own bytecode to its private folder. Only the names of the modules are taken
from there: they are compiled again, from the installed sources, by this process's user.
"""

import hashlib
import importlib.util
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from platformdirs import site_cache_path, user_cache_path

from triton_env.core.model import ServiceRecipe
from triton_env.core.ownership import may_be_replaced, problem_of
from triton_env.core.private import make_folders, set_aside, write_new
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.account import Account

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Goes up when the folders are laid out in another way than before."""
_COMPILER = Path(__file__).with_name("compiler.py")
_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_MOST = 5000
"""Modules; no server has as many."""
_END_TIMEOUT = 10


class Bytecode:
    """What the Python servers of one environment import, compiled.

    Args:
        account: the servers' user; None where that is this process's.
        temporary: a folder in which servers can write.
        folder: where compiled modules are kept; by default a cache folder that the servers' user can read.
    """

    def __init__(self, account: Account | None, temporary: Path, folder: Path | None = None) -> None:
        self._folder = folder or _cache_folder(account)
        self._account = account
        self._temporary = temporary
        self._compilers: list[subprocess.Popen[bytes]] = []
        self._used: dict[str, Path] = {}
        """What servers have been given, by their names."""

    def prefix(self, recipe: ServiceRecipe) -> Path | None:
        """The value of PYTHONPYCACHEPREFIX for a server; None where Python finds what it needs by itself."""
        process = recipe.process
        if process.argv[0] != "{python}" or is_compiled(process.requires):
            return None
        place = self._place(recipe)
        try:
            self._check()
            if not stat.S_ISDIR(place.lstat().st_mode):
                set_aside(place)
            os.utime(place)
            self._used[recipe.name] = place
            return place
        except FileNotFoundError:
            return self._written(recipe) if os.access(_nearest(self._folder), os.W_OK) else None
        except OSError:
            return None

    def discard(self, recipe: ServiceRecipe) -> bool:
        """Forget what a server was given that did not start; whether it was given anything.

        Python refuses to go on with a module that a failing disk or a power failure has cut short.
        """
        place = self._used.pop(recipe.name, None)
        if place is None:
            return False
        try:
            set_aside(place)
        except OSError as error:
            _log.warning(
                "bytecode in %s: %s did not start with it, and it cannot be removed: %s", place, recipe.title, error
            )
            return False
        _log.warning("bytecode in %s: %s did not start with it, so it is made again", place, recipe.title)
        return True

    def keep(self, recipe: ServiceRecipe, inputs: Path) -> None:
        """Begin to compile what a server has imported, for its next start. Does nothing where that was done.

        Args:
            recipe: of a server that is ready.
            inputs: this process's folder for what other processes read.
        """
        modules = "\n".join(_sources(self._written(recipe)))
        if not modules:
            return
        with suppress(OSError):  # then the next start compiles too
            place = self._place(recipe)
            self._make_folder()
            self._check()
            with write_new(inputs / f"{recipe.name}-modules", modules).open("rb") as names:
                compiler = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                    [sys.executable, "-I", "-S", str(_COMPILER), str(place)],
                    stdin=names,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
            self._compilers.append(compiler)

    def end(self) -> None:
        """End what still compiles. May be called again."""
        for compiler in self._compilers:
            compiler.kill()
            compiler.wait(_END_TIMEOUT)

    def wait(self) -> None:
        """Wait until everything is compiled."""
        for compiler in self._compilers:
            compiler.wait()

    def _written(self, recipe: ServiceRecipe) -> Path:
        return self._temporary / f"{recipe.name}-bytecode"

    def _place(self, recipe: ServiceRecipe) -> Path:
        content = {
            "format": _FORMAT,
            "python": (sys.version, sys.executable),
            "folders": packages.folders(),
            "packages": [packages.version(name) for name in ("triton-env", *recipe.process.requires)],
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{recipe.name}-{digest[:20]}"

    def _make_folder(self) -> None:
        missing = [each for each in (self._folder, *self._folder.parents) if not each.exists()]
        make_folders(self._folder)
        if self._account is not None:
            for each in missing:
                each.chmod(0o755)

    def _check(self) -> None:
        """Raise `OSError` if another user may have put something there: servers execute it."""
        problem = problem_of(self._folder) or ("others can replace it" if _is_open_to_others(self._folder) else "")
        if problem or self._folder.is_symlink():
            raise PermissionError(0, problem or "it is a link", str(self._folder))


def is_compiled(distributions: Iterable[str]) -> bool:
    """Whether the installer has compiled these packages."""
    for name in distributions:
        specification = importlib.util.find_spec(name.replace("-", "_"))
        for folder in (specification.submodule_search_locations or ()) if specification else ():
            for source in Path(folder).glob("*.py"):
                # Servers do not have the variable by which this process may look elsewhere.
                if not source.with_name("__pycache__").joinpath(f"{source.stem}{_SUFFIX}").exists():
                    return False
    return True


def _cache_folder(account: Account | None) -> Path:
    own = user_cache_path("triton-env", appauthor=False)
    if account is not None and not account.can_pass(_nearest(own)):
        # Root's home folder is closed to the servers' user.
        return site_cache_path("triton-env", appauthor=False) / "bytecode"
    return own / "bytecode"


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _is_open_to_others(folder: Path) -> bool:
    return any(may_be_replaced(each) for each in folder.parents)


def _sources(written: Path) -> Iterator[str]:
    """The sources of the modules whose bytecode a server wrote, as far as they are installed ones."""
    folders = packages.folders()
    count = 0
    for parent, _, names in os.walk(written):
        for name in names:
            source = os.path.join("/", os.path.relpath(parent, written), name.removesuffix(_SUFFIX) + ".py")
            real = os.path.realpath(source)
            is_installed = os.path.isfile(real) and any(Path(real).is_relative_to(folder) for folder in folders)
            if is_installed and "\n" not in source and count < _MOST:
                count += 1
                yield source
