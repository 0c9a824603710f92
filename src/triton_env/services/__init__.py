"""What triton-env knows about each backing service, whatever runs it.

Names are loaded on first use: the settings of the services are read by every command, the services by some.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton_env.services.base import Service
    from triton_env.services.clickhouse.service import ClickHouse
    from triton_env.services.postgres.service import Postgres
    from triton_env.services.redis.service import Redis
    from triton_env.services.registry import SERVICES, boot_order
    from triton_env.services.s3.service import S3

__all__ = [
    "S3",
    "SERVICES",
    "ClickHouse",
    "Postgres",
    "Redis",
    "Service",
    "boot_order",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from triton_env.services import registry

    # A class goes by the name that it has in its service's folder.
    return vars(registry).get(name) or next(each for each in registry.SERVICES.values() if each.__name__ == name)
