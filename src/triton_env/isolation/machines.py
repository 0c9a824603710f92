"""What is left on servers that machines share, as a process sees it that makes nothing there."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from triton_env.core.printable import in_one_line
from triton_env.errors import TritonError
from triton_env.isolation import state
from triton_env.isolation.ledger import SpaceLedger, known_ids, spaces_folder
from triton_env.isolation.spaces import SpaceManager
from triton_env.isolation.target import IsolationTarget
from triton_env.liveness import Liveness
from triton_env.runtimes.base import Runtime
from triton_env.runtimes.external import ExternalRuntime
from triton_env.services import Service
from triton_env.services.base_isolation import owner_of
from triton_env.settings import Settings


class Servers:
    """Servers that hold data, on which machines make namespaces. To be closed.

    Args:
        settings: those in force there.
        environment: the id of the environment that they are.
        services: that run, by name.

    Raises:
        InvalidSetting: the state folder cannot be used.
    """

    def __init__(self, settings: Settings, environment: str, services: Mapping[str, Service]) -> None:
        runtime: Future[Runtime] = Future()
        runtime.set_result(ExternalRuntime(settings))  # how a server ended is not asked
        self.environment = environment
        self.problem = ""
        """Why they cannot be looked at; empty where they were, or not yet."""
        target = IsolationTarget(
            environment,
            settings,
            tuple(services),
            services.__getitem__,
            lasting=True,
            outlives=True,
            is_shared=lambda: True,
            liveness=Liveness(runtime, {}),
        )
        # A look leaves nothing: a machine that was not known here before has made nothing on these servers.
        self._is_new = not (spaces_folder(settings) / environment).exists()
        self._ledger = SpaceLedger(settings, environment, lasting=True)
        self._spaces = SpaceManager(target, self._ledger)
        self._left: dict[str, tuple[str, ...]] = {}

    def expired(self) -> Mapping[str, tuple[str, ...]]:
        """What no machine claims any longer: the ids of spaces with their services. Removes nothing."""
        found: Mapping[str, tuple[str, ...]] = {}

        def look() -> None:
            nonlocal found
            found = self._spaces.expired()

        self.problem = _problem_of(look)
        self._left = dict(found)
        return found

    def remove(self, identifier: str) -> str:
        """Remove one of these; why that failed, which is empty where it did not.

        It stays where its machine writes that it lives. One that looks dead gets the time for that, once for all that
        it has, unless another process has begun to wait for it before.
        """

        def remove() -> None:
            self._spaces.remove_expired(identifier, self._left.pop(identifier, ()))
            # The note of a machine goes after the last space that it had.
            if all(owner_of(other) != owner_of(identifier) for other in self._left):
                self._spaces.tidy()

        return _problem_of(remove)

    def remove_own(self, left: state.LeftOver, *, kept: bool) -> str:
        """Remove what a dead process of this machine had, or kept; why that failed."""
        state.remove(left, kept=kept)
        return _problem_of(lambda: self._spaces.sweep_own(left.space if left.is_kept and kept else ""))

    def close(self) -> None:
        """Close the connections."""
        self._spaces.close()
        # Another process of this machine may have made something since.
        self._ledger.close(remove=self._is_new and not known_ids(self._ledger.path))


def _problem_of(action: Callable[[], None]) -> str:
    try:
        action()
    except TritonError as error:
        return in_one_line(error)
    return ""
