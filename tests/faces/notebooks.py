"""A real kernel, driven as a notebook drives it."""

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

TIMEOUT = 240
"""Seconds for one cell."""
_TRIES = 100


@dataclass
class Cell:
    """What a cell has shown.

    Attributes:
        printed: on standard output and standard error.
        shown: what was displayed, by MIME type, in order; what is updated in place changes in here.
        updates: how many times something was updated in place.
        error: what stands there as a traceback, without colours; empty where the cell succeeded.
    """

    printed: str = ""
    shown: list[dict[str, str]] = field(default_factory=list)
    updates: int = 0
    error: str = ""

    @property
    def text(self) -> str:
        """The last output as plain text."""
        return self.shown[-1]["text/plain"]


class Kernel:
    """A kernel that runs."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client: BlockingKernelClient = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)
        self._by_id: dict[str, dict[str, str]] = {}

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        cell = Cell()

        def take(message: dict[str, Any]) -> None:
            self._take(cell, message["msg_type"], message["content"])

        for _ in range(_TRIES):
            reply = self.client.execute_interactive(code, output_hook=take, timeout=TIMEOUT)
            # What waits when the cell before it fails is cancelled, unseen.
            if reply["content"]["status"] != "aborted":
                return cell
            time.sleep(0.1)
        raise AssertionError(f"the kernel never ran {code!r}")

    def begin(self, code: str) -> None:
        """Run a cell, and do not wait for it."""
        self.client.execute(code)

    def wait_for_print(self) -> None:
        """Wait until a cell that was begun prints something."""
        while self.client.get_iopub_msg(timeout=TIMEOUT)["msg_type"] != "stream":
            pass

    def follow(self, done: Callable[[Cell], bool]) -> Cell:
        """Take what comes after a cell was begun, until `done` holds of it.

        Unlike in `run`, also what a thread shows in between two cells: that belongs to the one before.
        """
        cell = Cell()
        while not done(cell):
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            self._take(cell, message["msg_type"], message["content"])
        return cell

    def restart(self) -> None:
        self.manager.restart_kernel()
        self.client.wait_for_ready(timeout=TIMEOUT)

    def _take(self, cell: Cell, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            cell.printed += content["text"]
        elif kind == "error":
            cell.error = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))
        elif kind == "update_display_data":
            cell.updates += 1
            shown = self._by_id[content["transient"]["display_id"]]
            shown.clear()
            shown.update(content["data"])
        elif kind in ("display_data", "execute_result"):
            cell.shown.append(dict(content["data"]))
            if display_id := content.get("transient", {}).get("display_id"):
                self._by_id[display_id] = cell.shown[-1]


@contextmanager
def kernel() -> Iterator[Kernel]:
    """A fresh kernel of this interpreter, gone at the end."""
    # Short: sockets are made in there, whose paths may not be long.
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        manager = KernelManager(kernel_name="python3", connection_file=str(Path(folder, "connection.json")))
        manager.transport = "ipc"
        # What Jupyter and IPython would write in the user's home.
        variables = dict(os.environ) | {"IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
        manager.start_kernel(cwd=folder, env=variables)
        running: Kernel | None = None
        try:
            running = Kernel(manager)
            yield running
        finally:
            if running is not None:
                running.client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
