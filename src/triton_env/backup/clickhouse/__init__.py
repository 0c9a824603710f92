"""ClickHouse: statements and, for each table that holds data, its rows in the format Native."""

from triton_env.backup.clickhouse.dump import save
from triton_env.backup.clickhouse.restore import ClickHouseRestorer

__all__ = ["ClickHouseRestorer", "save"]
