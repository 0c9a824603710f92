"""`Popen` and `run` as of `subprocess`, for Python programs that would else import for a second what all of them need.

A server that has imported it forks for each program. What runs then is a process like any other: of its own arguments,
environment, folder and streams, with the signals of a fresh interpreter, and it ends as one does. Commands that are not
`[sys.executable, "-c" | "-m" | FILE, ...]`, and what a fork cannot give, such as other options of the interpreter, go
to `subprocess`.

Such a process differs in four ways: its parent is the server, its command line in a list of processes is the server's,
it is killed when this process dies, and where it ends with a status, modules are not torn down after exit handlers.
"""

import atexit
import ctypes
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

MODULES = (
    *("boto3", "click", "clickhouse_connect", "docker", "psycopg", "pytest", "redis.asyncio", "rich.console"),
    *("unittest.mock", "asyncio", "concurrent.futures.thread", "json", "logging.config"),
)
"""What programs import, beside `triton_env`: what costs time and begins no thread."""
NOT_OURS = re.compile(r"pytest|notebook|dashboard\.|agents\.|servers|embedded\.(clickhouse|s3)|__main__")
"""Modules of `triton_env` that are left to programs: what has to be imported at a certain moment, and servers."""
READ_BY_IMPORTS = re.compile(r"PYTHON(?!PATH)|LANG$|LC_|LD_|TESTCONTAINERS_|TC_|RYUK_")
"""Names of variables that an interpreter reads at its start, and modules when they are imported."""


def Popen(command: Any, **options: Any) -> "subprocess.Popen[Any] | Forked":  # noqa: N802
    """As `subprocess.Popen`."""
    if isinstance(command, list | tuple) and _can_be_forked(command, options):
        return Forked(list(map(os.fspath, command)), **options)
    return subprocess.Popen(command, **options)


