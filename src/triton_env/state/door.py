"""Unix sockets at which processes take orders from others of the same user: one line of JSON, and one as the answer.

The folder of such a socket is its user's alone. Both sides see besides that the other one is the same user's process.
"""

import json
import os
import socket
import stat
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from triton_env.core.threads import in_thread

Order = dict[str, Any]

_TAKEN = {"taken": True}
"""The first line of an answer that takes a while: the order has arrived, and is being carried out."""
_LONGEST_PATH = 100
"""Bytes of a socket's path that every system takes."""
_WAITING = 64
"""How many connections wait at most until they are accepted."""
_ORDER_TIMEOUT = 10
"""Seconds in which an order has to come once its connection is there."""
_LOOK_INTERVAL = 0.5
"""Seconds between two looks at who is to answer."""
_PAUSE = 0.05
"""Seconds between two tries to get in where too many others wait."""
_LONGEST_LINE = 1 << 20

_doors: "weakref.WeakSet[Door]" = weakref.WeakSet()


class Door:
    """Takes orders in threads of its own, until `close` or the end of this process. A forked child takes none.

    Args:
        path: of the socket, in a folder that is its user's alone.
        obey: carries out an order, and returns the answer; called for several orders at once.

    Raises:
        OSError: there cannot be such a socket.
        RuntimeError: no thread can be started.
    """

    def __init__(self, path: Path, obey: Callable[[Order], Order]) -> None:
        self._obey = obey
        self._is_closed = False
        self._socket = listening(path)
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), name="triton-door", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._socket.close()
            raise
        _doors.add(self)

    def close(self) -> None:
        """Take no more orders. Those that are being carried out are answered. Does nothing in a forked child."""
        self._is_closed = True
        # Closing alone would leave the thread where it waits.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_LOOK_INTERVAL)

    def forget(self) -> None:
        """Let go of it in a forked child, which has no such thread: its parent may end before."""
        self._socket.close()

    def _serve(self, door: socket.socket) -> None:
        with door:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    if self._is_closed:
                        return
                    # Such as too many open files.
                    time.sleep(_LOOK_INTERVAL)
                    continue
                in_thread(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):  # who asked has gone, or asks for nothing that there is
            order = read_order(connection)
            send(connection, _TAKEN)
            send(connection, self._obey(order))


def listening(path: Path) -> socket.socket:
    """A socket that listens at a path which may be longer than systems take.

    Raises:
        OSError: there cannot be one.
    """
    door = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as short:
            door.bind(short)
        door.listen(_WAITING)
    except BaseException:
        door.close()
        raise
    return door


def read_order(connection: socket.socket) -> Order:
    """The order that comes first on a connection.

    Raises:
        OSError: it does not come, or is another user's.
        ValueError: it is not one.
    """
    _check_peer(connection)
    connection.settimeout(_ORDER_TIMEOUT)
    with connection.makefile("rb") as lines:
        order = json.loads(lines.readline(_LONGEST_LINE))
    if not isinstance(order, dict):
        raise ValueError("it is not an object")
    return order


def send(connection: socket.socket, answer: Mapping[str, Any]) -> None:
    """Send a line of an answer.

    Raises:
        OSError: who asked has gone.
    """
    connection.sendall(json.dumps(answer).encode() + b"\n")


def ask(
    path: Path,
    order: Mapping[str, Any],
    *,
    patience: float,
    at_first: float | None = None,
    look: Callable[[], None] = lambda: None,
) -> Order:
    """Give an order, and wait for the answer.

    Args:
        path: of the socket.
        order: what is asked for.
        patience: seconds that it may take.
        at_first: seconds until it has to be taken; by default as long as the whole.
        look: called now and then; raises where no answer can be expected.

    Raises:
        OSError: no such process takes orders, it is another user's, or it ended or did not answer in time.
        ValueError: the answer cannot be understood.
    """
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is not a socket of this user's")
    with socket.socket(socket.AF_UNIX) as connection:
        deadline = time.monotonic() + (patience if at_first is None else at_first)
        connection.settimeout(_LOOK_INTERVAL)
        _patiently(lambda: _connect(connection, path), deadline, look)
        _check_peer(connection)
        send(connection, order)
        received = b""
        while True:
            data = _patiently(lambda: connection.recv(1 << 16), deadline, look)
            if not data:
                raise ConnectionError("it ended without an answer")
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                answer: Order = json.loads(line)
                if answer != _TAKEN:
                    return answer
                deadline = time.monotonic() + patience


def _connect(connection: socket.socket, path: Path) -> bytes:
    with _short(path) as short:
        connection.connect(short)
    return b""


def _patiently(step: Callable[[], bytes], deadline: float, look: Callable[[], None]) -> bytes:
    """What a step returns, which is tried again until then where it takes longer than a look."""
    while True:
        try:
            return step()
        except (TimeoutError, BlockingIOError):  # the latter: too many wait to be accepted
            look()
            time.sleep(_PAUSE)
            if time.monotonic() > deadline:
                raise TimeoutError("it does not answer") from None


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path that is short enough for a socket."""
    if len(os.fsencode(path)) <= _LONGEST_PATH or not sys.platform.startswith("linux"):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _check_peer(connection: socket.socket) -> None:
    """See that the other side is a process of the same user.

    Raises:
        PermissionError: it is not.
    """
    if (user := _user_of_peer(connection)) != os.geteuid():
        raise PermissionError(f"the process on the other side is of the user {user}")


def _user_of_peer(connection: socket.socket) -> int:
    if sys.platform == "darwin":
        # struct xucred, of <sys/ucred.h>: version, user, ...; by LOCAL_PEERCRED of <sys/un.h>.
        return int(struct.unpack_from("II", connection.getsockopt(0, 1, 76))[1])
    # struct ucred: process, user, group.
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


def _forget_all() -> None:
    for door in tuple(_doors):
        door.forget()


os.register_at_fork(after_in_child=_forget_all)
