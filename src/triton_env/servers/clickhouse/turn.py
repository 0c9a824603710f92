"""One request's turn on a connection: from taking it to giving it back."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .errors import ServerError
from .sessions import Lease
from .workers import Workers

T = TypeVar("T")

_CANCEL_INTERVAL = 0.1


class Turn:
    """Runs the pieces of a request, and cancels it when its client goes away."""

    def __init__(self, workers: Workers, lease: Lease, release: Callable[[], None]) -> None:
        """`release` is called once, when the connection may be used by others."""
        self._workers, self.lease, self._release = workers, lease, release
        self._watcher: asyncio.Task[None] | None = None
        self._cancelling: asyncio.Future[None] | None = None
        self._finished = False
        self.gone = False

    async def run(self, call: Callable[[], T]) -> T:
        """Run a piece of the request in a thread; one at a time."""
        return await self._workers.run(functools.partial(self._locked, call))

    async def finish_with(self, call: Callable[[], T]) -> T:
        """Run a piece to its end even if this request is cancelled in between."""
        return await self._workers.finish(functools.partial(self._locked, call))

    def _locked(self, call: Callable[[], T]) -> T:
        with self.lease.lock:
            return call()

    def watch(self, leaving: Coroutine[Any, Any, None]) -> None:
        """From now on, cancel the query when `leaving` ends, since its client does not want the answer any more."""
        self._watcher = asyncio.create_task(self._watch(leaving))

    async def _watch(self, leaving: Coroutine[Any, Any, None]) -> None:
        await leaving
        self.gone = True
        # The engine may not know the query yet when it is asked first.
        while True:
            self._cancelling = asyncio.ensure_future(self._workers.control(self.lease.cancel))
            with contextlib.suppress(ServerError):
                await asyncio.shield(self._cancelling)
            await asyncio.sleep(_CANCEL_INTERVAL)

    async def finish(self) -> None:
        """Give the connection back; harmless when repeated.

        To be called before the last of the response is sent: a client may send its next request for the
        same session as soon as it has that.
        """
        if self._finished:
            return
        self._finished = True
        if self._watcher is not None:
            self._watcher.cancel()
            # Until it has ended, it waits for the same connection as the next request.
            await asyncio.wait([self._watcher])
        if self._cancelling is not None:
            # Never leave one behind: the next query of the session would be its victim.
            with contextlib.suppress(ServerError):
                await asyncio.shield(self._cancelling)
        try:
            if not self.lease.closed:
                await self._workers.finish(self.lease.close)
        finally:
            self._release()
