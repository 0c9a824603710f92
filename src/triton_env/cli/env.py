"""`env`: the variables of a running environment."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triton_env.cli.options import project_option
from triton_env.cli.persistent import infrastructure, not_running, titles
from triton_env.cli.variables import FORMATS, as_text
from triton_env.cli.words import say, say_notice
from triton_env.errors import ProjectTaken, TritonError, UsageError

if TYPE_CHECKING:
    from triton_env.settings import Settings


@click.command(short_help="Print the variables of the running environment.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="dotenv", show_default=True)
@click.option("--id", "environment", default="", metavar="ID", help="Which environment, if several are running.")
@click.option("--persistent", is_flag=True, help="Those of the persistent services, also while others are running.")
@project_option
def command(form: str, environment: str, persistent: bool, project: str | None) -> None:
    """Print the variables of the running environment.

    It is the one that `serve` started in this folder or in one above it, or else the only one that is running. Where
    none is, it is the persistent services that are running. The output holds passwords.

    \b
    in this shell:        eval "$(python -m triton_env env --format shell)"
    for dotenv readers:   python -m triton_env serve --env-file FILE
    of `up`:              python -m triton_env env --persistent
    """
    if environment and (persistent or project):
        raise UsageError("--id is for what `serve` started, not for persistent services.")
    try:
        variables = _of_persistent(project) if persistent or project else _of_session(environment)
    except TritonError:
        if form == "shell" and not sys.stdout.isatty():
            # `eval` of nothing succeeds, and a script would go on without the variables.
            click.echo("false")
        raise
    click.echo(as_text(variables, form), nl=False)


def _of_session(environment: str) -> Mapping[str, str]:
    from triton_env.registry import Registry, choose
    from triton_env.settings import Settings

    folder = Path.cwd()
    settings = Settings()
    records = Registry.of(settings).running()
    if not records and not environment:
        return _of_persistent_if_any(settings)
    record = choose(records, folder, environment)
    if not environment and not folder.is_relative_to(record.project):
        say(f"These are of the only environment that is running, started in {record.project}.", dim=True)
    return record.environ


def _of_persistent_if_any(settings: "Settings") -> Mapping[str, str]:
    from triton_env.runtimes.choice import docker_problem

    problem: TritonError | None = None
    # An engine that is not there, or hangs, is not what was asked about.
    if not docker_problem(settings, ()):
        try:
            return _of_persistent(None)
        except TritonError as error:
            problem = error
    raise TritonError(
        "No environment is running.",
        cause=problem.what if isinstance(problem, ProjectTaken) else "",
        hint="start one with: python -m triton_env serve, or python -m triton_env up",
    ) from problem


def _of_persistent(project: str | None) -> Mapping[str, str]:
    from triton_env.services import SERVICES
    from triton_env.variables import of_services

    with infrastructure(project) as services:
        running = services.running()
        if not running:
            raise not_running(tuple(SERVICES), services, project)
        if absent := [name for name in SERVICES if name not in running]:
            say_notice(f"without {titles(absent)}, which {'does' if len(absent) == 1 else 'do'} not run.")
        say(f"These are of the persistent services, project {services.project}.", dim=True)
        return of_services(running, services.settings.triton_variables)
