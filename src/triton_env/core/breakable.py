"""HTTP connections that another thread can break off."""

import socket
import weakref
from collections.abc import Callable
from contextlib import suppress

import urllib3


def breakable(pool: urllib3.HTTPConnectionPool) -> Callable[[], None]:
    """Have a pool know its connections, those included that wait for an answer.

    Args:
        pool: which has made none yet.

    Returns:
        What breaks them off.
    """
    made: weakref.WeakSet[urllib3.connection.HTTPConnection] = weakref.WeakSet()

    class Connection(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            made.add(self)

    def break_off() -> None:
        for connection in tuple(made):
            if stream := connection.sock:
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)

    pool.ConnectionCls = Connection
    return break_off
