"""Connections that stay with the process that made them: a forked child has copies, which outlive its parent."""

import os
import weakref
from contextlib import suppress
from typing import Protocol


class Connected(Protocol):
    """What has a socket."""

    def fileno(self) -> int:
        """The descriptor of the socket."""


_connections: "weakref.WeakSet[Connected]" = weakref.WeakSet()


def not_in_children(connection: Connected) -> None:
    """Have forked children let go of a connection at once: it ends with its process, and what the server holds for it.

    Args:
        connection: that no child is to use.
    """
    _connections.add(connection)


def _let_go() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for connection in tuple(_connections):
            # Something else in its place, so that the number is not used again. Nothing is said to the server.
            with suppress(Exception):
                os.dup2(nothing, connection.fileno(), inheritable=False)
    finally:
        os.close(nothing)
        _connections.clear()


os.register_at_fork(after_in_child=_let_go)
