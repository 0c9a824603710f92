"""What restores left on servers, known by its names. Without their journals, it may be the only copy of something."""

import re

from triton_env.services import S3, ClickHouse, Postgres, Redis, Service
from triton_env.services.names import is_of_restore
from triton_env.services.redis.names import RESTORE_KEY
from triton_env.services.s3 import requests as s3_requests
from triton_env.services.s3.names import is_bucket_of_restore

_USED = re.compile(r"^db(\d+):", re.MULTILINE)
_SHOWN = 3
"""How many things are named."""


def remains_in(service: Service) -> list[str]:
    """What is there that a restore made or set aside, in words. Nothing is changed.

    Raises:
        Exception: whatever the client raises.
    """
    match service:
        case Postgres():
            return [f"database {name}" for name in service._databases() if is_of_restore(name)]
        case ClickHouse():
            answer = service._ask({"system": "SELECT name FROM system.databases ORDER BY name"})
            return [f"database {name}" for name in answer.splitlines() if is_of_restore(name)]
        case Redis():
            return [f"logical database {number}" for number in _staged(service)]
        case S3():
            names = [bucket["Name"] for bucket in s3_requests.buckets_of(service)]
            return [f"bucket {name}" for name in sorted(names) if is_bucket_of_restore(name)]
    return []


def _staged(service: Redis) -> list[int]:
    """The numbers of the logical databases that a restore uses."""
    if answer := service._answers(["INFO", "keyspace"]):
        used = _USED.findall(answer[0])
        kinds = service._answers(*(words for n in used for words in (["SELECT", n], ["TYPE", RESTORE_KEY])))
        if len(kinds) == 2 * len(used) and "string" not in kinds:
            return []
    # By redis-py, which takes long to load.
    from triton_env.services.redis.connection import is_staged, used_databases

    return [number for number in used_databases(service) if is_staged(service, number)]


def in_words(remains: list[str]) -> str:
    """That they are there, in one sentence."""
    more = f" and {len(remains) - _SHOWN} more" if len(remains) > _SHOWN else ""
    return f"a restore was not finished, and its journal is gone; it left {', '.join(remains[:_SHOWN])}{more}"
