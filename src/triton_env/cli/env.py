"""`env`: the variables of the environment that runs here."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.options import environment_and_services
from triton_env.cli.output import say, say_notice
from triton_env.cli.persistent import not_running, nothing_runs, stack_of, titles
from triton_env.cli.session import check_has
from triton_env.cli.variables import FORMATS, as_text
from triton_env.errors import ProjectTaken, TritonError, UsageError

if TYPE_CHECKING:
    from triton_env.state.registry import Record


@click.command()
@click.option("--format", "form", type=click.Choice(FORMATS), default="dotenv", show_default=True)
@click.option("--id", "identity", default="", hidden=True)
@environment_and_services
def command(form: str, choice: Choice, identity: str, services: tuple[str, ...]) -> None:
    """Print the variables of the environment that runs here.

    It is the session that `serve` started in this project (its root has pyproject.toml or .git), or the persistent
    services where no session runs. If both run, choose with ID, --session or --persistent. ID is an id that `ps` shows;
    of persistent services it is their project. With TRITON_SESSION among the
    variables of a session, programs that use triton-env join it. The output holds passwords.

    \b
    in this shell:        eval "$(python -m triton_env env --format shell)"
    for dotenv readers:   python -m triton_env serve --env-file FILE
    of `up`:              python -m triton_env env --persistent
    """
    if identity:  # as --session was called
        if choice.session:
            raise UsageError("--id is another name of --session: give one of them.")
        choice = Choice(identity, choice.persistent, choice.project)
    try:
        record = session_of(choice, only_looks=True)
        variables = _of_session(record, services) if record else _of_persistent(choice, services)
    except TritonError:
        if form == "shell" and not sys.stdout.isatty():
            # `eval` of nothing succeeds, and a script would go on without the variables.
            click.echo("false")
        raise
    click.echo(as_text(variables, form), nl=False)


def _of_session(record: "Record", services: tuple[str, ...]) -> Mapping[str, str]:
    from triton_env.sharing.offering import handed_out

    check_has(record, services)
    return handed_out(record, services)


def _of_persistent(choice: Choice, services: tuple[str, ...]) -> Mapping[str, str]:
    from triton_env.settings.variables import of_services

    with stack_of(choice, names=services) as persistent:
        wanted = services or persistent.offered()
        try:
            running = {name: service for name, service in persistent.running().items() if name in wanted}
        except ProjectTaken as error:
            if choice.names_persistent:
                raise
            raise nothing_runs(error.what) from error
        if not running:
            if choice.names_persistent or services:
                raise not_running(wanted, persistent, choice)
            raise nothing_runs()
        if absent := [name for name in wanted if name not in running]:
            say_notice(f"without {titles(absent)}, which {'does' if len(absent) == 1 else 'do'} not run.")
        say(f"These are of the persistent services, project {persistent.project}.", dim=True)
        return of_services(running, persistent.settings.triton_variables)
