"""What the runtimes of persistent services have in common: what runs is attached to, the rest is started."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Generic, TypeVar

from triton_env.core.model import Probe, ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.errors import CleanupFailed, TritonError
from triton_env.persistent.stack import Stack
from triton_env.runtimes.access import Access
from triton_env.runtimes.base import Runtime
from triton_env.runtimes.start_tracker import StartTracker

OTHER_PROJECT = "run under another project name, which has ports of its own: --project NAME"
_IN_FLIGHT_TIMEOUT = 120
"""Seconds that `stop` waits for starts that it has cancelled."""
_Stack = TypeVar("_Stack", bound=Stack)


class LastingRuntime(Runtime, ABC, Generic[_Stack]):
    """Attaches to the project's services that run, and starts the others.

    Args:
        stack: the services of the project; `stop` closes it.
        recipes: the services that will be started.
        apply: whether running services that differ from the settings are replaced; else they are left as they are.
    """

    name: ClassVar[str]

    def __init__(self, stack: _Stack, recipes: Sequence[ServiceRecipe], *, apply: bool) -> None:
        self.reason = stack.reason
        self._stack = stack
        self._apply = apply
        self._leases = stack.leases
        self._recipes = {recipe.name: recipe for recipe in recipes}
        self._began: tuple[str, ...] = ()
        """What was started here and had not run before."""
        self._keep = False
        self._starts = StartTracker()

    @contextmanager
    def _first_look(self) -> Iterator[None]:
        """Use the services, from before the block looks at them: the last user of what runs stops it no more."""
        try:
            with self._leases.turn():
                self._leases.take()
                yield
        except BaseException:
            self._leases.release()
            raise

    @abstractmethod
    def access(self, service: str) -> Access: ...

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        self._stack.restart((recipe.name,), lambda name, seconds: None)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return redacted(self.access(service).logs(lines, since), self._starts.secrets)

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    @abstractmethod
    def note(self, service: str, version: str) -> None:
        """Note beside a service's data what it is made with, once a client got in with the settings.

        Args:
            service: the service's name.
            version: what the server said of its version.
        """

    def keep(self) -> None:
        """Have `stop` leave running what was started."""
        self._keep = True

    def stop(self) -> None:
        self._starts.cancel()
        try:
            self._end()
        except TritonError as error:
            raise self._not_stopped(error.where, error.cause or error.what) from error
        finally:
            self._leases.release()
            self._stack.close()

    def _end(self) -> None:
        self._starts.wait(_IN_FLIGHT_TIMEOUT)
        if self._began and not self._keep:
            with self._leases.turn():
                # Others may have attached, and go on using them.
                if not self._leases.others():
                    self._stop_began()
        self._began = ()

    @abstractmethod
    def _stop_began(self) -> None:
        """Stop what was started here, in the turn of this process."""

    def _not_stopped(self, where: str, cause: str) -> CleanupFailed:
        return CleanupFailed(
            f"Services of the project {self._stack.project} may still run.",
            where=where,
            cause=cause,
            hint="python -m triton_env down",
        )


class Once:
    """Does something at the first call; later ones wait for it, and fail as it did."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._is_done = False
        self._error: BaseException | None = None

    def __call__(self) -> None:
        with self._lock:
            if self._error is None and not self._is_done:
                try:
                    self._action()
                except BaseException as error:
                    self._error = error
                self._is_done = True
            if self._error is not None:
                raise self._error
