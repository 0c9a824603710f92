"""`psql`: PostgreSQL's shell on the persistent database."""

import click

from triton_env.cli.options import passed_on, project_option


@click.command(short_help="Open psql, or run it with arguments.", context_settings=passed_on)
@project_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(project: str | None, args: tuple[str, ...]) -> None:
    """Run psql in the container of the persistent PostgreSQL, with user, database and password set.

    \b
    python -m triton_env psql
    python -m triton_env psql -c "select version()"
    python -m triton_env psql < schema.sql

    ARGS are passed on; --project comes before them, and -- before a --help for psql. Paths are those in the container.

    Exit status: that of psql; 1 if PostgreSQL does not run.
    """

    from triton_env.cli.shells import run_in_container
    from triton_env.services import Postgres

    def variables(service: Postgres) -> dict[str, str]:
        # Over TCP, as every other client comes.
        named = {"PGHOST": "127.0.0.1", "PGUSER": service.user, "PGDATABASE": service.database}
        return named | {"PGPASSWORD": service.password}

    run_in_container(Postgres, "psql", lambda service: args, variables, project)
