"""The folders of the project in which a command is given."""

from pathlib import Path

from triton_env.core.ownership import may_be_replaced
from triton_env.errors import UsageError

_ROOTS = ("pyproject.toml", ".git")
"""What the root of a project has."""


def current_folder() -> Path:
    """The folder in which this process works.

    Raises:
        UsageError: it has been removed, or may not be looked into.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(
            "The current folder cannot be used.",
            cause="it has been removed" if isinstance(error, FileNotFoundError) else str(error),
            hint="change to another one, such as: cd ~",
        ) from error


def project_folders(start: Path) -> tuple[Path, ...]:
    """`start` and those above it that are of the same project, which ends at its root or where others can put files."""
    folders: list[Path] = []
    for folder in (start, *start.parents):
        try:
            if folders and may_be_replaced(folder):
                break
            folders.append(folder)
            if is_root(folder) or may_be_replaced(folder):
                break
        except OSError:
            break
    return tuple(folders)


def project_root(folder: Path) -> Path:
    """The root of the project that a folder is in; outside of projects the folder itself."""
    folders = project_folders(folder)
    return folders[-1] if has_root(folders) else folder


def places_here(folder: Path) -> tuple[Path, ...]:
    """Where an environment may have been started that counts as running "here", in `folder`; the nearest first.

    It is the root of the project. Outside of projects it is the folder itself and those above it.
    """
    folders = project_folders(folder)
    return folders[-1:] if has_root(folders) else folders


def has_root(folders: tuple[Path, ...]) -> bool:
    """Whether the folders of `project_folders` end at the root of a project."""
    try:
        return bool(folders) and is_root(folders[-1])
    except OSError:
        return False


def is_root(folder: Path) -> bool:
    """Whether a folder is the root of a project.

    Raises:
        OSError: it cannot be looked at.
    """
    return any((folder / name).exists() for name in _ROOTS)
