"""pg_dump and pg_restore, run where the server's distribution is."""

from triton_env.core.model import Program
from triton_env.services import Postgres
from triton_env.services.base_backup import RunsPrograms

# Tablespaces are folders of one machine.
_COMMON = ("--no-password", "--no-tablespaces", "--host={host}", "--port={port:postgres}")


def pg_dump(service: Postgres, program: RunsPrograms, database: str, label: str) -> Program:
    """Writes an archive of `database` to standard output. `label` names its connections."""
    return program(
        # Not compressed: the backup does that, and not every pg_restore is built with the same libraries.
        # Quoted names: a newer server may have more reserved words.
        ("pg_dump", *_COMMON, "--format=custom", "--compress=0", "--quote-all-identifiers"),
        # Any name is taken literally here; --dbname would read one with "=" as a connection string.
        _environment(service, label) | {"PGDATABASE": database},
    )


def pg_restore(
    service: Postgres, program: RunsPrograms, database: str, label: str, role: tuple[str, str] | None = None
) -> Program:
    """Reads an archive from standard input into `database`, whose name is one of ours.

    Args:
        service: the server.
        program: runs it beside the server.
        database: where to.
        label: names its connections.
        role: who loads, with a password, and owns everything then; by default the superuser, with the owners and
            privileges that are in the archive.
    """
    environment = _environment(service, label)
    plain: tuple[str, ...] = ()
    if role is not None:
        environment |= dict(zip(("PGUSER", "PGPASSWORD"), role, strict=True))
        plain = ("--no-owner", "--no-privileges")
    return program(("pg_restore", *_COMMON, "--exit-on-error", *plain, f"--dbname={database}"), environment)


def _environment(service: Postgres, label: str) -> dict[str, str]:
    return {"PGUSER": service.user, "PGPASSWORD": service.password, "PGAPPNAME": label, "PGCONNECT_TIMEOUT": "30"}
