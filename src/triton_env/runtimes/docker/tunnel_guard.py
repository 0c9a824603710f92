"""Keeps an ssh connection to an engine's machine, and on it the engine's socket and ports of its containers.

Run as a script in a process of its own, with the standard library alone:

    python -I -S tunnel_guard.py CONTROL_FD OWNER_PID FOLDER ENGINE_SOCKET SSH...

SSH is the command that connects; its last word is the destination. Once that is done for the first time, or has failed,
the owner is sent a line, of number 0; from then on, a line for each of its own, with the same number. All are JSON. A
connection that breaks is recreated, with what was forwarded on it at the same addresses. This ends, with the connection
and FOLDER, when its owner does.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ENGINE = "engine.sock"
"""In the folder: the engine's socket, as it is reached from here."""
LOG = "ssh.log"
"""In the folder: what ssh wrote since it began to connect."""

_CONTROL = "control"
_OWNER_INTERVAL = 0.5
"""Seconds between two looks at the owner and the connection."""
_CONNECT_INTERVAL = 0.02
"""The same while the owner waits for the connection."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two tries to connect."""
_REQUEST_TIMEOUT = 15
"""Seconds within which ssh has to answer on this machine."""
_END_TIMEOUT = 2
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG: https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html"""


class Connection:
    """One ssh connection, recreated where it breaks.

    Attributes:
        wanted: what is to be forwarded, as arguments of ssh's -L.
        was_up: whether it was ever there.
    """

    def __init__(self, folder: Path, engine_socket: str, ssh: list[str]) -> None:
        self._folder, self._engine_socket, self._ssh = folder, engine_socket, ssh
        self._process: subprocess.Popen[bytes] | None = None
        self._is_up = self.was_up = False
        self._next_try, self._pause = 0.0, _FIRST_PAUSE
        self.wanted: set[str] = set()
        self._missing: set[str] = set()

    def look(self) -> bool:
        """See that it is there, or on its way; whether it is there."""
        if self._process is None or self._process.poll() is not None:
            if self._is_up:
                self._is_up, self._pause = False, _FIRST_PAUSE
            if time.monotonic() >= self._next_try:
                self._connect()
        elif not self._is_up and all((self._folder / name).exists() for name in (_CONTROL, ENGINE)):
            self._is_up = self.was_up = True
            self._missing = set(self.wanted)
        if self._is_up:
            # Another program may have taken the port while the connection was down, and give it back.
            self._missing = {each for each in self._missing if self._ask("forward", each)}
        return self._is_up

    def has_failed(self) -> bool:
        """Whether the present try to connect came to nothing."""
        return self._process is not None and self._process.poll() is not None

    def add(self, forward: str) -> str:
        """Forward something more; why that failed, and nothing where it is done."""
        if not self._is_up:
            return "the ssh connection is interrupted"
        if not (problem := self._ask("forward", forward)):
            self.wanted.add(forward)
        return problem

    def drop(self, forward: str) -> str:
        """Forward that no more."""
        self.wanted.discard(forward)
        self._missing.discard(forward)
        return self._ask("cancel", forward) if self._is_up else ""

    def end(self) -> None:
        """End the connection."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _connect(self) -> None:
        self._next_try = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        for name in (_CONTROL, ENGINE):
            (self._folder / name).unlink(missing_ok=True)
        *command, destination = self._ssh
        with (self._folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the user's ssh
                [*command, "-N", "-M", "-S", self._control, "-L", self._socket_forward, destination],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    @property
    def _control(self) -> str:
        return str(self._folder / _CONTROL)

    @property
    def _socket_forward(self) -> str:
        return f"{self._folder / ENGINE}:{self._engine_socket}"

    def _ask(self, order: str, forward: str) -> str:
        """Have the connection do something; why it did not, and nothing where it is done."""
        try:
            done = subprocess.run(  # noqa: S603 - as above
                [*self._ssh[:-1], "-S", self._control, "-O", order, "-L", forward, self._ssh[-1]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_REQUEST_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return (done.stderr.strip() or f"ssh ended with {done.returncode}") if done.returncode else ""


def _die_with_parent() -> None:
    """Have the kernel end a child where this process is killed; other systems than Linux do not know that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def last_words(folder: Path) -> str:
    """What ssh wrote last; empty where it wrote nothing."""
    try:
        lines = (folder / LOG).read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def serve(control: socket.socket, owner: int, folder: Path, connection: Connection) -> None:
    """Keep the connection while the owner lives and has not ended it."""
    received = b""
    is_told = is_deaf = False
    while os.getppid() == owner:
        # Before the look, which would connect once more and forget why this came to nothing.
        if not is_told and connection.has_failed():
            _send(control, 0, last_words(folder) or "ssh ended")
            return
        connection.look()
        if not is_told and connection.was_up:
            is_told = True
            _send(control, 0, "")
        pause = _OWNER_INTERVAL if is_told else _CONNECT_INTERVAL
        if is_deaf:
            # The owner has closed all that it has, and lives.
            time.sleep(pause)
            continue
        if not select.select([control], [], [], pause)[0]:
            continue
        try:
            data = control.recv(65536)
        except OSError:
            data = b""
        is_deaf = not data
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            if "end" in request:
                return
            act = connection.add if "add" in request else connection.drop
            _send(control, request["number"], act(request.get("add") or request["drop"]))


def _send(control: socket.socket, number: int, problem: str) -> None:
    with contextlib.suppress(OSError):
        control.sendall(json.dumps({"number": number, "problem": problem}).encode() + b"\n")


def main() -> None:
    """Connect, and keep the connection until the owner ends."""
    descriptor, owner, path, engine_socket, *ssh = sys.argv[1:]
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    # The owner alone decides, as with the reaper.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        # Not ignored, which ssh would inherit: it is ended by one of them.
        signal.signal(number, lambda *_: None)
    folder = Path(path)
    connection = Connection(folder, engine_socket, ssh)
    try:
        serve(control, int(owner), folder, connection)
    finally:
        connection.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
