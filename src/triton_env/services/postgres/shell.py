"""`psql`: PostgreSQL's shell."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triton_env.services.base_shell import Arguments, ServerShell

if TYPE_CHECKING:
    from triton_env.core.model import Endpoint
    from triton_env.services import Postgres


class Psql(ServerShell):
    """psql."""

    command = program = "psql"
    summary = "Open psql, or run it with arguments."
    description = """\
    Run psql on the PostgreSQL that runs here, with address, user, database and password set.

    \b
    python -m triton_env psql
    python -m triton_env psql -c "select version()"
    python -m triton_env psql < schema.sql

    ARGS are passed on; options of this command come before them, and -- before a --help for psql. Where the service is
    a container, psql runs in it, and paths are those in the container.

    Exit status: that of psql; 1 if PostgreSQL does not run.
    """
    protocol = "postgres"
    instead = "install it (Debian and Ubuntu: apt-get install postgresql-client)"

    def arguments(self, service: "Postgres", at: "Endpoint", given: Arguments) -> Arguments:
        return given

    def variables(self, service: "Postgres", at: "Endpoint") -> Mapping[str, str]:
        # Over TCP, as every other client comes.
        named = {"PGHOST": at.host, "PGPORT": str(at.port), "PGUSER": service.user, "PGDATABASE": service.database}
        return named | {"PGPASSWORD": service.password}

    def way_in(self, service: "Postgres") -> str:
        return f"psql {shlex.quote(service.url)}"


SHELL = Psql()
