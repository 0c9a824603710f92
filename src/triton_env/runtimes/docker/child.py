"""Programs that work for us at an engine, and may hang with it: ended with all that they have started."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_END_TIMEOUT = 2
"""Seconds that a program gets to end by itself."""


def begin(command: Sequence[str], environment: Mapping[str, str], **options: Any) -> "subprocess.Popen[str]":
    """Start a program. To be ended by `end`.

    Args:
        environment: its variables, all of them.
        options: of `subprocess.Popen`.
    """
    return subprocess.Popen(  # noqa: S603 - programs of ours, or found on PATH
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        # Ctrl-C reaches this process alone, which decides what is to be ended. And the docker command starts Compose as
        # a process of its own, which would outlive it: they are a group.
        start_new_session=True,
        **options,
    )


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """End a program at the end of the block, however that ends."""
    try:
        yield
    finally:
        end(process)


@contextmanager
def killed(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Kill a program at the end of the block: one that has nothing to tidy up, and would say that it was ended."""
    try:
        yield
    finally:
        kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """Kill a program and what it has started. Does nothing where it has ended."""
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
        process.wait()


def end(process: "subprocess.Popen[str]") -> None:
    """End a program and what it has started. Does nothing where it has ended."""
    if process.poll() is not None:
        return
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_TIMEOUT)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[Any]", number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of them have ended; on macOS, or are about to
        os.killpg(process.pid, number)
