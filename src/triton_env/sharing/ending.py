"""Ending an environment that another process owns."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.errors import TritonError
from triton_env.settings import Settings
from triton_env.sharing import orders
from triton_env.state.registry import Record
from triton_env.state.starting import Starting

if TYPE_CHECKING:
    import psutil

_INTERVAL = 0.1
_PATIENCE = 60
"""Seconds that the owner of an environment gets to end it."""


def end(record: Record | Starting, settings: Settings) -> None:
    """Have the owner of an environment end it, as Ctrl-C does where `serve` runs, and wait until that is done.

    The server of an agent goes on, with its other environments.

    Args:
        record: of an environment that runs, or of a start that is under way.
        settings: where this user's state is kept.

    Raises:
        TritonError: the owner is this process, cannot be ended from here, or does not end.
    """
    if record.held_by == "mcp" and isinstance(record, Starting):
        raise TritonError(
            f"The server of an agent is starting {record.id}, and can be asked to end it once that is ready.",
            where=record.title,
            hint=f"kill {record.pid} ends the server, with all its environments",
        )
    if record.held_by == "mcp":
        assert isinstance(record, Record)
        orders.stop(record, settings)
        return
    import psutil

    try:
        holder = psutil.Process(record.pid)
        # In another container it may be the number of another process.
        is_holder = any(Path(file.path).name == record.lock for file in holder.open_files())
    except psutil.Error:
        is_holder = False
    if not is_holder:
        raise TritonError(
            f"The process that holds the session {record.id} cannot be ended from here.",
            where=record.title,
            cause=f"it is not the process {record.pid} of this machine",
            hint="end it where it was started, such as with Ctrl-C",
        )
    if record.pid == os.getpid():
        raise TritonError(
            f"The session {record.id} is that of this process, which would end with all that it has.",
            where=record.title,
            hint="end it where it was started in this program",
        )
    began = time.monotonic()
    holder.terminate()
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
