"""`down`: stop the persistent services, whose data stays, or end a session."""

import time
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.ending import end
from triton_env.cli.options import environment_alone
from triton_env.cli.output import say, say_notice
from triton_env.cli.persistent import ended_by_signals, stack_of
from triton_env.cli.session import sessions_here

if TYPE_CHECKING:
    from triton_env.state.registry import Record


@click.command()
@environment_alone
def command(choice: Choice) -> None:
    """Stop the persistent services, and remove their containers and network. Their data stays.

    \b
    python -m triton_env down
    python -m triton_env down ID

    The next `up` uses the same data; `reset` destroys it. ID is an id that `ps` shows; of persistent services it is
    their project. A session is ended, as Ctrl-C does it where `serve` runs; its data is gone then.

    Exit status: 0, also where nothing runs; 1 if they cannot be stopped; 130 after Ctrl-C.
    """
    if choice.session:
        if record := session_of(choice):
            end(record)
        return
    with (
        stack_of(choice) as services,
        ended_by_signals(f"Some services may still run: python -m triton_env status{choice.option}"),
    ):
        belongings = services.belongings()
        if not belongings.servers and not belongings.networks:
            say(f"Nothing of the project {services.project} is running.")
            for record in () if choice.names_persistent else sessions_here():
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
