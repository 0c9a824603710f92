"""The forwarder of a project as others see it: started where it is missing, and asked."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from triton_env.core.codec import to_data
from triton_env.core.private import open_file
from triton_env.errors import StartFailed, TritonError
from triton_env.persistent.kubernetes.orders import ForwarderFolder, Noted, Order
from triton_env.runtimes.embedded.server import log_tail
from triton_env.runtimes.kubernetes.agent_client import Forwarding
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.settings import Settings
from triton_env.state import door, locks, store
from triton_env.state.folders import make_private

_START_TIMEOUT = 60
_ANSWER_TIMEOUT = 20
_END_TIMEOUT = 20
_INTERVAL = 0.05
_LOG_LINES = 20


class Forwarder:
    """The forwarder of one project in one namespace.

    Args:
        settings: where this user's state is kept.
        project: its name.
        cluster: where its pods are.
    """

    def __init__(self, settings: Settings, project: str, cluster: Cluster) -> None:
        self._folder = ForwarderFolder.of(settings, project, cluster)
        self._project = project
        self._cluster = cluster
        self._launching = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return locks.is_held(self._folder.lock)

    def noted(self) -> Noted | None:
        """What it notes; None where it does not run."""
        return store.found(self._folder.state, Noted) if self.is_alive else None

    def forward(self, orders: Sequence[Order]) -> None:
        """Forward these ports from now on, in the place of those that were forwarded for the same services.

        Raises:
            TritonError: no process can be had that does so.
        """
        # Services start in several threads.
        with self._launching:
            if not self.is_alive:
                self._launch()
        self._ask({"do": "forward", "orders": [to_data(order) for order in orders]})

    def states(self) -> Mapping[str, Forwarding]:
        """How the forwarding of each service stands."""
        return {name: Forwarding(**state) for name, state in self._ask({"do": "look"}).items()}

    def drop(self, names: Sequence[str]) -> None:
        """Stop forwarding the ports of these services. With the last one it ends."""
        if noted := self.noted():
            self._ask_to_end({"do": "drop", "names": list(names)}, is_last=not set(noted.services).difference(names))

    def end(self) -> None:
        """End it. Does nothing where it does not run."""
        if self.is_alive:
            self._ask_to_end({"do": "end"}, is_last=True)

    def _ask_to_end(self, request: dict[str, Any], *, is_last: bool) -> None:
        # It may be gone before it has answered.
        with suppress(TritonError) if is_last else nullcontext():
            self._ask(request)
        if not is_last:
            return
        deadline = time.monotonic() + _END_TIMEOUT
        while self.is_alive:
            if time.monotonic() > deadline:
                raise self._silent("it does not end")
            time.sleep(_INTERVAL)

    def _launch(self) -> None:
        make_private(self._folder.path.parent)
        make_private(self._folder.path)
        log = self._folder.log
        words = ("-P", "-m", f"{__package__}.forwarder", str(self._folder.path), self._project)
        try:
            with os.fdopen(open_file(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as output:
                started = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, *words, json.dumps(to_data(self._cluster))],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._cluster.environment,
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            raise StartFailed(
                "The process that forwards ports cannot be started.", where=sys.executable, cause=str(error)
            ) from error
        started.wait()
        deadline = time.monotonic() + _START_TIMEOUT
        while not (self.is_alive and self._folder.state.exists() and self._answers()):
            if time.monotonic() > deadline:
                raise self._silent(f"it has not started within {_START_TIMEOUT} s")
            time.sleep(_INTERVAL)

    def _answers(self) -> bool:
        try:
            door.ask(self._folder.control, {"do": "look"}, patience=_ANSWER_TIMEOUT)
        except (OSError, ValueError):
            return False
        return True

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return door.ask(self._folder.control, request, patience=_ANSWER_TIMEOUT)
        except (OSError, ValueError) as error:
            raise self._silent(str(error) or type(error).__name__) from error

    def _silent(self, cause: str) -> TritonError:
        return TritonError(
            f"The process that forwards the ports of the project {self._project} does not answer.",
            where=str(self._folder.path),
            cause=cause,
            log_tail=log_tail(self._folder.log, _LOG_LINES),
            hint=f"fuser -k {self._folder.lock} ends it; then python -m triton_env up",
        )