def run(
    command: Any,
    *,
    input: Any = None,  # noqa: A002
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> "subprocess.CompletedProcess[Any]":
    """As `subprocess.run`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(command, **options) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


def _can_be_forked(command: Sequence[Any], options: Mapping[str, Any]) -> bool:
    possible = {"stdin", "stdout", "stderr", "cwd", "env", "text", "encoding", "start_new_session"}
    if len(command) < 2 or command[0] != sys.executable or not sys.platform.startswith("linux"):
        return False
    program = os.fspath(command[1])
    if not {name for name, value in options.items() if value}.issubset(possible):
        return False
    if program.startswith("-") and program not in ("-c", "-m"):
        return False
    environment = os.environ if options.get("env") is None else options["env"]
    read = filter(READ_BY_IMPORTS.match, {*environment, *_BEGAN_WITH})
    if any(environment.get(name) != _BEGAN_WITH.get(name) for name in read):
        return False
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    return not any(Path(folder, f"{name}customize.py").exists() for folder in folders for name in ("site", "user"))


class Forked:
    """A process that the server has forked, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        command: list[str],
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        cwd: Any = None,
        env: Mapping[str, str] | None = None,
        text: bool | None = None,
        encoding: str | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self._encoding = encoding or ("utf-8" if text else None)
        self._theirs: list[int] = []
        self.stdin, read = self._stream(stdin, 0)
        self.stdout, written = self._stream(stdout, 1)
        self.stderr, complained = self._stream(written if stderr == subprocess.STDOUT else stderr, 2)
        job = {
            "command": command[1:],
            "cwd": os.fspath(cwd) if cwd else os.getcwd(),
            "env": dict(os.environ if env is None else env),
            "session": start_new_session,
        }
        self._lock = threading.Lock()
        try:
            self.pid, self._status = _begun(
                json.dumps(job).encode("utf-8", "surrogateescape"), read, written, complained
            )
        finally:
            for descriptor in self._theirs:
                os.close(descriptor)

    def _stream(self, wanted: Any, number: int) -> tuple[Any, int]:
        """Our end, where we have one, and what the process gets."""
        if wanted is None:
            return None, number
        if wanted == subprocess.DEVNULL:
            self._theirs.append(os.open(os.devnull, os.O_RDWR))
            return None, self._theirs[-1]
        if wanted != subprocess.PIPE:
            return None, wanted if isinstance(wanted, int) else wanted.fileno()
        reading, writing = os.pipe()
        ours, theirs = (writing, reading) if number == 0 else (reading, writing)
        self._theirs.append(theirs)
        mode = "wb" if number == 0 else "rb"
        stream: Any = open(ours, mode)  # noqa: SIM115
        if self._encoding:
            stream = io.TextIOWrapper(stream, self._encoding, write_through=number == 0)
        return stream, theirs

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *error: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()

    def __del__(self) -> None:
        with suppress(AttributeError):
            os.close(self._status)

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(0, deadline - time.monotonic()) * 1000
            # Not `select`, which takes no high numbers of files.
            ended = select.poll()
            ended.register(self._status, select.POLLIN)
            if not ended.poll(left):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            with self._lock:
                if self.returncode is None:
                    # Nothing comes where the server was killed, and with it the process.
                    self.returncode = int(os.read(self._status, 16) or -signal.SIGKILL)
        return self.returncode

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Write all of `input`, and read all that it writes until it ends."""
        deadline = None if timeout is None else time.monotonic() + timeout
        found: dict[Any, Any] = {}
        readers = [
            threading.Thread(target=lambda stream: found.setdefault(stream, stream.read()), args=(stream,), daemon=True)
            for stream in (self.stdout, self.stderr)
            if stream and not stream.closed
        ]
        for reader in readers:
            reader.start()
        if self.stdin and not self.stdin.closed:
            with suppress(BrokenPipeError):
                if input:
                    self.stdin.write(input)
                self.stdin.close()
        for reader in readers:
            reader.join(None if deadline is None else max(0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if deadline is None else max(0, deadline - time.monotonic()))
        for stream in found:
            stream.close()
        return found.get(self.stdout), found.get(self.stderr)

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_BEGAN_WITH = dict(os.environ)
"""The environment of the server."""


_TO_END = 30
"""Seconds after which a server that begins no program has not died."""


class _Server:
    """The server of this process, and the way to it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            environment = {name: value for name, value in _BEGAN_WITH.items() if name != "PYTHONPATH"}
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        # It ends when the socket is closed, which nothing need wait for.
        process.returncode = 0
        self._pid = process.pid
        atexit.register(self.socket.close)

    def reap(self) -> None:
        """Have it go from the list of processes, if it has ended."""
        deadline = time.monotonic() + _TO_END
        with suppress(ChildProcessError):
            # One that was killed closes its sockets before it has ended.
            while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < deadline:
                time.sleep(0.01)


_server: _Server | None = None
_choosing = threading.Lock()
"""Held by the thread that starts or replaces the server: tests begin programs in several at once."""


def _begun(job: bytes, *streams: int) -> tuple[int, int]:
    """Have the server begin a program: its process, and the file from which its exit status comes.

    A server that has died is replaced: all tests after that need one.
    """
    global _server
    for _ in range(2):
        with _choosing:
            server = _server = _server or _Server()
        ours, theirs = socket.socketpair()
        with ours, suppress(OSError):
            # The job comes by the socket of its own: one that is broken off disturbs no other.
            with theirs:
                socket.send_fds(server.socket, [b"j"], [theirs.fileno(), *streams])
            ours.sendall(b"%16d" % len(job) + job)
            if pid := ours.recv(16):
                # Without an object that warns where the process was not waited for.
                return int(pid), ours.detach()
        with _choosing:
            server.reap()
            if _server is server:
                _server = None
    raise RuntimeError("the fork server begins no program")


# What follows runs in the server, and in its children.


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each job that comes, until no more can come. Returns in the children, with their job."""
    import gc
    import importlib
    import pkgutil

    import triton_env

    ours = (module.name for module in pkgutil.walk_packages(triton_env.__path__, f"{triton_env.__name__}."))
    for name in (*MODULES, *(name for name in ours if not NOT_OURS.search(name))):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    awake, wake = socket.socketpair()
    for end in (awake, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, awake], [], [])
        if awake in ready:
            awake.recv(4096)
            _report(children)
        if control not in ready:
            continue
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not asked:
            # With it go its children.
            os._exit(0)
        if (job := _forked(descriptors, children)) is None:
            continue
        for each in (control, awake, wake, *children.values()):
            each.detach()
        signal.set_wakeup_fd(-1)
        die_with_parent()
        _take(descriptors[1:])
        return job


def _forked(descriptors: Sequence[int], children: dict[int, socket.socket]) -> dict[str, Any] | None:
    """Fork for a job, which is returned in the child. Whatever is wrong with one, the server is there for the next."""
    with suppress(OSError, ValueError), ExitStack() as closing:
        for descriptor in descriptors[1:]:
            closing.callback(os.close, descriptor)
        status = closing.enter_context(socket.socket(fileno=descriptors[0]))
        with status.makefile("rb") as stream:
            job: dict[str, Any] = json.loads(stream.read(int(stream.read(16))).decode("utf-8", "surrogateescape"))
        pid = os.fork()
        if not pid:
            closing.pop_all()
            status.detach()
            return job
        children[pid] = status.dup()
        try:
            status.sendall(b"%16d" % pid)
        except OSError:
            # Nothing waits for it any more.
            os.kill(pid, signal.SIGKILL)
    return None


def _report(children: dict[int, socket.socket]) -> None:
    """Pass on how children have ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with children.pop(pid) as end, suppress(OSError):
            end.sendall(b"%16d" % os.waitstatus_to_exitcode(status))


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _take(streams: Sequence[int]) -> None:
    """Become a process with these streams and no other file, and signals as they are for a fresh interpreter."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        # The server's were made from the same variables.
        before = getattr(sys, name)
        unbuffered = number > 0 and before.write_through
        mode = "w" if number else "r"
        stream: Any = open(number, f"{mode}b", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        text: Any = io.TextIOWrapper(
            stream,
            before.encoding,
            before.errors,
            line_buffering=not unbuffered and (number == 2 or stream.isatty()),
            write_through=unbuffered,
        )
        text.mode = mode
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def become(job: dict[str, Any]) -> None:
    """Run the program that a child is for."""
    import runpy

    program, *arguments = job["command"]
    if job["session"]:
        os.setsid()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    sys.excepthook = _complain
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    paths = list(filter(None, job["env"].get("PYTHONPATH", "").split(os.pathsep)))
    if program == "-m":
        name, *arguments = arguments
        if name == "pytest":
            # It rewrites the assertions of a plugin that is not imported before.
            for module in [each for each in sys.modules if each.partition(".")[0] == "triton_env"]:
                del sys.modules[module]
        sys.path[:0] = [os.getcwd(), *paths]
        sys.argv = ["-m", *arguments]
        runpy._run_module_as_main(name)  # type: ignore[attr-defined]
        return
    if program == "-c":
        code, *arguments = arguments
        file, first = "<string>", ""
    else:
        code, file, first = Path(program).read_bytes(), program, str(Path(program).resolve().parent)
        main.__file__ = file
    sys.argv = [program, *arguments]
    sys.path[:0] = [first, *paths]
    exec(compile(code, file, "exec", dont_inherit=True), main.__dict__)


def _complain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As an interpreter does it: without what is of the server."""
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


_status: int | None = None


def _end() -> None:
    """The last exit handler: tearing down all modules would take longer than most programs."""
    if _status is not None:
        with suppress(OSError):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(_status)


if __name__ == "__main__":
    atexit.register(_end)
    # Ctrl-C reaches all processes of a terminal. This one ends with the tests.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # The folder of this file.
    del sys.path[0]
    job = serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        become(job)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            _status = (end.code or 0) & 0xFF
        raise
    _status = 0
