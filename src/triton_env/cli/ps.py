"""`ps`: which environments run."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from triton_env.cli.output import say, say_notice
from triton_env.cli.tables import Column, print_table
from triton_env.core.printable import one_line

if TYPE_CHECKING:
    from rich.text import Text

    from triton_env.inspection import EnvironmentEntry

_COLUMNS = (
    Column("id"),
    Column("mode"),
    Column("runtime"),
    Column("services", has_words=True),
    Column("up", right=True, rank=1),
    Column("owner", rank=2),
    Column("users", right=True, rank=4),
    Column("project", rank=3),
    Column("namespaces", right=True, rank=5),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
@click.option("-q", "--quiet", is_flag=True, help="Print the ids alone, one in a line.")
def command(as_json: bool, quiet: bool) -> None:
    """List the environments that run: sessions, shared ones, and the persistent services of every project.

    \b
    python -m triton_env ps
    python -m triton_env ps --json

    Those of other users are not seen. Any of them can be named to other commands by its id, such as `psql --session ID`
    and `stop ID`; persistent services by their project, such as `status --project NAME`. A service that does not listen
    is marked; `status` asks each service of one environment.

    The line of --json is {"version", "environments", "engine_problem"}; it holds no passwords.

    Exit status: 0, also where nothing runs.
    """
    from triton_env.inspection import inspect
    from triton_env.settings import Settings

    found = inspect(Settings())
    if as_json:
        click.echo(found.model_dump_json())
        return
    if found.engine_problem:
        say_notice(f"the Docker engine was not asked for persistent services: {found.engine_problem}.")
    if quiet:
        for environment in found.environments:
            click.echo(environment.id)
    elif found.environments:
        print_table(_COLUMNS, [_row(environment) for environment in found.environments])
    else:
        say("Nothing runs. Start with: python -m triton_env serve")


def _row(environment: "EnvironmentEntry") -> "list[Text]":
    from rich.text import Text

    from triton_env.cli.status import duration

    owner, started = environment.owner, environment.started
    services = ", ".join(
        service.name if service.state == "running" else f"{service.name} ({service.state})"
        for service in environment.services
    )
    cells = (
        environment.mode,
        environment.runtime,
        services,
        duration((datetime.now(UTC) - started).total_seconds() if started else None),
        f"{owner.held_by} {owner.pid}" if owner else "",
        str(len(environment.users) or ""),
        owner.project if owner else "",
        str(sum(space.kind == "namespace" for space in environment.spaces) or ""),
    )
    return [Text(environment.id, style="bold"), *(Text(one_line(cell)) for cell in cells)]
