"""In which folders of this machine environments have their private directories."""

import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_data_path

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.embedded.account import Account, lonely_user

_log = logging.getLogger(__name__)

_OTHERS = ("/tmp", "/var/tmp")  # noqa: S108 - only a directory of our own in them is used
"""Taken where servers cannot work in the folder for temporary files."""
_LONGEST_SOCKET = 103
"""Bytes in the path of a Unix socket: 107 on Linux, 103 on macOS."""
_LONGEST_BELOW = len("/triton-env-01234567/run/.s.PGSQL.65535.lock")
_UNFIT = frozenset(",:\"'\\?*{}")
"""What cannot be in a path: to some servers it separates folders of a list, or options from the path, or it stands for
several files."""
_MOUNTS = Path("/proc/self/mounts")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a directory of our own in it is used
_LEAST_MEMORY = 1 << 30
"""Bytes that have to be free for data to go there."""


def all_bases() -> Iterator[Path]:
    """The folders in which environments of this user may have left something."""
    yield from dict.fromkeys(Path(os.path.realpath(each)) for each in (tempfile.gettempdir(), *_OTHERS))
    yield _SHARED_MEMORY


def disk_base(account: Account | None = None) -> Path:
    """Where environments have their directories: the system's folder for temporary files.

    Where servers cannot work in that one, such as in the closed home folder of root, it is another one, which the log
    says.

    Args:
        account: the servers' user; None where that is this process's.

    Raises:
        RuntimeUnavailable: they cannot work in any.
    """
    first = Path(tempfile.gettempdir())
    problem = problem_of(first, account)
    if not problem:
        return first
    for other in map(Path, _OTHERS):
        if os.access(other, os.W_OK | os.X_OK) and not problem_of(other, account):
            _log.warning("embedded servers work in %s, not in %s: %s", other, ascii(str(first)), problem)
            return other
    raise RuntimeUnavailable(
        "The servers cannot work in the folder for temporary files.",
        where=ascii(str(first)),
        cause=f"{problem}; {' and '.join(_OTHERS)} cannot be used either",
        hint="export TMPDIR=FOLDER with a short path, which other users may pass: chmod 711 FOLDER",
    )


def problem_of(base: Path, account: Account | None = None, longest_below: int = _LONGEST_BELOW) -> str:
    """Why servers cannot work in a folder, in words; empty where they can.

    Args:
        account: the servers' user; None where that is this process's.
        longest_below: bytes of the longest path of a Unix socket in it, below its own.
    """
    path = str(base)
    if found := sorted(each for each in set(path) if each in _UNFIT or not each.isprintable()):
        return f"some servers cannot take {' '.join(map(ascii, found))} in a path"
    if len(os.fsencode(base)) + longest_below > _LONGEST_SOCKET:
        return "its path is too long for Unix sockets"
    # One that is gone, or that cannot be written to, is an error where something is made in it.
    if account is not None and base.is_dir() and not account.can_pass(base):
        return "it is closed to ordinary users, and the servers run as one of them"
    return ""


def projects_folder(named: str) -> Path:
    """Where the data of persistent services is, in a folder for each project.

    Args:
        named: TRITON_DATA_DIR; may be empty.
    """
    if named:
        base = Path(named).expanduser().absolute()
    elif os.geteuid() == 0 and lonely_user() is None and sys.platform != "darwin":
        # The servers run as another user, to whom root's home folder is closed.
        base = Path("/var/lib/triton-env")
    else:
        base = user_data_path("triton-env", appauthor=False)
    return base / "projects"


def memory_base() -> Path | None:
    """A file system in memory with room for databases; None where there is none.

    It is worth a second directory: 1,300 files are copied in 0.07 s of processor time there, where a journaling file
    system took 0.5 s.
    """
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text("utf-8").splitlines()]
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    is_in_memory = [str(_SHARED_MEMORY), "tmpfs"] in mounts
    # Containers often have 64 MB of it.
    has_room = state.f_bavail * state.f_frsize >= _LEAST_MEMORY
    # As it is everywhere; ordinary users, as whom root's servers run, cannot go into another one.
    is_open = bool(_SHARED_MEMORY.stat().st_mode & stat.S_IXOTH)
    can_write = os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    return _SHARED_MEMORY if is_in_memory and has_room and is_open and can_write else None
