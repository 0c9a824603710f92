"""The isolation of all services of an environment: asked of all at once, each with errors that name its server."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from triton_env.core.interrupts import wait_unless_hurried
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.core.threads import in_thread
from triton_env.errors import IsolationFailed, ServiceDied, TritonError
from triton_env.isolation.claims import ClaimedSlots, Claims
from triton_env.isolation.ledger import SpaceLedger
from triton_env.isolation.services import isolation_of
from triton_env.isolation.target import IsolationTarget
from triton_env.services.base_claims import Board, NumberedBoard
from triton_env.services.base_isolation import ContentLost, Isolation

_Answer = TypeVar("_Answer")

_END_TIMEOUT = 10
"""Seconds to wait for what is under way in threads where the wait for it was interrupted."""
_LOOK_INTERVAL = 5
"""Seconds that a server takes before it is looked at whether it is held up."""


class ServiceParts:
    """The services' parts, connected on first use, and the notes on their servers."""

    def __init__(self, environment: IsolationTarget, ledger: SpaceLedger) -> None:
        self.environment = environment
        self.ledger = ledger
        self._lock = threading.Lock()
        self._isolations: dict[str, Isolation[Any]] = {}
        self.boards: dict[str, Board] = {}
        self.claims: Claims | None = None
        """Of this machine, where others may use the servers too. A session's own pay nothing for it."""
        if environment.lasting:
            timeout = environment.settings.triton_claim_timeout
            self.claims = Claims(ledger.machine(), timeout, ledger.staying, ledger.making)

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the environment's services that offer isolation."""
        return self.environment.isolated

    def isolations(self) -> list[Isolation[Any]]:
        """The services' parts."""
        return [self.isolation(name) for name in self.services]

    def each(
        self, names: Collection[str], action: Callable[[Isolation[Any]], _Answer], doing: str
    ) -> dict[str, _Answer]:
        """Do it with several services at once.

        Args:
            doing: what it does, for the error: "make a namespace".

        Returns:
            The answers by service.

        Raises:
            IsolationFailed: one of them failed; the others have ended as well.
            ServiceDied: one of them failed since its server has ended.
            Exception: a programming error of ours, as it is: no server is to blame for it.
        """
        ordered = list(names)
        futures = {name: in_thread(self._call, name, action, doing) for name in ordered[1:]}
        answers: dict[str, _Answer] = {}
        errors: list[BaseException] = []
        for name in ordered:
            try:
                answers[name] = futures[name].result() if name in futures else self._call(name, action, doing)
            except BaseException as error:
                errors.append(error)
        if errors:
            # What a Ctrl-C has ended the wait for goes on in its thread, and would make more once all was removed.
            wait_unless_hurried(lambda: all(future.done() for future in futures.values()), _END_TIMEOUT)
            # A Ctrl-C comes before what it caused, and what died or was wiped before what failed for it.
            causes = (ServiceDied, ContentLost, *PROGRAMMING_ERRORS)
            errors.sort(key=lambda error: (isinstance(error, Exception), not isinstance(error, causes)))
            raise errors[0]
        return {name: answers[name] for name in names}

    def close(self) -> None:
        """Close the connections."""
        if self.claims:
            self.claims.close()
        with self._lock:
            isolations = list(self._isolations.values())
        for isolation in isolations:
            isolation.close()

    def _call(self, name: str, action: Callable[[Isolation[Any]], _Answer], doing: str) -> _Answer:
        # What is known to hang is not waited for again: the removal of a space comes after its creation.
        self.environment.liveness.check((name,))
        try:
            isolation = self.isolation(name)
            with self._watched(name, isolation):
                return action(isolation)
        except (TritonError, *PROGRAMMING_ERRORS):
            raise
        except ContentLost as lost:
            raise ContentLost(f"{self.environment.service(name).title}: {lost}") from lost
        except Exception as error:
            if died := self.environment.liveness.died(name):
                raise died from error
            service = self.environment.service(name)
            raise IsolationFailed(
                f"{service.title} could not {doing}.",
                where=f"{service.host}:{service.port}",
                cause=str(error) or repr(error),
                hint="the server's log may say more: env.logs(" + repr(name) + ")",
            ) from error

    @contextmanager
    def _watched(self, name: str, isolation: Isolation[Any]) -> Iterator[None]:
        """Break off what takes long in a block where the server is held up: paused, it accepts and never answers."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_INTERVAL):
                if (died := self.environment.liveness.died(name)) and died.lives:
                    isolation.break_off()

        with suppress(RuntimeError):  # no thread is available: then clients wait as long as they do
            threading.Thread(target=watch, name="triton-watch", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def isolation(self, name: str) -> Isolation[Any]:
        isolation = self._isolations.get(name)
        if isolation is None:
            service = self.environment.service(name)
            with self._lock:
                if (isolation := self._isolations.get(name)) is None:
                    isolation = isolation_of(service)
                    isolation.is_lasting = self.environment.lasting
                    isolation.slots = self.ledger.slots(name)
                    if self.claims and (board := isolation.board()):
                        self.boards[name] = board
                        if isinstance(board, NumberedBoard):
                            isolation.slots = ClaimedSlots(self.ledger.slots(name), board)
                    self._isolations[name] = isolation
        return isolation

    def board_of(self, name: str) -> Board | None:
        """The notes on a server; None where it has none, or no other machine uses it."""
        self.isolation(name)
        return self.boards.get(name)

    def noted(self, services: Collection[str], act: Callable[[Board], _Answer], doing: str) -> dict[str, _Answer]:
        """Do something with the notes on the servers of those services that keep some."""
        able = [name for name in services if self.board_of(name)]
        return self.each(able, lambda isolation: act(cast(Board, self.attended(isolation.name))), doing)

    def attended(self, name: str) -> Board | None:
        """The notes on a server that knows that this machine lives. Without that, nothing of it may be there."""
        board = self.board_of(name)
        if self.claims and board:
            self.claims.attend(name, board)
        return board
