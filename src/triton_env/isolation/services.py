"""Which services can be isolated, and how: one class for each, loaded when an environment has that service."""

from importlib import import_module
from typing import Any

from triton_env.services import Service
from triton_env.services.base_isolation import Isolation

_HOME = {
    "postgres": "PostgresIsolation",
    "clickhouse": "ClickHouseIsolation",
    "redis": "RedisIsolation",
    "s3": "S3Isolation",
}


def isolation_of(service: Service) -> Isolation[Any]:
    """What that service does with spaces."""
    module = import_module(f"triton_env.services.{service.name}.isolation")
    kind: type[Isolation[Any]] = getattr(module, _HOME[service.name])
    return kind(service)
