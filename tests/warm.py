"""One environment of this process for each runtime, which modules have one after the other."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from patience import TO_BOOT, until
from projects import project, project_without_docker, settings_of
from triton_env import TritonEnvironment
from triton_env.core import interrupts
from triton_env.persistent.choice import open_stack
from triton_env.services import SERVICES

PERSISTENT = {"persistent": project, "persistent without docker": project_without_docker}
"""How a persistent project of its own is made, by the name of what it is asked for by."""


class Warm:
    """Environments with all services, for modules that kill no server.

    A start that fails is not tried again by the next module.

    Args:
        choice: the caller's, of images.
        state: makes a folder for what processes keep about namespaces.
    """

    def __init__(self, choice: Mapping[str, str], state: Callable[[str], Path]) -> None:
        self._choice = choice
        self._state = state
        self._running: dict[str, tuple[TritonEnvironment, ExitStack]] = {}
        self._failed: dict[str, Exception] = {}

    def emptied(self, runtime: str) -> TritonEnvironment:
        """Give the environment on a runtime with nothing in it: a reset takes back what the module before has left.

        Args:
            runtime: its name; one of `PERSISTENT` means a persistent project of its own, which no reset takes back.
        """
        is_used = runtime in self._running
        environment = self._started(runtime)
        # Persistent services hold data that no reset takes.
        if is_used and runtime not in PERSISTENT:
            environment.reset()
            _wait_for_removals(environment)
        return environment

    def stop(self) -> None:
        """Stop them all."""
        while self._running:
            self._running.popitem()[1][1].close()

    def _started(self, runtime: str) -> TritonEnvironment:
        """Give the environment on a runtime as it is."""
        if runtime in self._failed:
            raise self._failed[runtime]
        if runtime in self._running and self._running[runtime][0].deaths():
            self._running.pop(runtime)[1].close()
        if runtime not in self._running:
            with ExitStack() as stack:
                try:
                    environment = self._start(runtime, stack)
                except Exception as error:
                    self._failed[runtime] = error
                    raise
                self._running[runtime] = environment, stack.pop_all()
        return self._running[runtime][0]

    def _start(self, runtime: str, stack: ExitStack) -> TritonEnvironment:
        settings = settings_of(self._choice)
        options: dict[str, Any] = {"runtime": runtime}
        if runtime in PERSISTENT:
            # Credentials of its own, since some tests look for them where they should not be.
            values = {name: value for each in SERVICES.values() for name, value in each.fresh_credentials().items()}
            settings = stack.enter_context(PERSISTENT[runtime](**values, triton_namespaces="everywhere"))
            with open_stack(settings) as services:
                options = {"persistent": True, "services": services.offered()}
        else:
            # Tests may look at all that the servers have, so none of it is made in advance.
            settings = settings.updated(triton_state_dir=str(self._state("state")), triton_pool_size=0, **TO_BOOT)
        environment = stack.enter_context(TritonEnvironment(settings, **options))
        # Tests look for what runs in this process, and end it by signals.
        interrupts.forget(environment)
        return environment


def _wait_for_removals(environment: TritonEnvironment) -> None:
    """Wait until the background has removed the namespaces that were closed."""
    pool = environment._isolation()._open().pool
    assert until(lambda: not pool._unused())
    with pool.paused():
        pass  # the last one is gone too
