"""`ps`: which environments run."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from triton_env.cli.output import say, say_notice
from triton_env.cli.signals import Interrupted, interruptible, until_reader_leaves
from triton_env.cli.tables import Column, print_table, watch_table
from triton_env.core.printable import one_line
from triton_env.core.sizes import memory_words, size_words
from triton_env.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from triton_env.inspection import EnvironmentEntry, Inspection, Inspector, ServiceEntry

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
_LONG_COLUMNS = (
    Column("id"),
    Column("service"),
    Column("state"),
    Column("health", has_words=True),
    Column("version", rank=3),
    Column("cpu", right=True, rank=1),
    Column("memory", right=True, rank=1),
    Column("disk", right=True, rank=2),
    Column("connections", right=True, rank=2),
    Column("ports", rank=4),
)

_AGED = 10
"""Seconds from which on the age of a sample is shown."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
@click.option("-l", "--long", is_flag=True, help="Ask all servers at once: a line for each service.")
@click.option("--show-secrets", is_flag=True, help="With --json, have passwords in URLs.")
@click.option("-q", "--quiet", is_flag=True, help="Print the ids alone, one in a line.")
@click.option("-w", "--watch", is_flag=True, help="Look again every 2 s until Ctrl-C.")
def command(as_json: bool, long: bool, show_secrets: bool, quiet: bool, watch: bool) -> None:
    """List the environments that run: sessions, shared ones, and the persistent services of every project.

    \b
    python -m triton_env ps
    python -m triton_env ps --long
    python -m triton_env ps --json

    Those of other users are not seen. Any of them can be named to other commands by its id, such as `psql --session ID`
    and `stop ID`; persistent services by their project, such as `status --project NAME`. A service that does not listen
    is marked. Of a start that takes more than a second, it is shown what each service does or waits for.

    With --long each server is asked for its health, version, memory and connections, and each engine for what dead
    owners left, which `prune` removes. One that hangs is given up after some seconds.

    The line of --json is {"version", "asked", "environments", "leftovers", "engine_problem"}; its fields are described
    in docs/reference/inspection.md. Without --long, what has to be asked for is null. It holds no passwords unless
    --show-secrets is given.

    Exit status: 0, also where nothing runs, and after Ctrl-C with --watch.
    """
    if watch and (as_json or quiet):
        raise UsageError("--watch keeps a table up to date, so it goes with neither --json nor --quiet.")
    if quiet and long:
        raise UsageError("--quiet prints the ids alone, so it does not go with --long.")
    if show_secrets and not as_json:
        raise UsageError("--show-secrets is for --json: the tables have no URLs.")
    columns, rows = (_LONG_COLUMNS, _long_rows) if long else (_COLUMNS, _rows)
    if watch:
        # From the beginning: what it needs takes a moment to load.
        with suppress(Interrupted), interruptible(), _inspector() as inspector:
            until_reader_leaves(lambda: watch_table(columns, lambda: rows(inspector.inspect(ask=long))))
        return
    with _inspector() as inspector:
        found = inspector.inspect(ask=long, show_secrets=show_secrets)
    if as_json:
        click.echo(found.model_dump_json())
        return
    if found.engine_problem:
        say(f"Persistent services on Docker are not listed: {found.engine_problem}.", dim=True)
    if quiet:
        for environment in found.environments:
            click.echo(environment.id)
    elif found.environments:
        print_table(columns, rows(found))
    else:
        say("Nothing runs. Start with: python -m triton_env serve")
    for environment in found.environments:
        if environment.problem:
            say_notice(f"the servers of {environment.id} were not asked: {environment.problem}")
    if found.leftovers:
        one = len(found.leftovers) == 1
        say(
            f"Dead owners left {len(found.leftovers)} thing{'' if one else 's'}. See {'it' if one else 'them'} with: "
            "python -m triton_env prune --dry-run",
            dim=True,
        )


def _inspector() -> "Inspector":
    from triton_env.inspection import Inspector
    from triton_env.settings import Settings

    return Inspector(Settings())


def _rows(found: "Inspection") -> "list[list[Text]]":
    return [_row(environment) for environment in found.environments]


def _long_rows(found: "Inspection") -> "list[list[Text]]":
    return [
        _service_row(environment, service) for environment in found.environments for service in environment.services
    ]


def _service_row(environment: "EnvironmentEntry", service: "ServiceEntry") -> "list[Text]":
    from rich.text import Text

    cpu, memory, disk = service.cpu_percent, service.memory, service.disk
    words, style = health_words(service)
    cells = (
        service.version or "",
        f"{cpu:.1f} %{_age(service)}" if cpu is not None else "",
        memory_words(memory) if memory is not None else "",
        size_words(disk) if disk is not None else "",
        str(service.connections) if service.connections is not None else "",
        ", ".join(str(port) for port in service.ports.values()),
    )
    return [
        Text(environment.id, style="bold"),
        Text(service.name),
        Text(one_line(service.state), style=state_style(service)),
        Text(one_line(words), style=style),
        *(Text(one_line(cell)) for cell in cells),
    ]


def _age(service: "ServiceEntry") -> str:
    """How old what is shown of its processor and memory is, where that matters."""
    seconds = (datetime.now(UTC) - service.measured).total_seconds() if service.measured else 0
    return f" ({seconds:.0f} s ago)" if seconds >= _AGED else ""


def state_style(service: "ServiceEntry") -> str:
    """The colour of its state."""
    return "green" if service.state == "running" else "yellow" if service.state in ("starting", "ready") else "red"


def health_words(service: "ServiceEntry") -> tuple[str, str]:
    """What the last probe of a service has found, for people, and its colour; empty where it was not asked."""
    health = service.health
    if service.stage:
        return service.stage, "yellow"
    if health is None:
        return "", ""
    if not health.is_good:
        return health.problem or "", "red"
    return (f"healthy; its {health.missing} was removed", "yellow") if health.missing else ("healthy", "green")


def _row(environment: "EnvironmentEntry") -> "list[Text]":
    from rich.text import Text

    from triton_env.cli.status import duration

    owner, started, since = environment.owner, environment.started, environment.starting_since
    up = duration((datetime.now(UTC) - started).total_seconds() if started else None)
    if environment.is_starting and since:
        up = f"starting {duration((datetime.now(UTC) - since).total_seconds())}"
    services = ", ".join(
        service.name if service.state in ("running", "ready") else f"{service.name} ({service.stage or service.state})"
        for service in environment.services
    )
    cells = (
        environment.mode,
        environment.runtime,
        services,
        up,
        f"{owner.held_by} {owner.pid}" if owner else "",
        str(len(environment.users) or ""),
        owner.project if owner else "",
        str(sum(space.kind == "namespace" for space in environment.spaces) or ""),
    )
    return [Text(environment.id, style="bold"), *(Text(one_line(cell)) for cell in cells)]
