"""The forwarder of one project: the process that keeps the ports of its pods forwarded to this machine.

    python -P -m triton_env.persistent.kubernetes.forwarder FOLDER PROJECT CLUSTER

It leaves its starter at once. At a Unix socket it takes {"do": "forward", "orders": [...]}, {"do": "drop", "names":
[...]}, {"do": "look"} and {"do": "end"}. It answers each with how the forwarding of every service stands, and ends by
itself with the last service.
"""

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from triton_env.core.codec import from_data
from triton_env.persistent.kubernetes.orders import ForwarderFolder, Noted, Order
from triton_env.runtimes.kubernetes.agent import Forward
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.state import door, locks, store

_LOOK = 0.1
"""Seconds between two looks at what is forwarded."""
_IDLE = 60
"""Seconds that it waits for its first order."""
_LOST = re.compile(r"error forwarding port|lost connection to pod|failed to (create|find)|not found")
"""What `kubectl` writes where the pod is another one by now. It goes on by itself, to nothing."""


class _Forwarder:
    """See the module."""

    def __init__(self, folder: ForwarderFolder, project: str, cluster: Cluster) -> None:
        self._folder = folder
        self._project = project
        self._cluster = cluster
        self._began = time.time()
        self._lock = threading.Lock()
        self._forwards: dict[str, tuple[Order, Forward]] = {}
        self._has_had_orders = False
        self._is_over = threading.Event()

    def run(self) -> None:
        """Forward until the end."""
        self._folder.control.unlink(missing_ok=True)
        with self._lock:
            self._note()
        with closing(door.Door(self._folder.control, self._obey)):
            while not self._is_over.wait(_LOOK):
                with self._lock:
                    for order, forward in self._forwards.values():
                        forward.look()
                        if _LOST.search(forward.state()["words"]):
                            self._forwards[order.service] = self._anew(order, forward)
                if not self._has_had_orders and time.time() - self._began > _IDLE:
                    break
        for _, forward in self._forwards.values():
            forward.end()

    def end(self, *_: object) -> None:
        """End soon; a handler of signals too."""
        self._is_over.set()

    def _anew(self, order: Order, before: Forward | None) -> tuple[Order, Forward]:
        if before:
            before.end()
        return order, Forward(list(order.command(self._cluster)), len(order.ports))

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            match request["do"]:
                case "forward":
                    self._has_had_orders = True
                    for each in request["orders"]:
                        order = from_data(Order, each)
                        _, before = self._forwards.get(order.service, (None, None))
                        self._forwards[order.service] = self._anew(order, before)
                    self._note()
                case "drop":
                    for name in request["names"]:
                        if found := self._forwards.pop(name, None):
                            found[1].end()
                    self._note()
                    if not self._forwards:
                        self.end()
                case "end":
                    self.end()
            return {name: forward.state() for name, (_, forward) in self._forwards.items()}

    def _note(self) -> None:
        orders: Mapping[str, Order] = {name: order for name, (order, _) in self._forwards.items()}
        noted = Noted(os.getpid(), self._began, self._project, self._cluster, orders)
        with suppress(OSError):  # where the disk is full, it goes on
            store.write(self._folder.state, noted)


def main() -> None:
    """Leave the starter, and forward until the end."""
    folder, project = ForwarderFolder(Path(sys.argv[1])), sys.argv[2]
    cluster = from_data(Cluster, json.loads(sys.argv[3]))
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    # Where another one was quicker, that is not waited for: this one would follow it when it ends.
    with suppress(BlockingIOError):
        held = locks.hold(folder.lock, timeout=0)
        forwarder = _Forwarder(folder, project, cluster)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, forwarder.end)
        forwarder.run()
        folder.state.unlink(missing_ok=True)
        held.release()


if __name__ == "__main__":
    main()
