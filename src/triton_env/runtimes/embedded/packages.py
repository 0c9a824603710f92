"""The Python distributions that servers come from: are they there, and where are their programs?"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from triton_env.core.model import ServiceRecipe
from triton_env.errors import RuntimeUnavailable

INSTALL = 'pip install "triton-env[embedded]"'


def missing(recipes: Iterable[ServiceRecipe]) -> tuple[str, ...]:
    """The distributions that these services need as processes and that are not installed."""
    needed = dict.fromkeys(name for recipe in recipes for name in recipe.process.requires)
    return tuple(name for name in needed if not version(name))


def version(distribution: str) -> str:
    """The version of an installed distribution; empty where it is not installed.

    Raises:
        OSError: no file descriptor is left to look with.
    """
    # Takes longer to load than all else of ours.
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        # The search passes over folders that it cannot open, and remembers that there was nothing.
        importlib.invalidate_caches()
        with open(os.devnull, "rb"):
            return ""


def check(recipes: Iterable[ServiceRecipe]) -> None:
    """See that these services can run as processes of this machine.

    Raises:
        RuntimeUnavailable: they cannot; the message says what is missing.
        TritonError: a setting keeps one of them from it.
    """
    recipes = tuple(recipes)
    for recipe in recipes:
        if recipe.process.unusable is not None:
            raise recipe.process.unusable
    if problem := problem_of(recipes):
        raise RuntimeUnavailable(
            "The embedded servers cannot run here.",
            where=sys.executable,
            cause=problem,
            hint=install(recipes) if sys.platform != "win32" else "use Docker, or the Windows Subsystem for Linux",
        )


def problem_of(recipes: Iterable[ServiceRecipe]) -> str:
    """Why these services cannot run as processes of this machine, in words; empty where they can."""
    if sys.platform == "win32":
        return "the server programs exist for Linux and macOS only"
    recipes = tuple(recipes)
    for recipe in recipes:
        if recipe.process.unusable is not None:
            return recipe.process.unusable.what
    names = missing(recipes)
    return f"not installed: {', '.join(names)}" if names else ""


def install(recipes: Iterable[ServiceRecipe]) -> str:
    """The command that installs what these services need."""
    extras = dict.fromkeys(recipe.process.extra for recipe in recipes if recipe.process.extra)
    return INSTALL.replace("embedded", ",".join(("embedded", *extras)))


def instead_of(recipe: ServiceRecipe) -> str:
    """What else may be run where the programs of a service do not work here, to end a hint."""
    process = recipe.process
    other = f"set {process.variable} to another one than {process.of_machine}, or " if process.of_machine else ""
    return f"{other}set TRITON_RUNTIME=docker"


def folders() -> tuple[str, ...]:
    """Where an interpreter that is started like this one finds itself and what it imports."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    ours = Path(__file__).parents[3]
    installed = (path for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    found = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *installed, *paths, str(ours))
    return tuple(dict.fromkeys(os.path.realpath(path) for path in found if path))


def own_folders(program: Path, path: str) -> tuple[Path, ...]:
    """The folders of the package that brings a program: its own, and that of its libraries where it has one.

    Args:
        program: from `program`.
        path: as `program` takes it.
    """
    package = path.partition("/")[0]
    folder = next(parent for parent in program.parents if parent.name == package)
    libraries = folder.with_name(f"{package}.libs")
    return (folder, libraries) if libraries.is_dir() else (folder,)


def program(path: str) -> Path:
    """The file of a program that a package brings.

    Args:
        path: PACKAGE/PATH, with `*` for parts that differ between platforms.

    Raises:
        RuntimeUnavailable: there is none.
    """
    package, _, inside = path.partition("/")
    specification = importlib.util.find_spec(package)
    for folder in (specification.submodule_search_locations or ()) if specification else ():
        for found in sorted(Path(folder).glob(inside)):
            return found
    raise RuntimeUnavailable(
        f"The package {package} has no {inside} for this platform.",
        where=sys.executable,
        hint=f"pip install --force-reinstall --no-cache-dir {package.replace('_', '-')}",
    )
