"""Whether the servers of an environment live: looked at where something failed, and where a namespace is handed out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from triton_env.core.ending import Ending
from triton_env.core.model import ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.errors import ServiceDied
from triton_env.runtimes.base import Runtime

_LOG_LINES = 40
"""How much of a server's log the error gets; it shows what fits a screen."""


class Liveness:
    """What is known of the ends of an environment's servers."""

    def __init__(self, runtime: Future[Runtime], recipes: Mapping[str, ServiceRecipe]) -> None:
        self._runtime = runtime
        self._recipes = recipes
        self._opened: Runtime | None = None
        self._suspects: dict[str, Ending] = {}
        self._restarting: set[str] = set()
        self._restarts: dict[str, int] = {}
        """How many have begun, by service."""

    def died(self, service: str) -> ServiceDied | None:
        """Look whether a server has ended, or is held up, since something failed; None while it is well.

        This may ask an engine. Of an engine that does not answer within seconds nothing is known.
        """
        ending = self.ending(service)
        if ending is None:
            # Started again, or no longer held up.
            self._suspects.pop(service, None)
            return None
        self._suspects[service] = ending
        recipe = self._recipes[service]
        error = ServiceDied(
            ending.sentence(recipe.title),
            where=ending.where,
            cause=redacted(ending.words, recipe.secrets),
            log_tail=self._runtime.result().logs(service, _LOG_LINES),
            hint=ending.hint,
        )
        error.service, error.status, error.at = service, ending.status, ending.at
        error.lives = bool(ending.held_up)
        return error

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        """How a server has ended; see `Runtime.ending`. One that is being restarted has not."""
        before = self._restarts.get(service)
        if service in self._restarting:
            return None
        ending = self._runtime.result().ending(service, look=look)
        # An engine takes a moment to answer, in which a restart may have begun.
        return ending if self._restarts.get(service) == before else None

    def is_restarting(self, service: str) -> bool:
        """Whether it is being restarted, so that it need not answer."""
        return service in self._restarting

    @contextmanager
    def restarting(self, service: str) -> Iterator[None]:
        """In the block it is restarted: it does not answer, and did not die."""
        self._restarting.add(service)
        self._restarts[service] = self._restarts.get(service, 0) + 1
        self._suspects.pop(service, None)
        try:
            yield
        finally:
            self._restarting.discard(service)

    def last_line(self, service: str) -> str:
        """What a log lacks of a server that has ended: how. Empty while it lives."""
        ending = self.ending(service)
        title = self._recipes[service].title
        return f"triton-env: {ending.sentence(title).removesuffix('.')}: {ending.words}\n" if ending else ""

    def known(self, service: str) -> bool:
        """Whether it is known to have ended, or to be held up. Costs a microsecond, and asks no server."""
        return service in self._suspects or self._is_known(service)

    def summary(self, services: Sequence[str]) -> str:
        """What is known of these: "one, another died; a third is paused". Empty where all are well; asks no server."""
        known: dict[str, list[str]] = {}
        for name in filter(self.known, services):
            suspect = self._suspects.get(name)
            known.setdefault((suspect and suspect.held_up) or "died", []).append(name)
        return "; ".join(f"{', '.join(names)} {word}" for word, names in known.items())

    def check(self, services: Collection[str]) -> None:
        """See that none of these servers is known to have ended.

        Raises:
            ServiceDied: one has.
        """
        for service in services:
            if self.known(service) and (error := self.died(service)):
                raise error

    def _is_known(self, service: str) -> bool:
        if service in self._restarting:
            return False
        if self._opened is None:
            runtime = self._runtime
            if not runtime.done() or runtime.cancelled() or runtime.exception():
                return False
            # Kept, since it takes longer to ask a future than a runtime.
            self._opened = runtime.result()
        return self._opened.ending(service, look=False) is not None
