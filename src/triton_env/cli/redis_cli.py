"""`redis-cli`: the shell of the persistent Redis."""

import click

from triton_env.cli.options import passed_on, project_option


@click.command(short_help="Open redis-cli, or run it with arguments.", context_settings=passed_on)
@project_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(project: str | None, args: tuple[str, ...]) -> None:
    """Run redis-cli in the container of the persistent Redis, with the password set.

    \b
    python -m triton_env redis-cli
    python -m triton_env redis-cli get greeting
    python -m triton_env redis-cli < commands.txt

    ARGS are passed on; --project comes before them, and -- before a --help for redis-cli.

    Exit status: that of redis-cli; 1 if Redis does not run.
    """
    from triton_env.cli.shells import run_in_container
    from triton_env.services import Redis

    run_in_container(
        Redis,
        "redis-cli",
        lambda service: args,
        # Empty, it would be sent, and refused.
        lambda service: {"REDISCLI_AUTH": service.password} if service.password else {},
        project,
    )
