"""The reaper of one environment on Docker: waits for the end of its owner, to have removed what that has left.

Run as a script in a process of its own, with the standard library alone, so that it is there within some 20 ms and
needs no image:

    python -I -S reaper.py SOCKET_FD OWNER_PID COMMAND...

The owner sends `done` through the socket once everything is removed, and the reaper ends. It ends no other way while
the owner lives: a program that closes all it has also closes the socket without that word, and is not dead. Whether
the owner lives follows from who the parent is. So a fork of the owner that keeps the socket open does no harm either.

Once the owner is gone, or has sent `left` since it could not remove everything, COMMAND takes the reaper's place, which
removes things: what that needs to load would be held in memory by every environment. The owner's process id is its
last argument.
"""

import os
import signal
import socket
import sys
import time

DONE = b"done"
LEFT = b"left"
OWNER_INTERVAL = 0.5
"""Seconds between two looks at who the parent is."""

_FIRST_INTERVAL = 0.01
"""The socket of a process that was killed is closed a moment before its children get another parent."""


def something_is_left(connection: socket.socket, owner: int) -> bool:
    """Wait until the owner is gone, has given up or has nothing left to remove; returns whether something is left."""
    received = b""
    open_ended = False
    pause = _FIRST_INTERVAL
    connection.settimeout(OWNER_INTERVAL)
    while os.getppid() == owner:
        if open_ended:
            time.sleep(pause)
            pause = min(pause * 2, OWNER_INTERVAL)
            continue
        try:
            data = connection.recv(64)
        except TimeoutError:
            continue
        except OSError:
            data = b""
        received += data
        if DONE in received:
            return False
        if LEFT in received:
            return True
        open_ended = not data
    return True


def main() -> None:
    """Wait for the owner's end."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    # The owner alone decides: what signals all processes (a terminal, a shutdown) signals the owner too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    owner = sys.argv[2]
    if something_is_left(connection, int(owner)):
        os.execv(sys.argv[3], [*sys.argv[3:], owner])  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main()
