"""The environments that an agent has started: they end when it says so, or with this process."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from triton_env.environment import TritonEnvironment
from triton_env.errors import TritonError, UsageError
from triton_env.services import SERVICES
from triton_env.settings import Settings
from triton_env.settings.project_folders import project_root
from triton_env.sharing.offering import offered

_MOST = 4
"""How many there may be at a time: each has servers that take memory."""


class _Held(NamedTuple):
    """An environment that was started here.

    Attributes:
        stack: ends it.
        turn: to do so.
    """

    stack: ExitStack
    turn: threading.Lock


class HeldEnvironments:
    """Environments of this process, on the list for others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._starting = 0
        self._is_closed = False

    def start(self, settings: Settings, services: Sequence[str] | None, runtime: str | None) -> str:
        """Start one; returns its id.

        Raises:
            UsageError: there are as many as there may be, or this process is ending.
            TritonError: it does not start.
        """
        with self._lock:
            if self._is_closed:
                raise UsageError("This server is ending.")
            if len(self._held) + self._starting >= _MOST:
                raise UsageError(f"{_MOST} environments were started here already.", hint="stop one of them")
            self._starting += 1
        try:
            return self._started(settings, services, runtime)
        finally:
            with self._lock:
                self._starting -= 1

    def stop(self, environment: str) -> bool:
        """End one that was started here; whether it was.

        Raises:
            CleanupFailed: something of it may be left.
        """
        with self._lock:
            held = self._held.get(environment)
        if held is None:
            return False
        # A second order waits until the first is carried out. It is held here as long as others see it.
        with held.turn:
            try:
                held.stack.close()
            finally:
                with self._lock:
                    self._held.pop(environment, None)
        return True

    def close(self) -> None:
        """End all of them, and have no other start."""
        with self._lock:
            self._is_closed = True
            held = list(self._held)
        with ExitStack() as steps:  # each of them is done, whatever becomes of the others
            for environment in held:
                steps.callback(self.stop, environment)

    def _started(self, settings: Settings, services: Sequence[str] | None, runtime: str | None) -> str:
        quiet = settings.updated(triton_progress="off")
        with ExitStack() as stack:
            names = tuple(SERVICES) if services is None else services
            environment = stack.enter_context(TritonEnvironment(quiet, services=names, runtime=runtime, isolated=True))
            listed: list[str] = []
            environment._running().on_stop = lambda: self._stop_for_others(listed)
            project, asked = str(project_root(Path.cwd())), runtime or settings.triton_runtime
            record = stack.enter_context(offered(environment, held_by="mcp", project=project, asked_runtime=asked))
            with self._lock:
                if self._is_closed:
                    raise UsageError("This server is ending.")
                self._held[record.id] = _Held(stack.pop_all(), threading.Lock())
            listed.append(record.id)
            return record.id

    def _stop_for_others(self, listed: list[str]) -> None:
        """End an environment by the order of another process.

        Args:
            listed: its id, once it is up.
        """
        if not listed or not self.stop(listed[0]):
            raise TritonError("The environment is being started, or ended.", hint="try again")
