"""Which ClickHouse runs as a process: one that is installed on this machine, or the server of the Python package."""

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from triton_env.core.private import make_folders
from triton_env.errors import InvalidSetting
from triton_env.services import of_machine
from triton_env.state import store

VARIABLE = "TRITON_CLICKHOUSE_BIN"
OLDEST = (24, 3)
"""The first that analyses queries as the engine does on which all that triton-env asks is tested.
https://clickhouse.com/docs/operations/analyzer"""
_PROGRAM = "clickhouse"
_SERVER_VERSION = re.compile(rb"server version (\d+(?:\.\d+)+)")
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, slots=True)
class Installation:
    """A ClickHouse of this machine.

    Attributes:
        program: its file.
        version: with all its numbers.
        reason: why it is the one, for people.
    """

    program: Path
    version: str
    reason: str

    def __str__(self) -> str:
        return f"ClickHouse {self.version} in {self.program.parent} ({self.reason})"


@dataclass(frozen=True, slots=True)
class _Asked:
    """The answer of a program, as it is kept: a large program takes its time to say who it is.

    Attributes:
        size: of its file.
        changed: when that was changed, in nanoseconds since the epoch.
    """

    size: int
    changed: int
    version: str

    FORMAT: ClassVar[int] = 1


def chosen(value: str) -> Installation | None:
    """The ClickHouse of this machine that is to run; None for the server of the Python package.

    Args:
        value: of the setting: `wheel`, the path of the program or of its folder, or empty for one that is found.

    Raises:
        InvalidSetting: the one that is named cannot be used.
    """
    if value == of_machine.WHEEL:
        return None
    if value:
        return _named(value)
    return next(filter(None, (_found(program, reason) for program, reason in _candidates())), None)


def _candidates() -> Iterator[tuple[Path, str]]:
    """Programs that may be there, and why each is the one; that of PATH first, then those of clickhousectl."""
    if on_path := shutil.which(_PROGRAM):
        yield Path(on_path).resolve(), "on PATH"
    # https://github.com/ClickHouse/clickhousectl/blob/main/crates/clickhousectl/src/paths.rs
    if (versions := _folder_of_clickhousectl()) is None:
        return
    with suppress(OSError, ValueError):
        yield versions / (versions.parent / "default").read_text("utf-8").strip() / _PROGRAM, "clickhousectl's default"
    with suppress(OSError):
        for folder in sorted(versions.iterdir(), key=lambda each: _numbers(each.name), reverse=True):
            yield folder / _PROGRAM, "the newest of clickhousectl"


def _folder_of_clickhousectl() -> Path | None:
    """Each version is in a folder of its name. None for a user who has no home."""
    try:
        return (Path.home() / ".clickhouse" / "versions").resolve()
    except RuntimeError:
        return None


def _found(program: Path, reason: str) -> Installation | None:
    """The installation, where it is one that can be used here."""
    if not program.is_file() or not of_machine.can_be_run(program):
        return None
    version = _version(program)
    return Installation(program, version, reason) if _numbers(version) >= OLDEST else None


def _named(value: str) -> Installation:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise _unusable(value, "it is not an absolute path")
    program = (path / _PROGRAM if path.is_dir() else path).resolve()
    if not program.is_file():
        raise _unusable(value, f"it has no {_PROGRAM}" if path.is_dir() else "it does not exist")
    if not os.access(program, os.X_OK):
        raise _unusable(value, "it cannot be run")
    version = _version(program)
    if not version:
        raise _unusable(value, f"it does not answer {_PROGRAM} server --version with a version")
    if _numbers(version) < OLDEST:
        raise _unusable(value, f"it is ClickHouse {version}, which is older than {'.'.join(map(str, OLDEST))}")
    return Installation(program, version, f"named by {VARIABLE}")


def _unusable(value: str, cause: str) -> InvalidSetting:
    return of_machine.unusable("ClickHouse", VARIABLE, value, cause, f"the program {_PROGRAM} or its folder")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split("."))) if _VERSION.fullmatch(version) else ()


def _version(program: Path) -> str:
    folder = program.parent
    if folder.parent == _folder_of_clickhousectl() and _VERSION.fullmatch(folder.name):
        return folder.name
    with suppress(OSError):
        status = program.stat()
        return _version_of(program, status.st_size, status.st_mtime_ns)
    return ""


@functools.cache
def _version_of(program: Path, size: int, changed: int) -> str:
    """The version of a program; empty where it says none. It is asked once, since every command makes recipes."""
    from platformdirs import user_cache_path  # not on top: see `of_machine`

    folder = user_cache_path("triton-env", appauthor=False) / "versions"
    file = folder / f"{hashlib.sha256(os.fsencode(program)).hexdigest()[:20]}.json"
    known = store.found(file, _Asked)
    if known and (known.size, known.changed) == (size, changed):
        return known.version
    found = of_machine.answer((program, "server", "--version"), _SERVER_VERSION)
    version = found[1].decode() if found else ""
    if version:
        with suppress(OSError):  # then it is asked again
            make_folders(folder)
            store.write(file, _Asked(size, changed, version))
    return version
