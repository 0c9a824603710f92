"""What users' type checkers see. Nothing here runs: mypy, strict, reads it with the sources.

A `type: ignore` without an error is an error too, so the wrong uses at the end are checked as well.
"""

from pathlib import Path
from typing import Any, assert_type

import clickhouse_connect.driver.asyncclient
import clickhouse_connect.driver.client
import psycopg
import pydantic
import redis
import redis.asyncio
from mypy_boto3_s3 import S3Client, S3ServiceResource

from triton_env import (
    S3,
    ClickHouse,
    Namespace,
    Phase,
    Postgres,
    Redis,
    Settings,
    Span,
    Template,
    Timeline,
    TritonEnvironment,
)
from triton_env.core.model import Storage
from triton_env.core.setting_types import SecretStr
from triton_env.services import Service
from triton_env.services.base_backup import DecidingTakeover, LateRestorer, Remains, RestorerOf, Saver, TakeoverOf
from triton_env.services.clickhouse import backup as clickhouse_backup
from triton_env.services.clickhouse import remains as clickhouse_remains
from triton_env.services.clickhouse import restore as clickhouse_restore
from triton_env.services.clickhouse import takeover as clickhouse_takeover
from triton_env.services.postgres import backup as postgres_backup
from triton_env.services.postgres import remains as postgres_remains
from triton_env.services.postgres import restore as postgres_restore
from triton_env.services.postgres import takeover as postgres_takeover
from triton_env.services.redis import backup as redis_backup
from triton_env.services.redis import remains as redis_remains
from triton_env.services.redis import restore as redis_restore
from triton_env.services.redis import takeover as redis_takeover
from triton_env.services.redis.settings import RedisSettings
from triton_env.services.s3 import backup as s3_backup
from triton_env.services.s3 import remains as s3_remains
from triton_env.services.s3 import restore as s3_restore
from triton_env.services.s3 import takeover as s3_takeover


def environments() -> None:
    assert_type(TritonEnvironment(), TritonEnvironment)
    assert_type(TritonEnvironment(Settings(triton_storage="disk"), services=["redis"], lazy=True), TritonEnvironment)
    assert_type(TritonEnvironment().start(), TritonEnvironment)
    with TritonEnvironment() as env:
        assert_type(env, TritonEnvironment)
        assert_type(env.id, str)
        assert_type(env.runtime, str)
        assert_type(env.services, tuple[str, ...])
        assert_type(env.settings, Settings)
        assert_type(env.environ(), dict[str, str])
        assert_type(env.service("redis"), Service)
        assert_type(env.logs("redis"), str)
    env.stop()


async def asynchronous_environments() -> None:
    async with TritonEnvironment() as env:
        assert_type(env, TritonEnvironment)
        assert_type(await env.postgres.aconnect(), psycopg.AsyncConnection[Any])
        assert_type(await env.clickhouse.aclient(), clickhouse_connect.driver.asyncclient.AsyncClient)
        assert_type(env.redis.aclient(), redis.asyncio.Redis)


def settings_of_environments() -> None:
    settings = Settings(triton_storage="disk", postgres_password="s3cret", redis_password=pydantic.SecretStr(""))
    assert_type(settings.postgres_password, SecretStr)
    assert_type(settings.triton_storage, Storage)
    assert_type(settings.triton_linger, float)
    assert_type(settings.updated(postgres_db="other"), Settings)
    assert_type(settings.group(RedisSettings), RedisSettings)
    assert_type(settings.group(RedisSettings).redis_password, SecretStr)
    assert_type(settings.with_group(RedisSettings), Settings)


def services(env: TritonEnvironment) -> None:
    assert_type(env.postgres, Postgres)
    assert_type(env.postgres.url, str)
    assert_type(env.postgres.internal_url, str | None)
    assert_type(env.postgres.port, int)
    assert_type(env.postgres.connect(), psycopg.Connection[Any])
    assert_type(env.clickhouse, ClickHouse)
    assert_type(env.clickhouse.http_port, int)
    assert_type(env.clickhouse.native_port, int | None)
    assert_type(env.clickhouse.client(), clickhouse_connect.driver.client.Client)
    assert_type(env.redis, Redis)
    assert_type(env.redis.client(), redis.Redis)
    assert_type(env.s3, S3)
    assert_type(env.s3.endpoint_url, str)
    assert_type(env.s3.client(), S3Client)
    assert_type(env.s3.resource(), S3ServiceResource)


def namespaces(env: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        assert_type(namespace.redis, Redis)

    assert_type(env.namespace("name", Template(build, inputs=["seeds"]), services=("redis",)), Namespace)
    with env.namespace(template=build) as namespace, env.namespace(template="snapshot"), env.namespace(template=Path()):
        assert_type(namespace, Namespace)
        assert_type(namespace.postgres, Postgres)
        assert_type(namespace.clickhouse, ClickHouse)
        assert_type(namespace.s3, S3)
        assert_type(namespace.environ(), dict[str, str])
    env.namespace(5)  # type: ignore[arg-type]
    env.namespace("a", services=5)  # type: ignore[arg-type]


def timelines(timeline: Timeline) -> None:
    assert_type(timeline.spans, tuple[Span, ...])
    assert_type(timeline.total, float)
    assert_type(timeline.slowest, str | None)
    assert_type(timeline.ready_at("redis"), float | None)
    assert_type(timeline.of("redis")[0].phase, Phase)
    assert_type(timeline.of("redis")[0].duration, float)


def parts_of_services(late: s3_restore.S3Restorer, deciding: postgres_takeover.PostgresTakeover) -> list[object]:
    """What services name in their `parts`, which are loaded by name."""
    savers: list[Saver] = [postgres_backup.save, clickhouse_backup.save, redis_backup.save, s3_backup.save]
    restorers: list[RestorerOf] = [
        postgres_restore.PostgresRestorer,
        clickhouse_restore.ClickHouseRestorer,
        redis_restore.RedisRestorer,
        s3_restore.S3Restorer,
    ]
    takeovers: list[TakeoverOf] = [
        postgres_takeover.takeover,
        clickhouse_takeover.takeover,
        redis_takeover.takeover,
        s3_takeover.takeover,
    ]
    remains: list[Remains] = [
        postgres_remains.remains,
        clickhouse_remains.remains,
        redis_remains.remains,
        s3_remains.remains,
    ]
    in_the_end: LateRestorer = late
    for_good: DecidingTakeover = deciding
    return [savers, restorers, takeovers, remains, in_the_end, for_good]


def wrong_uses(env: TritonEnvironment, settings: Settings) -> None:
    TritonEnvironment(service=("redis",))  # type: ignore[call-arg]
    TritonEnvironment(services=5)  # type: ignore[arg-type]
    Settings(no_such_setting=1)  # type: ignore[call-arg]
    Settings(postgres_port="5432")  # type: ignore[arg-type]
    Settings(postgres_password=5)  # type: ignore[arg-type]
    settings.postgres_port = 1  # type: ignore[misc]
    env.mongo  # type: ignore[attr-defined]  # noqa: B018
    env.timeline.spans[0].start = 0  # type: ignore[misc]
