"""Ending an environment that another process owns."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.errors import TritonError
from triton_env.state.registry import Record

if TYPE_CHECKING:
    import psutil

_INTERVAL = 0.1
_PATIENCE = 60
"""Seconds that the owner of an environment gets to end it."""


def end(record: Record) -> None:
    """Have the owner of an environment end it, as Ctrl-C does where `serve` runs, and wait until that is done.

    Where this process is the owner, it is about to end when this returns.

    Raises:
        TritonError: the owner cannot be ended from here, or does not end.
    """
    import psutil

    try:
        holder = psutil.Process(record.pid)
        # In another container it may be the number of another process.
        is_holder = any(Path(file.path).name == f"{record.id}.lock" for file in holder.open_files())
    except psutil.Error:
        is_holder = False
    if not is_holder:
        raise TritonError(
            f"The process that holds the session {record.id} cannot be ended from here.",
            where=record.title,
            cause=f"it is not the process {record.pid} of this machine",
            hint="end it where it was started, such as with Ctrl-C",
        )
    began = time.monotonic()
    holder.terminate()
    if record.pid == os.getpid():
        return
    while _runs(holder) and time.monotonic() - began < _PATIENCE:
        time.sleep(_INTERVAL)
    if _runs(holder):
        raise TritonError(
            f"The session {record.id} has not ended within {_PATIENCE} s.",
            where=record.title,
            hint=f"kill -KILL {record.pid} ends it, and what it leaves is removed by: python -m triton_env prune",
        )


def _runs(holder: "psutil.Process") -> bool:
    import psutil

    try:
        # One that has ended is there until its parent has asked for its exit status.
        return holder.is_running() and holder.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
