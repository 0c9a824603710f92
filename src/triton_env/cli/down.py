"""`down`: stop the persistent services, whose data stays, or end a session."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.options import environment_options
from triton_env.cli.output import say, say_notice
from triton_env.cli.persistent import ended_by_signals, stack_of
from triton_env.cli.session import session_here
from triton_env.core.forms import form_of
from triton_env.errors import TritonError

if TYPE_CHECKING:
    import psutil

    from triton_env.state.registry import Record

_INTERVAL = 0.1
_PATIENCE = 60
"""Seconds that the holder of a session gets to end it."""


@click.command()
@environment_options
def command(choice: Choice) -> None:
    """Stop the persistent services, and remove their containers and network. Their data stays in volumes.

    \b
    python -m triton_env down
    python -m triton_env down --session ID

    The next `up` uses the same data; `reset` destroys it. With --session it ends a session, as Ctrl-C
    does where `serve` runs; its data is gone then.

    Exit status: 0, also where nothing runs; 1 if they cannot be stopped; 130 after Ctrl-C.
    """
    if choice.session:
        if record := session_of(choice):
            _end(record)
        return
    with (
        stack_of(choice) as services,
        ended_by_signals(f"Some services may still run: python -m triton_env status{choice.option}"),
    ):
        belongings = services.belongings()
        if not belongings.servers and not belongings.networks:
            say(f"Nothing of the project {services.project} is running.")
            if not choice.names_persistent and (record := session_here()):
                say(f"The session {record.title} keeps running. {_how_to_end(record)}")
        else:
            if services.in_use():
                say_notice("other processes of triton-env use these services at present.")
            began = time.monotonic()
            say(f"Stopping {', '.join(sorted(belongings.servers.values())) or 'the network'} ...")
            services.down()
            say(f"Stopped in {time.monotonic() - began:.1f} s.", fg="green")
        if belongings.data:
            say(f"The data stays in the {belongings.holder.several} {', '.join(belongings.data)}.")
            ways = f"up{choice.option}; destroy it: python -m triton_env reset{choice.option}"
            say(f"Start again with it: python -m triton_env {ways}")


def _how_to_end(record: "Record") -> str:
    where = "Ctrl-C where `serve` runs ends it, and so does" if record.held_by == "serve" else "What ends it:"
    return f"{where} python -m triton_env down --session {record.id}"


def _end(record: "Record") -> None:
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
