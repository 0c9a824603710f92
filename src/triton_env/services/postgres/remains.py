"""What restores left in a PostgreSQL, known by its names."""

from triton_env.services import Postgres
from triton_env.services.names import is_of_restore


def remains(service: Postgres) -> list[str]:
    """See `Remains`."""
    return [f"database {name}" for name in service._databases() if is_of_restore(name)]
