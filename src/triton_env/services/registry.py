"""The services that there are.

A fifth service is a module here, a line in `SERVICES`, and an attribute of `TritonEnvironment`.
"""

from collections.abc import Mapping

from triton_env.services.base import Service
from triton_env.services.clickhouse.service import ClickHouse
from triton_env.services.postgres.service import Postgres
from triton_env.services.redis.service import Redis
from triton_env.services.s3.service import S3

SERVICES: Mapping[str, type[Service]] = {service.name: service for service in (Postgres, ClickHouse, Redis, S3)}

START_ORDER = tuple(sorted(SERVICES, key=lambda name: -SERVICES[name].boot_rank))
"""The slowest to boot first: all others wait for that one."""
