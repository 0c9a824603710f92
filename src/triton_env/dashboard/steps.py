"""What comes piece by piece from a thread, such as the chunks of a file."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from triton_env.core.threads import in_thread
from triton_env.dashboard.futures import awaited

_Piece = TypeVar("_Piece")

_FIRST_TIMEOUT = 1.0
"""Seconds after which a source that has neither begun nor failed counts as begun: it may wait for what happens."""


class Steps(AsyncIterator[_Piece]):
    """The pieces of an iterator, each taken in a thread when it is wanted.

    Args:
        source: has `close` where it holds something.
        cancelled: is set at the end, so that a step which waits comes back.
    """

    def __init__(self, source: Iterator[_Piece], cancelled: threading.Event | None = None) -> None:
        self._source = source
        self._cancelled = cancelled or threading.Event()
        self._end: Any = object()
        self._step: Future[Any] = in_thread(next, source, self._end)

    async def begin(self) -> None:
        """Wait a moment for the first piece.

        Raises:
            TritonError: there will be none.
        """
        step = awaited(self._step)
        if (await asyncio.wait({step}, timeout=_FIRST_TIMEOUT))[0]:
            step.result()

    async def __anext__(self) -> _Piece:
        piece = await awaited(self._step)
        if piece is self._end or self._cancelled.is_set():
            raise StopAsyncIteration
        self._step = in_thread(next, self._source, self._end)
        found: _Piece = piece
        return found

    def close(self) -> None:
        """Take no more. What is under way may hang, so that this does not wait for it. May be called again."""
        if self._cancelled.is_set():
            return
        self._cancelled.set()
        close = getattr(self._source, "close", None)
        if close is not None:
            self._step.add_done_callback(lambda step: in_thread(close))
