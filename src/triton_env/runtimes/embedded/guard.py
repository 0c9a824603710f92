"""The guard of one environment: parent of its servers, which ends with its owner and takes everything along.

Run as a script in a process of its own, with the standard library alone, so that it is there within some 20 ms:

    python -I -S guard.py SOCKET_FD OWNER_PID LOCK_NAME DIRECTORY...

The owner sends one JSON object a line through the socket: {"id", "argv", "env", "cwd", "log", "input", "output",
"account", "alone", "read_all", "readable", "writable", "stop", "grace"} to start a process, or {"id", "end"} to end
one, with "stop" for the signal that it was started with or "kill" for SIGKILL. The guard answers {"id", "pid"} or
{"id", "error", "number"}, and {"id", "status", "at"} when the process has ended.

Why a process between the owner and the servers: PR_SET_PDEATHSIG fires when the *thread* that forked ends, and an
owner forks in threads that end early; macOS has no such thing at all. The guard has one thread. It sees the end of
its owner, by SIGKILL too, as the end of the socket (or as another parent, where a fork of the owner keeps the socket
open), then ends the servers and removes their directories. Should the guard itself be killed, PR_SET_PDEATHSIG ends
its servers. And forking, dropping privileges and exec are safe here, which they are not in a process with threads.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

if __name__ == "__main__":
    # The isolated mode looks nowhere near this file. Last, so that nothing here hides a module of the library.
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "servers")))
    import rights  # type: ignore[import-not-found]
else:
    from triton_env.servers import rights

OWNER_INTERVAL = 0.5
"""Seconds between two looks at who the parent is."""
OPEN_FILES = 1 << 16
"""How many files a server may open at once, if the hard limit allows as many."""
KILL_TIMEOUT = 5.0
"""Seconds until killed processes have to be gone."""


class _Guard:
    def __init__(self, connection: socket.socket, owner: int) -> None:
        self._connection = connection
        self._owner = owner
        self._received = b""
        self._pids: dict[int, int] = {}
        """Of the processes that run, by request."""
        self._stop: dict[int, int] = {}
        """The signal that ends each of them."""
        self._grace: dict[int, float] = {}
        """Seconds that each of them gets for it."""

    def serve(self) -> None:
        """Do what the owner asks until it is gone."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while os.getppid() == self._owner:
            ready, _, _ = select.select([self._connection.fileno(), reading], [], [], OWNER_INTERVAL)
            if reading in ready:
                os.read(reading, 512)
                self._reap()
            if self._connection.fileno() in ready and not self._obey():
                return

    def end(self) -> None:
        """End all servers, and what they left to us."""
        for request in tuple(self._pids):
            self._signal(request, self._stop[request])
        self._wait_for_known(max((self._grace[request] for request in self._pids), default=0.0))
        for request in tuple(self._pids):
            self._signal(request, signal.SIGKILL)
        # Processes of a server may be in sessions of their own. Orphans come to us (Linux).
        deadline = time.monotonic() + KILL_TIMEOUT
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG) != (0, 0):
                    continue
            except ChildProcessError:
                return
            for pid in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _obey(self) -> bool:
        """Do what has been asked; False once the owner has gone."""
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            return False
        if not data:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "end" in request:
                if request["id"] in self._pids:
                    number = signal.SIGKILL if request["end"] == "kill" else self._stop[request["id"]]
                    self._signal(request["id"], number)
                continue
            try:
                pid = _spawn(request)
            except OSError as error:
                self._tell({"id": request["id"], "error": error.strerror or str(error), "number": error.errno})
                continue
            self._pids[request["id"]] = pid
            self._stop[request["id"]] = getattr(signal, request["stop"])
            self._grace[request["id"]] = request["grace"]
            self._tell({"id": request["id"], "pid": pid})
        return True

    def _reap(self) -> None:
        requests = {pid: request for request, pid in self._pids.items()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in requests:
                del self._pids[requests[pid]]
                self._tell({"id": requests[pid], "status": os.waitstatus_to_exitcode(status), "at": time.time()})

    def _signal(self, request: int, number: int) -> None:
        pid = self._pids[request]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(pid, number)
            else:
                # To the server alone: it ends its children itself.
                os.kill(pid, number)

    def _wait_for_known(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._reap()
        while self._pids and time.monotonic() < deadline:
            time.sleep(0.003)
            self._reap()

    def _tell(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the owner has gone, which the next look will notice
            self._connection.sendall(json.dumps(answer).encode() + b"\n")


def _spawn(request: dict[str, Any]) -> int:
    """Start a process; returns its id once it runs its program. Raises OSError where it cannot."""
    guard = os.getpid()
    reading, writing = os.pipe()  # closed by exec
    pid = os.fork()
    if pid == 0:
        try:
            _become(request, guard)
        except BaseException as error:
            os.write(writing, f"{getattr(error, 'errno', None) or 0} {error}".encode()[:4096])
        finally:
            os._exit(127)
    os.close(writing)
    try:
        problem = os.read(reading, 4096)
    finally:
        os.close(reading)
    if problem:
        os.waitpid(pid, 0)
        number, _, words = problem.decode(errors="replace").partition(" ")
        raise OSError(int(number), words)
    return pid


def _become(request: dict[str, Any], guard: int) -> None:
    """Turn this fresh child into the program that was asked for."""
    os.setsid()
    # What is ignored stays ignored over exec, and the guard and Python itself ignore some.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    # All opened with the owner's rights.
    os.dup2(os.open(request["input"], os.O_RDONLY), 0)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    output = request["output"] and os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.dup2(output or log, 1)
    os.dup2(log, 2)
    os.chdir(request["cwd"])
    if request["alone"] is not None:
        rights.become_ordinary_alone(request["alone"], program=request["argv"][0])
    else:
        rights.become_ordinary(request["account"], read_all=request["read_all"], program=request["argv"][0])
    if request["readable"]:
        rights.confine(request["readable"], request["writable"])
    # After the change of user, which clears it.
    rights.end_with_parent(getattr(signal, request["stop"]))
    if os.getppid() != guard:
        os._exit(127)
    os.execve(request["argv"][0], request["argv"], request["env"])  # noqa: S606 - no shell is what is wanted


def _children() -> list[int]:
    """The process ids of our children, adopted ones included."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # no /proc: macOS, where nothing is adopted
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                # "pid (name, which may hold anything) state ppid ..."
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def remove(directory: str, lock_name: str) -> None:
    """Remove an environment's directory, its lock last: without one, it could not be recognised as stale.

    Raises:
        OSError: something of it cannot be removed.
    """
    import shutil

    # Without a descriptor, which there may be none of, one that is gone looks like one that cannot be read.
    if not os.path.lexists(directory):
        return
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(directory, name)
        if name == lock_name:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, lock_name))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)


def _allow_open_files() -> None:
    """Let servers open as many files as they may: a limit for a shell or a test runner is not meant for a database."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    with contextlib.suppress(OSError, ValueError):  # macOS has another limit besides
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> None:
    """Guard until the owner is gone."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    # The owner alone decides: what signals all processes (a terminal, a shutdown) signals the owner too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _allow_open_files()
    rights.adopt_orphans()
    rights.keep_what_a_guard_needs()
    guard = _Guard(connection, owner=int(sys.argv[2]))
    try:
        guard.serve()
    finally:
        guard.end()
        for directory in sys.argv[4:]:
            remove(directory, sys.argv[3])


if __name__ == "__main__":
    main()
