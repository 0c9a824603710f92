"""Which PostgreSQL runs as a process: one that is installed on this machine, or that of the Python package."""

import functools
import mmap
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from triton_env.errors import InvalidSetting
from triton_env.services import of_machine

VARIABLE = "TRITON_POSTGRES_BIN"
OLDEST = 14
_PLACES = (
    # Debian, Ubuntu; the packages of the PostgreSQL project for Red Hat and SUSE; Alpine.
    *("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib/postgresql*/bin", "/usr/libexec/postgresql*"),
    # Homebrew on both processors; https://postgresapp.com/documentation/cli-tools.html
    *("/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"),
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_NEEDED = ("postgres", "initdb", "psql", "pg_dump", "pg_restore")
_VERSION = re.compile(rb"postgres \(PostgreSQL\) (\d+)(?:\.(\d+))?")
"""What `postgres --version` prints, which stands like this in the program:
https://github.com/postgres/postgres/blob/master/src/include/miscadmin.h (PG_BACKEND_VERSIONSTR)"""


@dataclass(frozen=True, slots=True)
class Installation:
    """A PostgreSQL of this machine.

    Attributes:
        folder: of its programs.
        version: its major and minor version.
        stamp: changes when it is replaced by another build.
        reason: why it is the one, for people.
    """

    folder: Path
    version: tuple[int, int]
    stamp: str
    reason: str

    @property
    def major(self) -> int:
        """The major version."""
        return self.version[0]

    def __str__(self) -> str:
        return f"PostgreSQL {self.version[0]}.{self.version[1]} in {self.folder} ({self.reason})"


def chosen(value: str) -> Installation | None:
    """The PostgreSQL of this machine that is to run; None for that of the Python package.

    Args:
        value: of the setting: `wheel`, the path of a folder of programs or of the server in it, or empty for the newest
            of this machine.

    Raises:
        InvalidSetting: the one that is named cannot be used.
    """
    if value == of_machine.WHEEL:
        return None
    if value:
        return _named(value)
    found = (_found(folder) for folder in _candidates())
    return max((each for each in found if each), key=lambda each: each.version, default=None)


def _candidates() -> Iterator[Path]:
    """Folders that may have a PostgreSQL; that of PATH first, which is taken where others are as new."""
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for pattern in _PLACES:
        yield from map(Path, sorted(glob(pattern)))


def _found(folder: Path) -> Installation | None:
    """The installation in a folder of this machine, where it is one that can be used here."""
    server = folder / "postgres"
    if _lacking(folder) or not of_machine.can_be_run(server):
        return None
    version = _version(server)
    return _installation(folder, version, "the newest here") if version and version[0] >= OLDEST else None


def _named(value: str) -> Installation:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise _unusable(value, "it is not an absolute path")
    folder = path.resolve().parent if path.is_file() else path
    if lacking := _lacking(folder):
        raise _unusable(value, f"it has no {', '.join(lacking)}" if folder.is_dir() else "it is not a folder")
    version = _version(folder / "postgres")
    if version is None:
        raise _unusable(value, "its postgres has no version")
    if version[0] < OLDEST:
        raise _unusable(value, f"it is PostgreSQL {version[0]}, which is older than {OLDEST}")
    return _installation(folder, version, f"named by {VARIABLE}")


def _unusable(value: str, cause: str) -> InvalidSetting:
    folder = "the folder of its programs (pg_config --bindir prints it)"
    return of_machine.unusable("PostgreSQL", VARIABLE, value, cause, folder)


def _installation(folder: Path, version: tuple[int, int], reason: str) -> Installation:
    status = (folder / "postgres").stat()
    return Installation(folder, version, f"{version} {status.st_size} {status.st_mtime_ns}", reason)


def _lacking(folder: Path) -> list[str]:
    return [name for name in _NEEDED if not os.access(folder / name, os.X_OK)]


def _version(server: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = server.stat()
        return _version_of(server, status.st_size, status.st_mtime_ns)
    return None


@functools.cache
def _version_of(server: Path, size: int, changed: int) -> tuple[int, int] | None:
    """The version of a server. Recipes are made in every command, so its file is read: that is quicker."""
    with (
        suppress(OSError, ValueError),
        server.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if found := _VERSION.search(content):
            return int(found[1]), int(found[2] or 0)
    # A script that leads to the server.
    found = of_machine.answer((server, "--version"), _VERSION)
    return (int(found[1]), int(found[2] or 0)) if found else None
