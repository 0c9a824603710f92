"""Processes under a guard, as their owner sees them. The guard itself is in `guard`."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from triton_env.core import shortages
from triton_env.core.private import open_file
from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.embedded.account import Account, lonely_user
from triton_env.runtimes.embedded.directory import LOCK_NAME, PrivateDirectory

_GUARD = Path(__file__).with_name("guard.py")
_CANNOT_START = "The process that guards the servers cannot be started."
_END_TIMEOUT = 15
"""Seconds until a guard that lost its owner has to be gone; it needs 7 at worst."""


class GuardGone(Exception):
    """The guard has ended, or was asked to, and starts nothing any longer."""


class CannotRun(Exception):
    """The program cannot be started; the message is the system's.

    Attributes:
        number: of the system's error, as in `errno`.
    """

    def __init__(self, words: str, number: int | None) -> None:
        super().__init__(words)
        self.number = number


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and how.

    Attributes:
        argv: the program's path and its arguments.
        environment: all its environment variables.
        log: the file to which its output is added.
        folder: where it runs.
        input: a file to read from, which only this process's user has to be able to read; None for no input.
        output: a new file for its standard output, this process's user's; None for the log.
        by_named: whether it runs as the servers' user that has a name.
        read_all: let it read what file modes forbid to the servers' user until it has been loaded.
        readable: the only paths that it can read below, where the kernel can see to that; empty for no limit.
        writable: the only paths that it can change below as well.
        stop_signal: the name of the signal that ends it.
        stop_timeout: seconds that it gets for that, before SIGKILL.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    folder: Path
    input: Path | None = None
    output: Path | None = None
    by_named: bool = False
    read_all: bool = False
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    stop_signal: str = "SIGKILL"
    stop_timeout: float = 2.0


@dataclass(slots=True)
class Child:
    """A process that was started.

    Attributes:
        id: the number of the request that started it.
        pid: its process id.
        grace: seconds that it gets to end by itself.
        status: its exit status, negative for a signal; None while it runs.
        ended: when it ended, in seconds since the epoch; None while it runs.
    """

    id: int
    pid: int
    grace: float
    status: int | None = None
    ended: float | None = None


class Guard:
    """Starts processes that end with this one.

    Args:
        directories: removed by the guard when it ends.
        account: the servers' user; None where that is this process's.
        log: where the guard itself may complain.

    Raises:
        RuntimeUnavailable: the guard cannot be started.
        ResourceExhausted: for want of files, memory, processes or threads.
    """

    def __init__(self, directories: Sequence[PrivateDirectory], account: Account | None, log: Path) -> None:
        self._account = account
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._children: dict[int, Child] = {}
        self._graces: dict[int, float] = {}
        self._last_id = 0
        self._gone = False
        with shortages.explained(_CANNOT_START):
            self._socket, theirs = socket.socketpair()
            try:
                with theirs, os.fdopen(open_file(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as output:
                    self._process = self._started(theirs, directories, output)
            except OSError as error:
                self._socket.close()
                raise RuntimeUnavailable(
                    _CANNOT_START,
                    where=sys.executable or "this interpreter does not know its own path",
                    cause=str(error),
                ) from error
            try:
                threading.Thread(target=self._listen, name="triton-guard", daemon=True).start()
            except RuntimeError:
                self.end()
                raise

    @staticmethod
    def _started(
        theirs: socket.socket, directories: Sequence[PrivateDirectory], output: IO[bytes]
    ) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [
                *(sys.executable, "-I", "-S", str(_GUARD)),
                *(str(theirs.fileno()), str(os.getpid()), LOCK_NAME),
                *(str(directory.path) for directory in directories),
            ],
            # The locks live as long as either of us, or one of the servers.
            pass_fds=(theirs.fileno(), *(directory.lock for directory in directories)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in a terminal reaches all of its processes; the guard waits for its owner's word.
            start_new_session=True,
            cwd="/",
        )

    def start(self, program: Program) -> Child:
        """Start a process.

        Raises:
            CannotRun: the system refuses.
            GuardGone: nothing is started any longer.
        """
        with self._changed:
            self._last_id += 1
            number = self._last_id
        self._graces[number] = program.stop_timeout
        request = {
            "id": number,
            "argv": program.argv,
            "env": dict(program.environment),
            "cwd": str(program.folder),
            "log": str(program.log),
            "input": str(program.input or os.devnull),
            "output": str(program.output or ""),
            "account": self._account and self._account.pair(named=program.by_named),
            "alone": lonely_user(),
            "read_all": program.read_all,
            "readable": program.readable,
            "writable": program.writable,
            "stop": program.stop_signal,
            "grace": program.stop_timeout,
        }
        self._send(request)
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._gone)
            answer = self._answers.pop(number, None)
            if answer is None:
                raise GuardGone
            if "error" in answer:
                raise CannotRun(answer["error"], answer["number"])
            return self._children[number]

    def wait(self, child: Child) -> int:
        """The exit status of a process, once it has ended.

        Raises:
            GuardGone: it was ended with everything else.
        """
        with self._changed:
            self._changed.wait_for(lambda: child.status is not None or self._gone)
            if child.status is None:
                raise GuardGone
            return child.status

    def wait_briefly(self, child: Child, seconds: float) -> None:
        """Wait for the end of a process, or of the guard, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: child.status is not None or self._gone, seconds)

    def kill(self, child: Child) -> None:
        """End one process, by SIGKILL where the signal of its program does not, and wait for its end."""
        self._send({"id": child.id, "end": "stop"})
        self.wait_briefly(child, child.grace)
        if child.status is None and not self._gone:
            self._send({"id": child.id, "end": "kill"})
        self.wait(child)

    @property
    def is_gone(self) -> bool:
        """Whether the guard has ended, and with it all its processes."""
        return self._gone

    def end(self) -> None:
        """End all processes. May be called again."""
        with suppress(OSError):  # done before, or the guard has gone by itself
            # Not just closed: a fork of this process may have the same socket.
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            # The kernel then ends its children (Linux).
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def _send(self, request: dict[str, Any]) -> None:
        line = json.dumps(request).encode() + b"\n"
        try:
            with self._changed:
                self._socket.sendall(line)
        except OSError as error:
            raise GuardGone from error

    def _listen(self) -> None:
        received = b""
        try:
            while data := self._socket.recv(1 << 16):
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._note(json.loads(line))
        except OSError:
            pass
        finally:
            with self._changed:
                self._gone = True
                self._changed.notify_all()

    def _note(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        with self._changed:
            if "status" in answer:
                child = self._children[number]
                child.ended = answer["at"]
                child.status = answer["status"]
            else:
                self._answers[number] = answer
                if "pid" in answer:
                    self._children[number] = Child(number, answer["pid"], self._graces.pop(number))
            self._changed.notify_all()
