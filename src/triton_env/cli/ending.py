"""Ending an environment that another process owns."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.cli.output import say
from triton_env.cli.persistent import ended_by_signals
from triton_env.core.forms import form_of
from triton_env.errors import TritonError

if TYPE_CHECKING:
    import psutil

    from triton_env.state.registry import Record

_INTERVAL = 0.1
_PATIENCE = 60
"""Seconds that the owner of an environment gets to end it."""


def end(record: "Record") -> None:
    """Have the owner of an environment end it, as Ctrl-C does where `serve` runs, and wait until that is done.

    Raises:
        TritonError: the owner cannot be ended from here, or does not end.
    """
    import psutil

    with ended_by_signals(f"The session {record.id} may still run: python -m triton_env status"):
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
        say(f"Ending the session {record.title} ...")
        holder.terminate()
        while _runs(holder) and time.monotonic() - began < _PATIENCE:
            time.sleep(_INTERVAL)
        if _runs(holder):
            raise TritonError(
                f"The session {record.id} has not ended within {_PATIENCE} s.",
                where=record.title,
                hint=f"kill -KILL {record.pid} ends it, and what it leaves is removed by: python -m triton_env prune",
            )
        after = "Its data is gone" if form_of(record.runtime).is_started_by_us else "The external servers keep running"
        say(f"Ended in {time.monotonic() - began:.1f} s. {after}.", fg="green")


def _runs(holder: "psutil.Process") -> bool:
    import psutil

    try:
        # One that has ended is there until its parent has asked for its exit status.
        return holder.is_running() and holder.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
