"""Ending an environment that another process owns, in words."""

import time
from typing import TYPE_CHECKING

from triton_env.cli.output import say
from triton_env.cli.persistent import ended_by_signals
from triton_env.core.forms import form_of

if TYPE_CHECKING:
    from triton_env.state.registry import Record
    from triton_env.state.starting import Starting


def end(record: "Record | Starting") -> None:
    """See `triton_env.sharing.ending.end`."""
    from triton_env.settings import Settings
    from triton_env.sharing import ending
    from triton_env.state.starting import Starting

    if isinstance(record, Starting):
        with ended_by_signals(f"{record.id} may still be starting: python -m triton_env ps"):
            say(f"Ending the start of {record.title} ...")
            began = time.monotonic()
            ending.end(record, Settings())
            say(f"Ended in {time.monotonic() - began:.1f} s.", fg="green")
        return
    with ended_by_signals(f"The session {record.id} may still run: python -m triton_env status"):
        say(f"Ending the session {record.title} ...")
        began = time.monotonic()
        ending.end(record, Settings())
        after = "Its data is gone" if form_of(record.runtime).is_started_by_us else "The external servers keep running"
        say(f"Ended in {time.monotonic() - began:.1f} s. {after}.", fg="green")
