"""A script that runs as a process beside this one, at the other end of a socket, and goes on where this one ends."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence


def python(script: str) -> tuple[str, ...]:
    """The command for a script that has the standard library alone."""
    # An interpreter may not know where it is; the error comes when it is started.
    return (sys.executable or "", "-I", "-S", script)


def started(
    script: str, arguments: Sequence[str], variables: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a script. It gets the number of its socket and the id of this process, then the arguments.

    Returns:
        The process, and the other end of the socket.

    Raises:
        OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and scripts
                [*python(script), str(theirs.fileno()), str(os.getpid()), *arguments],
                pass_fds=(theirs.fileno(),),
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C in a terminal reaches all of its processes, and a terminal that closes ends them.
                start_new_session=True,
                # No folder is kept from being removed or unmounted.
                cwd="/",
            )
    except OSError:
        ours.close()
        raise
    return process, ours


def end(process: subprocess.Popen[bytes], ours: socket.socket, timeout: float) -> None:
    """See that a process ends that was asked to: after `timeout` seconds by force."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    ours.close()
