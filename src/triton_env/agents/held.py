"""The environments that an agent has started: they end when it says so, or with this process."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from triton_env.environment import TritonEnvironment
from triton_env.errors import UsageError
from triton_env.services import SERVICES
from triton_env.settings import Settings
from triton_env.settings.project_folders import project_root
from triton_env.sharing.offering import offered

_MOST = 4
"""How many there may be at a time: each has servers that take memory."""


class HeldEnvironments:
    """Environments of this process, on the list for others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stacks: dict[str, ExitStack] = {}
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
            if len(self._stacks) + self._starting >= _MOST:
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
            stack = self._stacks.pop(environment, None)
        if stack is None:
            return False
        stack.close()
        return True

    def close(self) -> None:
        """End all of them, and have no other start."""
        with self._lock:
            self._is_closed = True
            stacks, self._stacks = list(self._stacks.values()), {}
        with ExitStack() as steps:  # each of them is done, whatever becomes of the others
            for stack in stacks:
                steps.enter_context(stack)

    def _started(self, settings: Settings, services: Sequence[str] | None, runtime: str | None) -> str:
        quiet = settings.updated(triton_progress="off")
        with ExitStack() as stack:
            names = tuple(SERVICES) if services is None else services
            environment = stack.enter_context(TritonEnvironment(quiet, services=names, runtime=runtime, isolated=True))
            project, asked = str(project_root(Path.cwd())), runtime or settings.triton_runtime
            record = stack.enter_context(offered(environment, held_by="mcp", project=project, asked_runtime=asked))
            with self._lock:
                if self._is_closed:
                    raise UsageError("This server is ending.")
                self._stacks[record.id] = stack.pop_all()
            return record.id
