"""`env`: the variables of a running environment."""

import click

from triton_env.cli.variables import FORMATS, as_text


@click.command(short_help="Print the variables of the running environment.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="dotenv", show_default=True)
@click.option("--id", "environment", default="", metavar="ID", help="Which environment, if several are running.")
def command(form: str, environment: str) -> None:
    """Print the variables of the running environment.

    It is the one that `serve` started in this folder or in one above it, or else the only one that is running.
    The output holds passwords.

    \b
    in this shell:        eval "$(python -m triton_env env --format shell)"
    for dotenv readers:   python -m triton_env serve --env-file FILE
    """
    from pathlib import Path

    from triton_env.cli.words import say
    from triton_env.registry import Registry, choose
    from triton_env.settings import Settings

    folder = Path.cwd()
    record = choose(Registry.of(Settings()).running(), folder, environment)
    if not environment and not folder.is_relative_to(record.project):
        say(f"These are of the only environment that is running, started in {record.project}.", dim=True)
    click.echo(as_text(record.environ, form), nl=False)
