"""Rich data for each service, and what a client sees of it, to be compared before and after."""

from collections.abc import Callable
from typing import Any

from backup.clickhouse_contents import fill_clickhouse, look_at_clickhouse
from backup.postgres_contents import fill_postgres, look_at_postgres
from backup.redis_contents import fill_redis, look_at_redis
from backup.s3_contents import fill_s3, look_at_s3
from triton_env import TritonEnvironment

FILL: dict[str, Callable[[TritonEnvironment], None]] = {
    "postgres": fill_postgres,
    "clickhouse": fill_clickhouse,
    "redis": fill_redis,
    "s3": fill_s3,
}
LOOK: dict[str, Callable[[TritonEnvironment], dict[str, Any]]] = {
    "postgres": look_at_postgres,
    "clickhouse": look_at_clickhouse,
    "redis": look_at_redis,
    "s3": look_at_s3,
}
