"""What a query writes while it runs: a pipe, which the engine opens as if it were a file.

So a result of any format is on its way while the query runs, in bounded memory, and waits where its client is slow.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from typing import Final

from .errors import ClientGoneError

_PIECE: Final = 1 << 20
"""Bytes that are handed out at once, and that the pipe holds if the system lets it."""
_SET_PIPE_SIZE: Final = getattr(fcntl, "F_SETPIPE_SZ", 1031)
"""Linux; since Python 3.10 in the standard library."""


class Output:
    """Read it in the event loop; end it where the query runs."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        with suppress(OSError):  # a user may have only so many large pipes, and only Linux has them
            fcntl.fcntl(self._writing, _SET_PIPE_SIZE, _PIECE)
        self.path = f"/dev/fd/{self._writing}"
        self._ended = self._closed = False

    def write(self, data: bytes) -> None:
        """Write in place of the engine; waits while the client has enough to read. Blocks.

        Raises:
            ClientGoneError: nobody reads any more.
        """
        with memoryview(data) as view:
            position = 0
            try:
                while position < len(view):
                    position += os.write(self._writing, view[position:])
            except BrokenPipeError:
                raise ClientGoneError from None

    def end(self) -> None:
        """Nothing will be written any more; harmless when repeated."""
        if not self._ended:
            self._ended = True
            os.close(self._writing)

    def close(self) -> None:
        """Nothing will be read any more: what still writes fails. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            os.close(self._reading)

    async def next(self) -> bytes:
        """The next piece as soon as there is one, empty after the last."""
        while True:
            try:
                return os.read(self._reading, _PIECE)
            except BlockingIOError:
                await self._readable()

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._reading, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._reading)
