"""The folders of the project in which a command is given."""

from pathlib import Path

from triton_env.ownership import may_be_replaced

_ROOTS = ("pyproject.toml", ".git")
"""What the root of a project has."""


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


def is_root(folder: Path) -> bool:
    """Whether a folder is the root of a project.

    Raises:
        OSError: it cannot be looked at.
    """
    return any((folder / name).exists() for name in _ROOTS)
