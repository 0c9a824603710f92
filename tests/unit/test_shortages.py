"""Shortages are recognised whatever reports them, and the error names the limit and the next step."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from triton_env.core import limits, spare
from triton_env.core.shortages import exhausted, explained, in_log
from triton_env.errors import (
    BackupFailed,
    ImageUnavailable,
    ResourceExhausted,
    RuntimeUnavailable,
    StartCancelled,
    TritonError,
)
from triton_env.runtimes import ports

WHAT = "It could not be started."


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def raised_in_handling(error: Exception, first: BaseException) -> Exception:
    error.__context__ = first
    return error


def of_fork() -> BaseException:
    """What `subprocess` raises where the system has no process left."""
    code = compile(
        "def fail(): raise BlockingIOError(11, 'Resource temporarily unavailable')", "/x/subprocess.py", "exec"
    )
    namespace: dict[str, Callable[[], None]] = {}
    exec(code, namespace)
    with pytest.raises(BlockingIOError) as caught:
        namespace["fail"]()
    return caught.value


NO_FILE = OSError(errno.EMFILE, "Too many open files", "/etc/x")
SHORTAGES: dict[str, tuple[BaseException, str]] = {
    "a file": (NO_FILE, "no file descriptor is left"),
    "the machine": (OSError(errno.ENFILE, "Too many open files in system"), "this machine has no open file left"),
    "a disk": (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "no space is left on the device"),
    "a quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/x"), "the disk quota of this user is used up"),
    "a mount": (OSError(errno.EROFS, "Read-only file system", "/tmp/x"), "the file system can only be read"),
    "a file's size": (OSError(errno.EFBIG, "File too large", "/tmp/x"), "the largest size that is allowed"),
    "memory for a fork": (OSError(errno.ENOMEM, "Cannot allocate memory"), "no memory is left"),
    "memory": (MemoryError(), "no memory is left"),
    "a thread": (RuntimeError("can't start new thread"), "no further process or thread can be started"),
    "a process": (of_fork(), "no further process or thread can be started"),
    "libpq": (Exception("could not create socket: Too many open files"), "no file descriptor is left"),
    "a driver": (caused(Exception("cannot connect"), NO_FILE), "no file descriptor is left"),
    "a handler": (raised_in_handling(Exception("cannot connect"), NO_FILE), "no file descriptor is left"),
    "a group": (ExceptionGroup("several", [ValueError(), NO_FILE]), "no file descriptor is left"),
    "a runtime": (caused(RuntimeUnavailable("No engine answers."), NO_FILE), "no file descriptor is left"),
}


@pytest.mark.parametrize("source", SHORTAGES)
def test_a_shortage_is_found_behind(source: str) -> None:
    error, words = SHORTAGES[source]
    found = exhausted(error, WHAT)
    assert found is not None
    assert found.what.startswith(error.what[:-1] if isinstance(error, TritonError) else WHAT[:-1])
    assert words in found.what
    assert found.where
    assert found.hint
    assert "--force-reinstall" not in str(found)
    assert found.__cause__ is error


OTHERS: dict[str, BaseException] = {
    "a missing file": FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"),
    "a lock that another process holds": BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    "a mistake": ValueError("x"),
    "a start that was cancelled": caused(StartCancelled("The start was cancelled."), NO_FILE),
    "a message that says more": caused(BackupFailed("The backup could not be written."), NO_FILE),
    "an error raised while another was handled": raised_in_handling(ImageUnavailable("absent"), NO_FILE),
}


@pytest.mark.parametrize("source", OTHERS)
def test_no_shortage_is_seen_in(source: str) -> None:
    assert exhausted(OTHERS[source], WHAT) is None
    with pytest.raises(type(OTHERS[source])) as caught, explained(WHAT):
        raise OTHERS[source]
    assert caught.value is OTHERS[source]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('LOG:  could not fork "checkpointer" process: Resource temporarily unavailable', "process or thread"),
        ("# Fatal: Can't initialize Background Jobs. Error message: Resource temporarily unavailable", "thread"),
        ("Code: 439. DB::Exception: Cannot schedule a task: failed to start the thread", "thread"),
        ("# Your current 'ulimit -n' of 30 is not enough for the server to start.", "file descriptor"),
        ("FATAL:  insufficient file descriptors available to start server process", "file descriptor"),
        ('FATAL:  could not write to file "pg_wal/x": No space left on device', "no space"),
        ("tar: ./base/1: Cannot mkdir: Disk quota exceeded", "quota"),
    ],
)
def test_a_server_that_met_one_is_not_blamed(line: str, words: str, tmp_path: Path) -> None:
    found = in_log("PostgreSQL exited while it started.", "exit code 1", f"starting\n{line}\n", str(tmp_path))
    assert found is not None
    assert words in found.what
    assert line in found.log_tail
    assert in_log("PostgreSQL exited while it started.", "exit code 1", "FATAL: no such user", str(tmp_path)) is None


def test_the_limit_and_the_current_value_are_named(tmp_path: Path) -> None:
    code = (
        "import os, resource; from triton_env.core import limits;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 4000));"
        "kept = [os.dup(0) for _ in range(27)]; print(limits.shortage(24).where); print(limits.shortage(24).hint);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, -1)); print(limits.shortage(27, '/x').where)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    files, hint, size = done.stdout.splitlines()
    assert files.endswith("the limit is 30 file descriptors, and 30 are open now")
    assert "ulimit -n 4096" in hint
    assert size == "/x: the limit is 1.5 MB"
    space = limits.shortage(errno.ENOSPC, str(tmp_path / "absent" / "file"))
    assert space.where.startswith(f"{tmp_path}/absent/file: ")
    assert "are free now" in space.where
    assert f"df -h {tmp_path}" in space.hint


def test_a_package_that_cannot_be_looked_for_is_not_called_missing() -> None:
    code = (
        "import os, resource; from triton_env.runtimes.embedded import packages;"
        "packages.version('absent'); resource.setrlimit(resource.RLIMIT_NOFILE, (20, 4000));"
        "kept = [os.dup(0) for _ in range(20 - len(os.listdir('/dev/fd')) + 1)]\n"
        "try:\n    packages.version('pytest')\nexcept OSError as error: print(error.errno)\n"
        "for each in kept: os.close(each)\n"
        "print(packages.version('pytest') != '')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(errno.EMFILE), "True"], done.stderr


def test_without_a_free_port_the_error_names_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, address: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(ports, "_is_free", lambda bind, port: False)
    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(ResourceExhausted, match="no port is free") as caught:
        ports.free_port("127.0.0.1")
    assert "ss -tan" in str(caught.value)


def test_spare_descriptors_are_there_for_cleaning_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An environment of this process may hold some, and open others at any moment: these are told by their file.
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(spare, "_kept", [])
    monkeypatch.setattr(spare, "_users", 0)
    own = SimpleNamespace(devnull=str(file), open=os.open, close=os.close, O_RDONLY=os.O_RDONLY)
    monkeypatch.setattr(spare, "os", own)

    def count() -> int:
        return sum(each.path == str(file) for each in psutil.Process().open_files())

    spare.hold()
    spare.hold()
    held = count()
    assert held >= 4
    with spare.released():
        assert count() == 0
    assert count() == held
    spare.drop()
    assert count() == held
    spare.drop()
    assert count() == 0
