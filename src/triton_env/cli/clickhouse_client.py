"""`clickhouse-client`: ClickHouse's shell on the persistent database."""

import click

from triton_env.cli.choice import Choice
from triton_env.cli.options import environment_options, passed_on

_VARIABLES = 'eval "$(python -m triton_env env%s --format shell)"'
_HTTP = 'curl -u "$CLICKHOUSE_USER:$CLICKHOUSE_PASSWORD" "$CLICKHOUSE_HOST:$CLICKHOUSE_HTTP_PORT" -d "select 1"'
"""For servers that come without it."""


@click.command(context_settings=passed_on)
@environment_options
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(choice: Choice, args: tuple[str, ...]) -> None:
    """Run clickhouse-client on the ClickHouse that runs here, with address, user, database and password set.

    \b
    python -m triton_env clickhouse-client
    python -m triton_env clickhouse-client --query "select version()"
    python -m triton_env clickhouse-client < queries.sql

    ARGS are passed on; options of this command come before them, and -- before a --help for clickhouse-client. It runs
    in the service's container, and paths are those there. The embedded ClickHouse does not speak its protocol.

    Exit status: that of clickhouse-client; 1 if ClickHouse does not run.
    """
    from triton_env.cli.shells import Shell
    from triton_env.core.model import Endpoint
    from triton_env.services import ClickHouse

    def arguments(service: ClickHouse, at: Endpoint) -> tuple[str, ...]:
        # It takes each option once.
        options = {
            ("--host", "-h"): at.host,
            ("--port",): str(at.port),
            ("--database", "-d"): service.database,
        }
        named = tuple(
            word
            for names, value in options.items()
            if not any(given.startswith(names) for given in args)
            for word in (names[0], value)
        )
        return (*named, *args)

    names_it = f" --persistent{choice.option}" if choice.names_persistent else ""
    Shell(
        ClickHouse,
        "clickhouse-client",
        arguments,
        lambda service, at: {"CLICKHOUSE_USER": service.user, "CLICKHOUSE_PASSWORD": service.password},
        port="native",
        lacking=f"its server speaks HTTP as well; the variables for that come with:\n{_VARIABLES % names_it}",
        instead=_HTTP,
    ).run(choice)
