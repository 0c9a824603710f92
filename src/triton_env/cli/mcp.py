"""`mcp`: a server for agents."""

from concurrent.futures import wait

import click

from triton_env.cli.output import say
from triton_env.cli.signals import Interrupted, interruptible

_WAIT = 0.2
"""Seconds of one wait: a signal is handled in between."""


@click.command()
@click.option("--allow-writes", is_flag=True, help="Also offer tools that start, stop, restart, reset, save, restore.")
@click.option("--show-secrets", is_flag=True, help="Give connection data with passwords.")
def command(allow_writes: bool, show_secrets: bool) -> None:
    """Serve the Model Context Protocol on standard input and output, for an agent that starts this command.

    \b
    python -m triton_env mcp
    python -m triton_env mcp --allow-writes

    The agent lists this user's environments and looks into them: health, logs, tables, keys, objects, and SQL that
    reads. With --allow-writes it also starts environments, which end with this command, and does to all others what
    the dashboard does. It needs the extra `mcp`: pip install 'triton-env[mcp]'.

    Exit status: 0 at the end of the input and after Ctrl-C or SIGTERM; 2 for wrong use.
    """
    try:
        # From the beginning: it takes a second to load what it needs.
        with interruptible():
            _serve(allow_writes=allow_writes, show_secrets=show_secrets)
    except Interrupted:
        pass


def _serve(*, allow_writes: bool, show_secrets: bool) -> None:
    from triton_env.agents.held import HeldEnvironments
    from triton_env.agents.tools import Tools
    from triton_env.core.interrupts import deferred
    from triton_env.core.threads import in_thread
    from triton_env.errors import UsageError
    from triton_env.settings import Settings

    try:
        from triton_env.agents.server import serve
    except ImportError as error:
        raise UsageError(
            "The server for agents needs a package that is not installed.",
            cause=str(error),
            hint="pip install 'triton-env[mcp]'",
        ) from error
    settings, held = Settings(), HeldEnvironments()
    tools = Tools(settings, held, show_secrets=show_secrets)
    try:
        # In a thread: what waits for input there cannot be interrupted, and ends with this process.
        served = in_thread(lambda: serve(tools, allow_writes=allow_writes))
        while not wait((served,), _WAIT).done:
            pass
        served.result()
    except Interrupted:
        say("Ending ...")
    finally:
        with deferred():
            held.close()
