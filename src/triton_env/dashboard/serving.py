"""The dashboard's server: uvicorn on a socket of 127.0.0.1, in a thread of its own."""

import asyncio
import logging
import socket
import threading
from typing import Self

import uvicorn

from triton_env.core.printable import printable
from triton_env.dashboard.application import Dashboard
from triton_env.dashboard.guard import Guard, Key, new_token
from triton_env.dashboard.looking import TIMEOUT
from triton_env.errors import PortTaken, TritonError
from triton_env.settings import Settings

_HOST = "127.0.0.1"
_GRACE = 3
"""Seconds for requests that are being answered, at the end."""
_END_TIMEOUT = _GRACE + 2
"""Seconds for the end. What hangs is left to daemon threads."""
_LOG = logging.getLogger("uvicorn.error")


class Serving:
    """A dashboard that runs, from `with` to the end of its block.

    Args:
        settings: where state is kept, and with which environments are looked at.
        port: to listen on; 0 for a free one.
        token: that opens it; empty for a new one.
        timeout: seconds that a server has for one question.

    Raises:
        PortTaken: that port is in use.
    """

    def __init__(self, settings: Settings, port: int = 0, token: str = "", timeout: float = TIMEOUT) -> None:
        self._socket = _listening(port)
        self.key = Key(self._socket.getsockname()[1], token or new_token())
        self.dashboard = Dashboard(settings, self.key, timeout)
        self._is_ending = False
        config = uvicorn.Config(
            Guard(self.dashboard.app, self.key),
            access_log=False,
            date_header=False,
            # It refuses headers of more than 64 KiB. httptools keeps all that come, also where the token is missing.
            http="h11",
            lifespan="on",
            log_config=None,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="triton-dashboard", daemon=True)

    @property
    def url(self) -> str:
        """Where the page is, with the token."""
        return self.key.url

    @property
    def is_running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        _LOG.addFilter(self._filtered)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending = True
        self._server.should_exit = True
        self.dashboard.end()
        self._thread.join(_END_TIMEOUT)
        self._socket.close()
        _LOG.removeFilter(self._filtered)

    def _filtered(self, record: logging.LogRecord) -> bool:
        """Whether the terminal is to show it: neither that what goes on at the end is given up, nor escapes of
        servers in a traceback where a download broke off."""
        error = record.exc_info[1] if record.exc_info else None
        if self._is_ending and isinstance(error, asyncio.CancelledError | None):
            return False
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, TritonError):
            record.msg, record.args, record.exc_info = printable(f"An answer broke off: {cause}"), (), None
        return True

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def _listening(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((_HOST, port))
    except OSError as error:
        made.close()
        raise PortTaken(
            f"The dashboard cannot listen on port {port}.",
            where=f"{_HOST}:{port}",
            cause=str(error),
            hint="python -m triton_env dashboard, which takes a free port",
        ) from error
    # Connections that come before the server takes them wait.
    made.listen()
    return made
