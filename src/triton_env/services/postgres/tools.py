"""pg_dump and pg_restore, run where the server's distribution is."""

from collections.abc import Callable, Generator, Iterable

from triton_env.services import Postgres
from triton_env.services.base_backup import Programs
from triton_env.services.postgres.parameters import PLAIN

# Tablespaces are folders of one machine.
_COMMON = ("--no-password", "--no-tablespaces", "--host={host}", "--port={port:postgres}")


def pg_dump(service: Postgres, programs: Programs, database: str, label: str) -> Generator[bytes, None, None]:
    """Yields an archive of `database`. `label` names its connections.

    Raises:
        ProgramFailed, TritonError: see `Programs.output`.
    """
    return programs.output(
        # Not compressed: the backup does that, and not every pg_restore is built with the same libraries.
        # Quoted names: a newer server may have more reserved words.
        ("pg_dump", *_COMMON, "--format=custom", "--compress=0", "--quote-all-identifiers"),
        # Any name is taken literally here; --dbname would read one with "=" as a connection string.
        _environment(service, label) | {"PGDATABASE": database},
    )


def pg_restore(
    service: Postgres,
    programs: Programs,
    database: str,
    label: str,
    source: Iterable[bytes],
    on_bytes: Callable[[int], None],
    role: tuple[str, str] | None = None,
) -> None:
    """Loads an archive into `database`, whose name is one of ours.

    Args:
        database: where to.
        label: names its connections.
        source: the archive, in pieces.
        on_bytes: receives how many bytes of it were just read.
        role: who loads, with a password, and owns everything then; by default the superuser, with the owners and
            privileges that are in the archive.

    Raises:
        ProgramFailed, TritonError: see `Programs.feed`.
    """
    environment = _environment(service, label)
    plain: tuple[str, ...] = ()
    if role is not None:
        environment |= dict(zip(("PGUSER", "PGPASSWORD"), role, strict=True))
        plain = ("--no-owner", "--no-privileges")
    argv = ("pg_restore", *_COMMON, "--exit-on-error", *plain, f"--dbname={database}")
    programs.feed(argv, environment, source, on_bytes)


def _environment(service: Postgres, label: str) -> dict[str, str]:
    return {
        "PGUSER": service.user,
        "PGPASSWORD": service.password,
        "PGAPPNAME": label,
        "PGCONNECT_TIMEOUT": "30",
        "PGOPTIONS": PLAIN,
    }
