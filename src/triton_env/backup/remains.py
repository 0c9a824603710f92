"""What restores left on servers, known by its names. Without their journals, it may be the only copy of something."""

from contextlib import closing

from triton_env.isolation.ours import is_bucket_of_restore, is_of_restore
from triton_env.services import S3, ClickHouse, Postgres, Redis, Service

_SHOWN = 3
"""How many things are named."""


def remains_in(service: Service) -> list[str]:
    """What is there that a restore made or set aside, in words. Nothing is changed.

    Raises:
        Exception: whatever the client raises.
    """
    match service:
        case Postgres():
            with service.connect(autocommit=True) as connection:
                names = [name for (name,) in connection.execute("select datname from pg_database").fetchall()]
            return [f"database {name}" for name in sorted(names) if is_of_restore(name)]
        case ClickHouse():
            from triton_env.backup.clickhouse.http import Http

            with Http(service) as http:
                names = [row["name"] for row in http.rows("SELECT name FROM system.databases ORDER BY name")]
            return [f"database {name}" for name in names if is_of_restore(name)]
        case Redis():
            from triton_env.backup.redis.connection import is_staged, used_databases

            return [f"logical database {n}" for n in used_databases(service) if is_staged(service, n)]
        case S3():
            with closing(service.client()) as client:
                names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
            return [f"bucket {name}" for name in sorted(names) if is_bucket_of_restore(name)]
    return []


def in_words(remains: list[str]) -> str:
    """That they are there, in one sentence."""
    more = f" and {len(remains) - _SHOWN} more" if len(remains) > _SHOWN else ""
    return f"a restore was not finished, and its journal is gone; it left {', '.join(remains[:_SHOWN])}{more}"
