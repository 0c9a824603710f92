"""`redis-cli`: Redis's shell."""

import click

from triton_env.cli.choice import Choice
from triton_env.cli.options import environment_options, passed_on


@click.command(context_settings=passed_on)
@environment_options
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(choice: Choice, args: tuple[str, ...]) -> None:
    """Run redis-cli on the Redis that runs here, with address and password set.

    \b
    python -m triton_env redis-cli
    python -m triton_env redis-cli get greeting
    python -m triton_env redis-cli < commands.txt

    ARGS are passed on; options of this command come before them, and -- before a --help for redis-cli. Where the
    service is a container, redis-cli runs in it; elsewhere it has to be installed.

    Exit status: that of redis-cli; 1 if Redis does not run.
    """
    from triton_env.cli.shells import Shell
    from triton_env.services import Redis

    Shell(
        Redis,
        "redis-cli",
        lambda service, at: ("-h", at.host, "-p", str(at.port), *args),
        # Empty, it would be sent, and refused.
        lambda service, at: {"REDISCLI_AUTH": service.password} if service.password else {},
        port="redis",
        instead="install it (Debian and Ubuntu: apt-get install redis-tools)",
    ).run(choice)
