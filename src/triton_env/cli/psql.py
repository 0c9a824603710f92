"""`psql`: PostgreSQL's shell."""

import click

from triton_env.cli.choice import Choice
from triton_env.cli.options import environment_options, passed_on


@click.command(context_settings=passed_on)
@environment_options
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(choice: Choice, args: tuple[str, ...]) -> None:
    """Run psql on the PostgreSQL that runs here, with address, user, database and password set.

    \b
    python -m triton_env psql
    python -m triton_env psql -c "select version()"
    python -m triton_env psql < schema.sql

    ARGS are passed on; options of this command come before them, and -- before a --help for psql. Where the service is
    a container, psql runs in it, and paths are those in the container.

    Exit status: that of psql; 1 if PostgreSQL does not run.
    """
    from triton_env.cli.shells import Shell
    from triton_env.core.model import Endpoint
    from triton_env.services import Postgres

    def variables(service: Postgres, at: Endpoint) -> dict[str, str]:
        # Over TCP, as every other client comes.
        named = {"PGHOST": at.host, "PGPORT": str(at.port), "PGUSER": service.user, "PGDATABASE": service.database}
        return named | {"PGPASSWORD": service.password}

    Shell(
        Postgres,
        "psql",
        lambda service, at: args,
        variables,
        port="postgres",
        instead="install it (Debian and Ubuntu: apt-get install postgresql-client)",
    ).run(choice)
