"""Engines behind ssh: one connection for all that this process does at an engine, with the ports of its containers.

OpenSSH makes it, so that hosts, keys and agents are those of the `ssh` command. The engine's socket and the ports are
forwarded to this machine's loopback; on the engine's machine, nothing is published beyond its own loopback.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

from triton_env.errors import EngineUnreachable
from triton_env.runtimes.docker import tunnel_guard
from triton_env.settings import process_environment

_ENGINE_SOCKET = "/var/run/docker.sock"
_CONNECT_TIMEOUT = 10
"""Seconds that ssh waits for the other machine, to begin with."""
_START_TIMEOUT = 30
"""Seconds until the connection has to be there, with all that ssh asks the other machine."""
_REQUEST_TIMEOUT = 40
_END_TIMEOUT = 5
_INTERRUPTED = "the ssh connection is interrupted"
_REFUSED = "open failed"
"""In what ssh writes where the other end of a forwarded connection cannot be connected to."""
_LONGEST_FOLDER = 50
"""Characters, so that sockets in it, with what ssh adds to their names, have paths that the system takes."""
_OPTIONS = {
    # Nothing is asked of a person: several programs may use it, and none has a terminal.
    "BatchMode": "yes",
    "ConnectTimeout": str(_CONNECT_TIMEOUT),
    # A connection that is cut without a word is noticed within so many seconds, three times.
    "ServerAliveInterval": "4",
    "ServerAliveCountMax": "3",
    "StreamLocalBindUnlink": "yes",
    "StreamLocalBindMask": "0177",
    # What the user's configuration may have for this host is for others: it holds for every session.
    "ControlPersist": "no",
    "ExitOnForwardFailure": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}


class Tunnel:
    """The ssh connection to one engine, which a process of its own keeps; recreated where it breaks.

    Args:
        url: the engine's, as `ssh://[user@]host[:port][/path/of/its/socket]`.

    Raises:
        EngineUnreachable: it cannot be connected to.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._host = _destination(parts.netloc)
        self._lock = threading.Lock()
        self._received = b""
        self._asked = 0
        ssh = shutil.which("ssh")
        if ssh is None:
            raise self._unreachable("the command ssh is not on PATH", "apt-get install openssh-client")
        options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        port = ["-p", str(parts.port)] if parts.port else []
        folder = tempfile.gettempdir()
        if len(folder) > _LONGEST_FOLDER:
            folder = "/tmp"  # noqa: S108 - a folder of ours is made in it
        with ExitStack() as undoing:
            self.folder = Path(tempfile.mkdtemp(prefix="triton-ssh-", dir=folder))
            undoing.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._control, theirs = socket.socketpair()
            undoing.callback(self._control.close)
            with theirs:
                command = [sys.executable, "-I", "-S", tunnel_guard.__file__, str(theirs.fileno()), str(os.getpid())]
                command += [str(self.folder), parts.path if len(parts.path) > 1 else _ENGINE_SOCKET]
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script, and the user's ssh
                    [*command, ssh, *options, *port, self._host],
                    pass_fds=(theirs.fileno(),),
                    env=process_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Ctrl-C in a terminal is not for it: what it carries is needed to clean up.
                    start_new_session=True,
                    cwd="/",
                )
            undoing.callback(self.end)
            if problem := self._answer(_START_TIMEOUT):
                words = f"ssh -o BatchMode=yes {' '.join([*port, self._host])} docker version"
                raise self._unreachable(problem, words)
            undoing.pop_all()

    @property
    def socket(self) -> str:
        """The path under which the engine's socket is reached here."""
        return str(self.folder / tunnel_guard.ENGINE)

    def trouble(self) -> str:
        """Why nothing gets through, in the words of ssh; empty while the connection is there."""
        return "" if os.path.exists(self.socket) else tunnel_guard.last_words(self.folder) or _INTERRUPTED

    def refusal(self) -> str:
        """What the other machine last refused to connect to; empty where that was nothing."""
        words = tunnel_guard.last_words(self.folder)
        return words if _REFUSED in words else ""

    def add(self, forward: str) -> str:
        """Forward a port, as ssh's -L has it; why that failed, and nothing where it is done."""
        return self._ask({"add": forward})

    def drop(self, forward: str) -> None:
        """Forward it no more."""
        self._ask({"drop": forward})

    def end(self) -> None:
        """End the connection, and all that goes through it. May be called again."""
        with suppress(OSError):
            self._control.sendall(b'{"end": true}\n')
        self._control.close()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Which a guard that was killed leaves.
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, request: dict[str, str]) -> str:
        with self._lock:
            self._asked += 1
            try:
                self._control.settimeout(_REQUEST_TIMEOUT)
                self._control.sendall(json.dumps({"number": self._asked, **request}).encode() + b"\n")
            except OSError as error:
                return str(error)
            return self._answer(_REQUEST_TIMEOUT)

    def _answer(self, seconds: float) -> str:
        """The answer to what was last asked. Earlier ones, which came too late, are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                answer = json.loads(line)
                if answer["number"] == self._asked:
                    return str(answer["problem"])
                continue
            try:
                self._control.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._control.recv(65536)
            except OSError as error:  # it takes too long
                return str(error)
            if not data:
                return self.trouble() or _INTERRUPTED
            self._received += data

    def _unreachable(self, cause: str, hint: str) -> EngineUnreachable:
        return EngineUnreachable("No Docker engine answers.", where=self.url, cause=cause, hint=hint)


def _destination(netloc: str) -> str:
    """The user and host of a URL, for ssh: in the letters in which they were written, as its configuration has them."""
    user, at, host = netloc.rpartition("@")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return f"{user.partition(':')[0]}{at}{name}"


_lock = threading.Lock()
_open: dict[tuple[int, str], tuple[Tunnel, int]] = {}
"""Those of this process (and of others that it was forked from), and how many use them."""


def take(url: str) -> Tunnel:
    """The tunnel to an engine, to be given back.

    Raises:
        EngineUnreachable: it cannot be connected to.
    """
    key = os.getpid(), url
    with _lock:
        tunnel, users = _open.get(key) or (Tunnel(url), 0)
        _open[key] = tunnel, users + 1
        return tunnel


def give_back(tunnel: Tunnel) -> None:
    """It is not needed here any more. The last who says so ends it."""
    key = os.getpid(), tunnel.url
    with _lock:
        _, users = _open.get(key, (None, 0))
        if users > 1:
            _open[key] = tunnel, users - 1
        elif users:
            del _open[key]
            tunnel.end()
