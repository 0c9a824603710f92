"""`ps`: which environments run."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from triton_env.cli.output import say, stop_printing
from triton_env.cli.signals import Interrupted, interruptible
from triton_env.cli.tables import Column, print_table, watch_table
from triton_env.core.printable import one_line
from triton_env.errors import UsageError

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
@click.option("-w", "--watch", is_flag=True, help="Look again every 2 s until Ctrl-C.")
def command(as_json: bool, quiet: bool, watch: bool) -> None:
    """List the environments that run: sessions, shared ones, and the persistent services of every project.

    \b
    python -m triton_env ps
    python -m triton_env ps --json

    Those of other users are not seen. Any of them can be named to other commands by its id, such as `psql --session ID`
    and `stop ID`; persistent services by their project, such as `status --project NAME`. A service that does not listen
    is marked; `status` asks each service of one environment.

    The line of --json is {"version", "environments", "engine_problem"}; it holds no passwords.

    Exit status: 0, also where nothing runs, and after Ctrl-C with --watch.
    """
    from triton_env.inspection import inspect
    from triton_env.settings import Settings

    if watch and (as_json or quiet):
        raise UsageError("--watch keeps a table up to date, so it goes with neither --json nor --quiet.")
    settings = Settings()
    if watch:
        try:
            with suppress(Interrupted), interruptible():
                watch_table(_COLUMNS, lambda: [_row(environment) for environment in inspect(settings).environments])
        except BrokenPipeError:
            stop_printing()
        return
    found = inspect(settings)
    if as_json:
        click.echo(found.model_dump_json())
        return
    if found.engine_problem:
        say(f"Persistent services on Docker are not listed: {found.engine_problem}.", dim=True)
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
