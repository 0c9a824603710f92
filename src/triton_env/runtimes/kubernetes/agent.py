"""Keeps an environment in a cluster for its owner: forwards its ports, renews its lease, removes it in the end.

Run as a script in a process of its own, with the standard library alone:

    python -I -S agent.py SOCKET_FD OWNER_PID

The first line through the socket is a `Task` as JSON. Then come requests, each of which is answered by one line: to
forward ports, to forward them no more, how that stands. With `end` the agent ends, once the owner has removed
everything; with `leave` it removes the environment itself, as it does once the owner is gone.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

_LOOK = 0.1
"""Seconds between two looks at the owner and at what was started."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds before forwarding is tried again."""
_STEADY = 5.0
"""Seconds that it has to last to be tried again at once."""
_REQUEST_TIMEOUT = 60
"""Seconds that `kubectl` gets for a request."""
_GIVE_UP = 6 * 3600
"""Seconds after which the removal is left to others: the cluster has ended the pods by then."""
_QUIET = 3.0
"""Seconds after which it is looked once more whether a request of the owner's was still on its way."""
_TAKEN = ("address already in use", "unable to listen")
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html"""


class Forward:
    """Ports of one pod that are forwarded to this machine, again and again.

    Args:
        command: of `kubectl port-forward`.
        ports: how many it has to announce before all of them can be connected to.
    """

    def __init__(self, command: list[str], ports: int) -> None:
        self._command = command
        self._wanted = ports
        self._process: subprocess.Popen[bytes] | None = None
        self._announced = 0
        self._began = self._next_try = 0.0
        self._pause = _FIRST_PAUSE
        self._words = ""

    def look(self) -> None:
        """Read what was said, and begin again where it has ended."""
        if self._process is not None:
            self._read()
            if self._process.poll() is None:
                return
            self._read()
            self._close()
            self._announced = 0
            steady = time.monotonic() - self._began > _STEADY
            self._pause = _FIRST_PAUSE if steady else min(self._pause * 2, _LONGEST_PAUSE)
            self._next_try = time.monotonic() + self._pause
        if time.monotonic() >= self._next_try:
            self._began = time.monotonic()
            try:
                self._process = _started(self._command)
            except OSError as error:  # such as while kubectl is being replaced
                self._words = f"{self._command[0]}: {error.strerror or error}"
                self._pause = min(self._pause * 2, _LONGEST_PAUSE)
                self._next_try = time.monotonic() + self._pause

    def state(self) -> dict[str, Any]:
        """Whether its ports can be connected to, whether another program has one, and what was said last."""
        is_taken = any(words in self._words for words in _TAKEN)
        return {"up": self._announced >= self._wanted, "taken": is_taken, "words": self._words}

    def end(self) -> None:
        """Forward no more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def _read(self) -> None:
        assert self._process is not None
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError, ValueError):
                while data := os.read(stream.fileno(), 65536):
                    self._take(data.decode(errors="replace"), is_error=stream is self._process.stderr)

    def _take(self, text: str, *, is_error: bool) -> None:
        for line in filter(None, map(str.strip, text.splitlines())):
            if is_error:
                self._words = line
            elif line.startswith("Forwarding from"):
                self._announced += 1
                # kubectl goes on where it has some of the ports: what was said of another one stays.
                if self._announced >= self._wanted:
                    self._words = ""

    def _close(self) -> None:
        assert self._process is not None
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process = None


def _started(command: list[str]) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(  # noqa: S603 - the user's kubectl
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
    return process


def die_with_parent() -> None:
    """Have the kernel end a child where this process is killed; other systems than Linux do not know that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


class Renewal:
    """Renews a lease from time to time.

    Args:
        command: of `kubectl patch`, without the patch.
        seconds: between two renewals.
    """

    def __init__(self, command: list[str], seconds: float) -> None:
        self._command = command
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._given_up = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Renew it where it is time."""
        if self._process is not None:
            if self._process.poll() is None and time.monotonic() < self._given_up:
                return
            # One that hangs may not keep the next from being tried.
            self.end()
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._seconds
        self._given_up = time.monotonic() + min(self._seconds, _REQUEST_TIMEOUT)
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000000Z"
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 - the user's kubectl
                [*self._command, json.dumps({"spec": {"renewTime": now}})],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )

    def end(self) -> None:
        """Renew it no more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Agent:
    """Does what its owner asks for, as long as that lives."""

    def __init__(self, connection: socket.socket, owner: int) -> None:
        self._connection = connection
        self._owner = owner
        self._received = b""
        self._is_deaf = False
        self._forwards: dict[str, Forward] = {}

    def serve(self) -> None:
        """Keep the environment; returns once there is nothing to keep."""
        task = self._task()
        if task is None:
            return
        renewal = Renewal(task["renew"], task["seconds"])
        is_over = False
        try:
            while os.getppid() == self._owner and not is_over:
                renewal.look()
                for forward in self._forwards.values():
                    forward.look()
                request = self._request()
                if request is None:
                    continue
                if "end" in request:
                    return
                is_over = "leave" in request
                if not is_over:
                    self._send({"number": request["number"], **self._answer(request)})
        finally:
            renewal.end()
            for forward in self._forwards.values():
                forward.end()
        _remove(task["remove"], task["find"])

    def _task(self) -> dict[str, Any] | None:
        while os.getppid() == self._owner:
            if request := self._request():
                return request
        return None

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["name"]
        if "forward" in request:
            self._forwards[name] = Forward(request["forward"], request["ports"])
            self._forwards[name].look()
        elif "drop" in request:
            if forward := self._forwards.pop(name, None):
                forward.end()
            return {}
        return self._forwards[name].state() if name in self._forwards else {"up": False, "taken": False, "words": ""}

    def _request(self) -> dict[str, Any] | None:
        """The next that the owner has asked for; None where there is none after a moment."""
        if b"\n" not in self._received:
            if self._is_deaf:
                # The owner has closed all that it has, and lives.
                time.sleep(_LOOK)
            elif select.select([self._connection], [], [], _LOOK)[0]:
                try:
                    data = self._connection.recv(65536)
                except OSError:
                    data = b""
                self._is_deaf = not data
                self._received += data
        line, end, rest = self._received.partition(b"\n")
        if not end:
            return None
        self._received = rest
        request: dict[str, Any] = json.loads(line)
        return request

    def _send(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(answer).encode() + b"\n")


def _remove(remove: list[str], find: list[str]) -> None:
    """Remove the environment, again and again where the cluster cannot be reached.

    Args:
        remove: of `kubectl delete`, which may be run again.
        find: of `kubectl get`, which prints what is left.
    """
    pause, over = 1.0, time.monotonic() + _GIVE_UP
    quiet_since: float | None = None
    while time.monotonic() < over:
        left = _output(find) if _output(remove) is not None else None
        if left:
            # It is on its way out.
            quiet_since, pause = None, 1.0
        elif left is None:
            quiet_since, pause = None, min(pause * 2, 60.0)
        elif quiet_since is None:
            quiet_since, pause = time.monotonic(), _QUIET
        elif time.monotonic() - quiet_since >= _QUIET:
            return
        time.sleep(pause)


def _output(command: list[str]) -> str | None:
    """What a command prints; None where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's kubectl
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_REQUEST_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def main() -> None:
    """Keep the environment of the owner."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    # The owner alone decides: what signals all processes (a terminal, a shutdown) signals the owner too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        # Not ignored, which kubectl would inherit: it is ended by one of them.
        signal.signal(number, lambda *_: None)
    Agent(connection, int(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
