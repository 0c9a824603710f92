"""Files in folders: those that a template is made of, in which order and with what in them; and what they take."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from triton_env.errors import TemplateFailed, UsageError

_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r"([0-9]+)")
_ROOT_MARKS = ("pyproject.toml", "pytest.ini", "setup.cfg", "tox.ini", "setup.py", ".git")
_PACKED = re.compile(r"\.sql\.(gz|bz2|xz|zst|zip)", re.IGNORECASE)


def files_in(root: Path, *, strict: bool = False) -> Iterator[Path]:
    """The files at a path: itself, or those in a folder and all that are in it. Links are followed.

    They come in natural order, folder by folder: `2-rows.sql` before `10-views.sql`. Hidden ones and caches are left
    out.

    Args:
        root: a file or a folder.
        strict: whether a link that leads nowhere is an error; otherwise it is left out.

    Raises:
        UsageError: a folder cannot be read, or a link leads back to a folder above it.
    """
    if root.is_file():
        yield root
    else:
        yield from _below(root, frozenset(), strict=strict)


def _below(folder: Path, above: frozenset[tuple[int, int]], *, strict: bool) -> Iterator[Path]:
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder), key=_natural)
    except OSError as error:
        raise UsageError("A folder cannot be read.", where=shown(folder), cause=str(error)) from error
    here = status.st_dev, status.st_ino
    if here in above:
        raise UsageError("A link leads back to a folder that it is in.", where=shown(folder), hint="remove the link")
    for name in names:
        path = folder / name
        if is_hidden(name):
            continue
        if path.is_dir():
            yield from _below(path, above | {here}, strict=strict)
        elif path.is_file():
            yield path
        elif strict and path.is_symlink():
            raise UsageError("A link leads nowhere.", where=shown(path), hint="remove it, or restore what it names")


def sql_files(folder: Path) -> list[Path]:
    """The SQL files below a folder, in natural order.

    Raises:
        UsageError: one is compressed, so that it would be left out.
    """
    found = []
    for path in files_in(folder, strict=True):
        if _PACKED.fullmatch("".join(path.suffixes[-2:])):
            raise UsageError("A template cannot read compressed SQL.", where=shown(path), hint="unpack the file")
        if path.suffix.lower() == ".sql":
            found.append(path)
    return found


def read_sql(path: Path) -> str:
    """The text of a SQL file: UTF-8, with or without a byte order mark, with `\\n` at the ends of lines.

    Raises:
        TemplateFailed: it cannot be read, or is not such a text; the message names the line.
    """
    content = read(path).removeprefix(_BOM)
    try:
        if content.startswith(_WIDE_BOMS):
            raise UnicodeDecodeError("utf-8", content, 0, 2, "the byte order mark of UTF-16")
        text = content.decode()
    except UnicodeDecodeError as error:
        raise TemplateFailed(
            "A SQL file of the template is not UTF-8.",
            where=f"{shown(path)}, line {content.count(10, 0, error.start) + 1}",
            cause=f"{error.reason}: {content[error.start : error.end].hex(' ')}",
            hint="save it as UTF-8, for example with: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error
    if "\0" in text:
        raise TemplateFailed(
            "A SQL file of the template holds a NUL byte, at which servers stop reading.",
            where=f"{shown(path)}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}",
            hint="remove it",
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(path: Path) -> bytes:
    """What is in a file.

    Raises:
        TemplateFailed: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise TemplateFailed("A file of the template cannot be read.", where=shown(path), cause=str(error)) from error


def stamped(status: os.stat_result) -> tuple[int, int, int, int]:
    """What changes with the content of a file, at the latest after a moment: number, size and times."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def project_root(start: Path) -> Path | None:
    """The nearest folder at or above `start` that looks like the root of a project."""
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    return None


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name never counts: hidden ones, and what Python keeps beside its modules."""
    return name.startswith(".") or name == "__pycache__"


def shown(path: Path) -> str:
    """A path for people: file names need not be text."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _natural(name: str) -> tuple[list[str | int], str]:
    # Every second part is a number. The name itself decides between `1.sql` and `01.sql`.
    return [int(part) if n % 2 else part for n, part in enumerate(_NUMBER.split(name))], name


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder, as far as they can be looked at."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
