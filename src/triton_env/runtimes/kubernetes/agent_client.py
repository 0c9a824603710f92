"""The line between an owner and the agent of its environment, as the owner sees it. The agent is in `agent`."""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes import companion
from triton_env.runtimes.kubernetes import agent
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.objects import KINDS, LEASE_SECONDS, name_of, selector

_RENEWALS = 12
"""How often a lease is renewed in its time."""
_ANSWER_TIMEOUT = 20
_END_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How the forwarding of a pod's ports stands.

    Attributes:
        up: whether they can be connected to.
        taken: whether another program of this machine has one.
        words: what `kubectl` wrote last about what is wrong; empty where nothing is.
    """

    up: bool
    taken: bool
    words: str


class AgentHandle:
    """Has an environment kept, and everything of it removed when this process ends without having done so.

    Raises:
        RuntimeUnavailable: no process can be started for it.
    """

    def __init__(self, cluster: Cluster, environment: str) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._received = b""
        self._asked = 0
        self._is_left = False
        name = name_of(environment)
        everything = ("--selector", selector(environment))
        patch = ("patch", "lease", name, "--type", "merge", "--patch")
        task = {
            "renew": cluster.command(*patch),
            "seconds": LEASE_SECONDS / _RENEWALS,
            "remove": cluster.command("delete", KINDS, *everything, "--wait=false", "--ignore-not-found"),
            "find": cluster.command("get", KINDS, *everything, "-o", "name", "--ignore-not-found"),
        }
        self._process: subprocess.Popen[bytes] | None
        try:
            self._process, self._socket = companion.started(agent.__file__, (), cluster.environment)
        except OSError as error:
            raise RuntimeUnavailable(
                "The process that keeps an environment in a cluster cannot be started.",
                where=sys.executable or "this interpreter does not know its own path",
                cause=str(error),
            ) from error
        self._socket.settimeout(_ANSWER_TIMEOUT)
        with suppress(OSError):  # one that is gone already is noticed where it is asked
            self._send(task)

    def forward(self, pod: str, address: str, ports: dict[int, int]) -> None:
        """Forward ports of a pod from now on, in the place of those that were forwarded.

        Args:
            address: of this machine.
            ports: those of the pod, by those of this machine.
        """
        pairs = [f"{here}:{there}" for here, there in ports.items()]
        command = self._cluster.command("port-forward", f"pod/{pod}", *pairs, "--address", address, timeout=None)
        self.drop(pod)
        self._ask({"name": pod, "forward": command, "ports": len(pairs)})

    def drop(self, pod: str) -> None:
        """Forward ports of a pod no more."""
        self._ask({"name": pod, "drop": True})

    def state(self, pod: str) -> Forwarding:
        """How the forwarding of its ports stands."""
        answer = self._ask({"name": pod, "state": True})
        return Forwarding(answer.get("up", False), answer.get("taken", False), answer.get("words", ""))

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, though it was not asked to."""
        return self._process is not None and self._process.poll() is not None

    def end(self) -> None:
        """There is nothing left to remove: it ends. May be called again."""
        if self._process is None:
            return
        if not self._is_left:
            with self._lock, suppress(OSError):  # it was killed
                self._send({"end": True})
        companion.end(self._process, self._socket, _END_TIMEOUT)
        self._process = None

    def leave(self) -> None:
        """Something is left that could not be removed: the agent tries, again and again, from now on."""
        if self._process is not None and not self._is_left:
            self._is_left = True
            with self._lock, suppress(OSError):
                self._send({"leave": True})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """What it answers; nothing where it is gone."""
        with self._lock, suppress(OSError):
            self._asked += 1
            self._send({**request, "number": self._asked})
            while True:
                line, end, rest = self._received.partition(b"\n")
                if end:
                    self._received = rest
                    answer: dict[str, Any] = json.loads(line)
                    # One that came too late belongs to a request before.
                    if answer["number"] == self._asked:
                        return answer
                elif data := self._socket.recv(65536):
                    self._received += data
                else:
                    break
        return {}

    def _send(self, request: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(request).encode() + b"\n")
