"""The port of the native protocol."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ..shared import Shared

if TYPE_CHECKING:
    from .connection import Connection

log = logging.getLogger("clickhouse")

_MOST_CONNECTIONS: Final = 1024  # as in ClickHouse 23, `max_connections`
_BACKLOG: Final = 1024
_READ_AHEAD: Final = 1 << 20
_LAST_WORDS: Final = 10.0
"""Seconds for a client to take what was sent to it before its connection ended."""
# Room for a few blocks of a result, so that the engine and the network work side by side.
_WRITE_BUFFER: Final = 4 << 20


class Listener:
    """Accepts connections and knows those that are open. For the event loop only."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._open: dict[asyncio.Task[None], Connection] = {}
        shared.of_native = self._open
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, where the configuration names a port.

        Raises:
            OSError: the port cannot be had.
        """
        config = self._shared.config
        if config.native_port is not None:
            self._server = await asyncio.start_server(
                self._accept, config.host, config.native_port, limit=_READ_AHEAD, backlog=_BACKLOG
            )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        # Where no client comes, nothing of this is loaded.
        from .connection import Connection

        writer.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        try:
            if len(self._open) < _MOST_CONNECTIONS:
                self._open[task] = Connection(self._shared, reader, writer)
                await self._open[task].serve()
            else:
                log.warning("native protocol: more than %d connections", _MOST_CONNECTIONS)
        except asyncio.CancelledError:
            log.info("native protocol: a query was not begun, since the server ends")
        finally:
            try:
                await end(writer, _LAST_WORDS)
            finally:
                self._open.pop(task, None)

    async def stop(self) -> None:
        """Accept no more, and give what runs the grace of the configuration to end."""
        if self._server is not None:
            self._server.close()
        for connection in self._open.values():
            connection.leave_when_idle()
        if self._open:
            await asyncio.wait(self._open, timeout=self._shared.config.shutdown_grace)

    async def close(self) -> None:
        """End all connections; their queries must have been stopped."""
        for connection in self._open.values():
            connection.leave()
        if self._open:
            await asyncio.wait(self._open)


async def end(writer: asyncio.StreamWriter, patience: float) -> None:
    """Close a connection; what its client has not taken after `patience` seconds is thrown away."""
    writer.close()
    try:
        async with asyncio.timeout(patience):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass
