"""Limits of this process, its user and the machine: what has run out, where, and what to do about it."""

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from triton_env.core.sizes import size_words

with suppress(ImportError):  # Windows, where there are no such limits
    import resource

_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - compared, not written


@dataclass(frozen=True, slots=True)
class Shortage:
    """Something that has run out.

    Attributes:
        what: which, to end a sentence.
        where: where, with the limit and its current value.
        hint: what to do next.
    """

    what: str
    where: str
    hint: str


def is_known(number: int | None) -> bool:
    """Whether a number of `errno` stands for a shortage."""
    return number in _KINDS


def shortage(number: int, place: str = "") -> Shortage:
    """The shortage that a number of `errno` stands for. EAGAIN stands for that of threads and processes.

    Args:
        place: the file or folder that is concerned; for a server, the folder in which it writes.
    """
    return _KINDS[number](place)


def _files(place: str) -> Shortage:
    # A guard gives servers all that they may have.
    limit = _limit("RLIMIT_NOFILE", hard=bool(place))
    if place:
        where = f"the server that writes to {place}: this process allows it {limit or '?'} file descriptors"
    else:
        used = sum(_is_open(number) for number in range(min(limit or 1 << 16, 1 << 16)))
        where = f"process {os.getpid()}: the limit is {limit or '?'} file descriptors, and {used} are open now"
    return Shortage(
        "no file descriptor is left",
        where,
        f"raise the limit (ulimit -n {max(4096, 2 * (limit or 0))}) and start again; "
        f"lsof -p {os.getpid()} lists what this process has open",
    )


def _files_of_the_machine(_: str) -> Shortage:
    used, _unused, most = (_read(Path("/proc/sys/fs/file-nr")).split() + ["?"] * 3)[:3]
    return Shortage(
        "this machine has no open file left",
        f"/proc/sys/fs/file-nr: {used} of {most} files are open",
        "close other programs, or raise the limit as root: sysctl -w fs.file-max=NUMBER",
    )


def _threads(_: str) -> Shortage:
    limit = _limit("RLIMIT_NPROC")
    group, most = _own_group("pids.current"), _own_group("pids.max")
    if most.isdigit() and group.isdigit() and int(group) >= int(most) * 0.9:
        where = f"this container or control group: {group} of {most} processes and threads (pids.max)"
    else:
        where = f"user {os.getuid()}: {_threads_of_user()} processes and threads, the limit is {limit or 'not set'}"
    return Shortage(
        "no further process or thread can be started",
        where,
        f"end other programs (ps -eLf -U {os.getuid()} lists them), or raise the limit: ulimit -u NUMBER, "
        "or docker run --pids-limit NUMBER",
    )


def _memory(_: str) -> Shortage:
    limit = _limit("RLIMIT_AS")
    most = _own_group("memory.max")
    if limit:
        where = f"process {os.getpid()}: it may have {size_words(limit)} of memory (ulimit -v)"
    elif most.isdigit():
        where = f"this container or control group: it may have {size_words(int(most))} of memory (memory.max)"
    else:
        found = re.search(r"MemAvailable:\s+(\d+)", _read(Path("/proc/meminfo")))
        where = f"this machine: {size_words(int(found[1]) * 1024)} of memory are available" if found else "this machine"
    return Shortage(
        "no memory is left",
        where,
        "end other programs, raise the limit (ulimit -v unlimited, or docker run --memory), or start fewer services",
    )


def _space(place: str) -> Shortage:
    # Without a place it is one of those that sessions write to.
    folders = [_folder(place)] if place else [_folder(""), *filter(Path.is_dir, [_SHARED_MEMORY])]
    names = " ".join(map(str, folders))
    return Shortage(
        "no space is left on the device",
        "; ".join(f"{place or folder}: {_room(folder)}" for folder in folders),
        f"remove files there (df -h {names}; df -i {names} for the number of files), or {_elsewhere(folders[0])}",
    )


def _room(folder: Path) -> str:
    """How much room a file system has now; what met the shortage has removed its files again."""
    try:
        state = os.statvfs(folder)
    except OSError as error:
        return error.strerror or str(error)
    files = f" and {state.f_favail} of {state.f_files} files" if state.f_files else ""
    free, whole = size_words(state.f_bavail * state.f_frsize), size_words(state.f_blocks * state.f_frsize)
    return f"{free} of {whole}{files} are free now"


def _quota(place: str) -> Shortage:
    folder = _folder(place)
    return Shortage(
        "the disk quota of this user is used up",
        f"{place or folder}, user {os.getuid()}",
        f"remove files there (quota -s lists the limits), or {_elsewhere(folder)}",
    )


def _read_only(place: str) -> Shortage:
    folder = _folder(place)
    return Shortage(
        "the file system can only be read",
        place or str(folder),
        f"mount it for writing (findmnt -T {folder}), or {_elsewhere(folder)}",
    )


def _file_size(place: str) -> Shortage:
    limit = _limit("RLIMIT_FSIZE")
    words = size_words(limit) if limit else "that of the file system"
    return Shortage(
        "a file has reached the largest size that is allowed",
        f"{place or f'process {os.getpid()}'}: the limit is {words}",
        "raise the limit (ulimit -f unlimited) and start again",
    )


def no_port(bind: str) -> Shortage:
    """No port of this machine is free at an address."""
    ports = "/proc/sys/net/ipv4/ip_local_port_range"
    return Shortage(
        "no port is free",
        f"{bind}; {ports}: {' to '.join(_read(Path(ports)).split()) or '?'}",
        "end programs that have many connections or listen on many ports (ss -tan lists them)",
    )


_KINDS: dict[int, Callable[[str], Shortage]] = {
    errno.EAGAIN: _threads,
    errno.EMFILE: _files,
    errno.ENFILE: _files_of_the_machine,
    errno.ENOSPC: _space,
    errno.EDQUOT: _quota,
    errno.EROFS: _read_only,
    errno.EFBIG: _file_size,
    errno.ENOMEM: _memory,
}


def _elsewhere(folder: Path) -> str:
    if folder.is_relative_to(_SHARED_MEMORY):
        return "set TRITON_STORAGE=disk"
    return "set TMPDIR, XDG_CACHE_HOME or TRITON_STATE_DIR to folders elsewhere"


def _folder(place: str) -> Path:
    """The nearest folder of a path that is there; that for temporary files where there is no path."""
    import tempfile

    path = Path(place or tempfile.gettempdir())
    return next((each for each in (path, *path.parents) if each.is_dir()), Path("/"))


def _limit(name: str, *, hard: bool = False) -> int | None:
    """The soft or hard limit of this process; None where there is none."""
    if "resource" not in globals():
        return None
    limit = resource.getrlimit(getattr(resource, name))[hard]
    return None if limit == resource.RLIM_INFINITY else limit


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _threads_of_user() -> str:
    try:
        return str(sum(len(os.listdir(f"/proc/{pid}/task")) for pid in os.listdir("/proc") if _is_mine(pid)))
    except OSError:
        return "?"


def _is_mine(pid: str) -> bool:
    try:
        return pid.isdigit() and os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False


def _own_group(name: str) -> str:
    """What a file of this process's control group holds; empty where there is none (version 1, no Linux)."""
    path = _read(Path("/proc/self/cgroup")).partition("0::")[2].strip()
    return _read(_CGROUP / path.lstrip("/") / name).strip()


def _read(path: Path) -> str:
    """What a file of the kernel's holds; empty where it cannot be read, such as without a descriptor."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
