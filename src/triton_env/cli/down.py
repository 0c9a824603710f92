"""`down`: stop the persistent services; their data stays."""

import time

import click

from triton_env.cli.options import project_option
from triton_env.cli.persistent import ended_by_signals, infrastructure, option_of
from triton_env.cli.words import say, say_notice


@click.command(short_help="Stop the persistent services; their data stays.")
@project_option
def command(project: str | None) -> None:
    """Stop the persistent services, and remove their containers and network. Their data stays in volumes.

    \b
    python -m triton_env down

    The next `up` goes on with the same data; `reset` is what destroys it.

    Exit status: 0, also where nothing runs; 1 if they cannot be stopped; 130 after Ctrl-C.
    """
    option = option_of(project)
    with (
        infrastructure(project) as services,
        ended_by_signals(f"Some services may still run: python -m triton_env status{option}"),
    ):
        belongings = services.belongings()
        if not belongings.containers and not belongings.networks:
            say(f"Nothing of the project {services.project} is running.")
        else:
            if services.in_use():
                say_notice("other processes of triton-env use these services at present.")
            began = time.monotonic()
            say(f"Stopping {', '.join(sorted(belongings.containers.values())) or 'the network'} ...")
            services.down()
            say(f"Stopped in {time.monotonic() - began:.1f} s.", fg="green")
        if belongings.volumes:
            say(f"The data stays in the volumes {', '.join(belongings.volumes)}.")
            say(f"Go on with it: python -m triton_env up{option}; destroy it: python -m triton_env reset{option}")
