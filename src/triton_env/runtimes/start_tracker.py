"""The starts that are under way in a runtime: cancelled together, and waited for by its stop."""

import copy
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from triton_env.core.model import ServiceRecipe
from triton_env.errors import StartCancelled


class StartTracker:
    """Counts starts in several threads.

    Attributes:
        cancelled: set once they are cancelled.
        secrets: what may not appear in logs, of all services that were started.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.secrets: frozenset[str] = frozenset()
        self._idle = threading.Condition()
        self._under_way = 0

    @contextmanager
    def track(self, recipe: ServiceRecipe) -> Iterator[None]:
        """Count the block as one start.

        Raises:
            StartCancelled: starts were cancelled before.
        """
        with self._idle:
            if self.cancelled.is_set():
                raise StartCancelled("The start was cancelled.")
            self._under_way += 1
            # Here, since services start in several threads: an update may not be lost.
            self.secrets |= recipe.secrets
        try:
            yield
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()

    def cancel(self) -> bool:
        """End starts early, and let no other begin; whether one was under way."""
        self.cancelled.set()
        with self._idle:
            return self._under_way > 0

    def wait(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until none is under way."""
        with self._idle:
            self._idle.wait_for(lambda: self._under_way == 0, timeout=timeout)


def check_usable(recipes: Iterable[ServiceRecipe]) -> None:
    """Raise why one of these services cannot be run as a container, where that is known without an engine."""
    for recipe in recipes:
        if recipe.container.unusable is not None:
            # A new one: the same recipe may be refused again, and each time with its own traceback.
            raise copy.copy(recipe.container.unusable)
