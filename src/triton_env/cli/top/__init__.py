"""`top`: what runs, live, and steered by keys."""

import sys

import click

from triton_env.cli.signals import Interrupted, interruptible
from triton_env.errors import UsageError


@click.command()
def command() -> int:
    """Show the services of all environments live: state, CPU, memory, connections, operations per second.

    \b
    arrows  select a service     l  its log
    /       filter               r  restart it, after a question
    ?       help                 s  stop its environment, after a question
    q       quit

    Operations are what the service counts first: transactions, queries or commands.

    Exit status: 0, also after Ctrl-C; 2 without a terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "`top` needs a terminal, for its keys and its screen.", hint="python -m triton_env ps --long --watch"
        )
    from triton_env.cli.tables import console
    from triton_env.cli.top.program import Program
    from triton_env.settings import Settings

    target = console()
    if target.is_dumb_terminal:
        raise UsageError(
            "`top` needs a terminal whose cursor can be moved.",
            where=f"TERM={target._environ.get('TERM', '')}",
            hint="python -m triton_env ps --long --watch",
        )
    try:
        with interruptible():
            Program(Settings(), target).run()
    except Interrupted as interrupted:
        return 0 if interrupted.signal_name == "Ctrl-C" else interrupted.exit_code
    return 0
