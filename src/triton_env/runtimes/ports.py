"""Host ports: picked by us, since those that Docker picks change when a container restarts."""

import errno
import random
import socket
from pathlib import Path

from triton_env.core import shortages

_LOWEST = 20_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(bind: str) -> int:
    """A port that is free at `bind`, as far as this machine knows.

    It lies below the range from which the system takes ports for outgoing connections, so that it is still free
    when the container restarts. The engine has the last word: its refusal means to try another.

    Raises:
        ResourceExhausted: all are in use.
    """
    for _ in range(50):
        port = random.randrange(_LOWEST, _first_ephemeral_port())
        if _is_free(bind, port):
            return port
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
            raise shortages.no_port(bind, error) from error
        return int(probe.getsockname()[1])


def _first_ephemeral_port() -> int:
    try:
        first = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first >= _LOWEST + 1_000 else 65_000


def _is_free(bind: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        try:
            probe.bind((bind, port))
        except PermissionError:
            return False
        except OSError as error:
            # Not an address of this machine (a remote engine's): only the engine knows.
            return error.errno == errno.EADDRNOTAVAIL
    return True


def is_listened_on(bind: str, port: int) -> bool:
    """Whether another server has a port at an address of this machine.

    Connections of one that has ended, which the system remembers for a minute, keep none from it.
    """
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def listener_on(port: int, address: str = "") -> str:
    """The process on this machine that listens on `port`, in words; empty where it is not known.

    Args:
        address: who listens at others than this one is passed over; empty for any.
    """
    import psutil

    everywhere = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return ""
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        elsewhere = address and address not in everywhere and connection.laddr.ip not in (address, *everywhere)
        if connection.laddr.port == port and not elsewhere and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.Error:
                return f"process {connection.pid}"
    return ""
