"""What restores left in a ClickHouse, known by its names."""

from triton_env.services import ClickHouse
from triton_env.services.clickhouse.requests import ask
from triton_env.services.names import is_of_restore


def remains(service: ClickHouse) -> list[str]:
    """See `Remains`."""
    answer = ask(service, {"system": "SELECT name FROM system.databases ORDER BY name"})
    return [f"database {name}" for name in answer.splitlines() if is_of_restore(name)]
