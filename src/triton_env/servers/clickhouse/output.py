"""What a query writes while it runs, on its way from the thread that runs it to the event loop that sends it.

It is handed over in pieces, or the engine writes it to a pipe, which it opens as if it were a file. Either way a result
is in bounded memory, and waits where its client is slow.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections import deque
from contextlib import suppress
from typing import Final

from .errors import ClientGoneError

_PIECE: Final = 1 << 20
"""Bytes that are read from the pipe at once, and that it holds if the system lets it."""
_PENDING: Final = 4 << 20
"""Bytes that may wait to be sent before the query waits too."""
_SET_PIPE_SIZE: Final = getattr(fcntl, "F_SETPIPE_SZ", 1031)
"""Linux; since Python 3.10 in the standard library."""


class Output:
    """Write it in the thread where the query runs, and read it in the event loop that made it."""

    def __init__(self) -> None:
        self._loop, self._arrived = asyncio.get_running_loop(), asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._pending = 0
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._reading = self._writing = -1

    def begin(self) -> None:
        """The columns of the result are known."""

    def write(self, data: bytes) -> None:
        """Hand over a piece; waits while the client has enough to read. Blocks.

        Raises:
            ClientGoneError: the client has gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._pending < _PENDING)
            if self._closed:
                raise ClientGoneError
            self._pieces.append(data)
            self._pending += len(data)
        self._wake()

    def open_file(self) -> str:
        """The path of a file for the engine to write to, instead of pieces."""
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        with suppress(OSError):  # a user may have only so many large pipes, and only Linux has them
            fcntl.fcntl(self._writing, _SET_PIPE_SIZE, _PIECE)
        self._wake()
        return f"/dev/fd/{self._writing}"

    @property
    def is_file(self) -> bool:
        """Whether the engine writes to a file, in which the end of a piece means nothing."""
        return self._reading >= 0

    def end(self) -> None:
        """Nothing will be written any more; harmless when repeated."""
        if not self._ended:
            self._ended = True
            if self._writing >= 0:
                os.close(self._writing)
            self._wake()

    def close(self) -> None:
        """Nothing will be read any more: what still writes fails."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._reading >= 0:
            os.close(self._reading)

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def next(self) -> bytes:
        """The next piece as soon as there is one, empty after the last."""
        while self._reading < 0:
            self._arrived.clear()
            with self._changed:
                if self._pieces:
                    piece = self._pieces.popleft()
                    self._pending -= len(piece)
                    self._changed.notify_all()
                    return piece
            if self._ended:
                return b""
            await self._arrived.wait()
        return await self._next_of_file()

    async def _next_of_file(self) -> bytes:
        while True:
            try:
                return os.read(self._reading, _PIECE)
            except BlockingIOError:
                self._arrived.clear()
                self._loop.add_reader(self._reading, self._arrived.set)
                try:
                    await self._arrived.wait()
                finally:
                    self._loop.remove_reader(self._reading)
