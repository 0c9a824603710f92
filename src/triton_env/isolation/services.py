"""Which services can be isolated, and how: one class for each, loaded when an environment has that service."""

from importlib import import_module
from typing import Any

from triton_env.isolation.base import Isolation
from triton_env.services import Service

_HOME = {
    "postgres": ("postgres", "PostgresIsolation"),
    "clickhouse": ("clickhouse", "ClickHouseIsolation"),
    "redis": ("redis", "RedisIsolation"),
    "s3": ("s3", "S3Isolation"),
}


def isolation_of(service: Service) -> Isolation[Any]:
    """What that service does with spaces."""
    module, name = _HOME[service.name]
    kind: type[Isolation[Any]] = getattr(import_module(f"triton_env.isolation.{module}"), name)
    return kind(service)
