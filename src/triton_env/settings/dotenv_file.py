"""`.env`: where it is, and what it says, with the lines where it says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.core.ownership import foreign_owner_of
from triton_env.errors import InvalidSetting
from triton_env.settings.project_folders import current_folder, has_root, project_folders

if TYPE_CHECKING:
    from dotenv.parser import Binding

NAME = ".env"
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Entry:
    """A variable of the file: its value, which may be secret, and its line."""

    value: str
    line: int


def find(start: Path | None = None) -> Path | None:
    """The file that is used in a folder (the current one): its own, or the nearest one up to the project's root.

    So it is the same in all folders of a project, unless one has its own. Outside of projects nothing above the folder
    counts.
    """
    folders = project_folders(start or current_folder())
    for folder in folders if has_root(folders) else folders[:1]:
        candidate = folder / NAME
        try:
            # A folder of that name is a virtual environment.
            if candidate.exists() and not candidate.is_dir():
                return candidate
        except OSError:
            continue
    return None


def read(path: Path) -> Mapping[str, Entry]:
    """What a file says, by names as they are written.

    Raises:
        InvalidSetting: it is another user's, cannot be read, or has a line that is not understood.
    """
    # Most folders have no such file.
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    check_whose(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidSetting(
            f"{path} cannot be read.", cause=error.strerror or str(error), hint=f"ls -l {path}"
        ) from error
    text = _decoded(path, data)
    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            raise InvalidSetting(
                f"Line {_line_of(binding)} of {path} is not understood.",
                # Not the line itself, which may hold a password.
                cause="it is neither NAME=VALUE nor a comment, or a quotation mark is not closed",
                hint=f"sed -n {_line_of(binding)}p {path}",
            )
        if binding.key is not None:
            lines[binding.key] = _line_of(binding)
    values = dotenv_values(stream=StringIO(text))
    return {name: Entry(value, lines[name]) for name, value in values.items() if value is not None}


def _line_of(binding: "Binding") -> int:
    """A statement begins with the empty lines before it."""
    statement = binding.original.string
    return binding.original.line + statement[: len(statement) - len(statement.lstrip())].count("\n")


def _decoded(path: Path, data: bytes) -> str:
    try:
        # With or without the mark that editors on Windows put first.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        encoding = "UTF-16" if data.startswith(_BYTE_ORDER_MARKS) else "ISO-8859-1"
        raise InvalidSetting(
            f"Line {line} of {path} is not UTF-8.",
            cause=f"the byte 0x{data[error.start]:02x}; it may be {encoding}",
            hint=f"iconv -f {encoding} -t UTF-8 {path} > {path}.new && mv {path}.new {path}",
        ) from None


def check_whose(file: Path) -> None:
    """See that a file of variables is not another user's: these name images and servers.

    It may be where the whole folder is that user's, as a checkout is that is mounted into a container where root works.

    Raises:
        InvalidSetting: it is another user's.
    """
    try:
        problem = foreign_owner_of(file)
        is_at_home = file.lstat().st_uid == file.stat().st_uid == file.absolute().parent.stat().st_uid
    except OSError:  # there is none, or it cannot be read either
        return
    if problem and not is_at_home:
        raise InvalidSetting(
            f"{file} is another user's, and is not used.",
            where=str(file.absolute()),
            cause=problem,
            hint=f"make the file yours: chown $(id -u) {file}; or work in another folder",
        )
