"""`clickhouse-client`: ClickHouse's shell on the persistent database."""

import click

from triton_env.cli.options import passed_on, project_option

_VARIABLES = 'eval "$(python -m triton_env env --persistent --format shell)"'
_HTTP = 'curl -u "$CLICKHOUSE_USER:$CLICKHOUSE_PASSWORD" "$CLICKHOUSE_HOST:$CLICKHOUSE_HTTP_PORT" -d "select 1"'
"""For images that have the server alone."""


@click.command(short_help="Open clickhouse-client, or run it with arguments.", context_settings=passed_on)
@project_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(project: str | None, args: tuple[str, ...]) -> None:
    """Run clickhouse-client in the container of the persistent ClickHouse, with user, database and password set.

    \b
    python -m triton_env clickhouse-client
    python -m triton_env clickhouse-client --query "select version()"
    python -m triton_env clickhouse-client < queries.sql

    ARGS are passed on; --project comes before them, and -- before a --help for clickhouse-client. Paths are those in
    the container.

    Exit status: that of clickhouse-client; 1 if ClickHouse does not run.
    """
    from triton_env.cli.shells import run_in_container
    from triton_env.services import ClickHouse

    def arguments(service: ClickHouse) -> tuple[str, ...]:
        # It takes the option once.
        named = any(word.startswith(("--database", "-d")) for word in args)
        return args if named else ("--database", service.database, *args)

    run_in_container(
        ClickHouse,
        "clickhouse-client",
        arguments,
        lambda service: {"CLICKHOUSE_USER": service.user, "CLICKHOUSE_PASSWORD": service.password},
        project,
        lacking=f"it has the server alone, which speaks HTTP as well; the variables for that come with:\n{_VARIABLES}",
        instead=_HTTP,
    )
