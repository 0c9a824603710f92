"""Where the services are, from the environment, and a client for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import clickhouse_connect
import psycopg
import redis
from botocore.config import Config
from clickhouse_connect.driver.client import Client as ClickHouseClient

VARIABLES = (
    "DATABASE_URL",
    "CLICKHOUSE_HOST",
    "CLICKHOUSE_HTTP_PORT",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
    "CLICKHOUSE_DB",
    "REDIS_URL",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "S3_BUCKET",
)


class MissingVariables(Exception):
    """The environment does not say where the services are."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"not set: {', '.join(names)}")


@dataclass(frozen=True)
class Connections:
    """Makes clients for the four services from the variables named in `VARIABLES`."""

    variables: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        # An empty password is one, too.
        missing = [name for name in VARIABLES if name not in self.variables]
        if missing:
            raise MissingVariables(missing)

    @property
    def bucket(self) -> str:
        return self.variables["S3_BUCKET"]

    def postgres(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.variables["DATABASE_URL"], connect_timeout=10)

    def clickhouse(self) -> ClickHouseClient:
        return clickhouse_connect.get_client(
            host=self.variables["CLICKHOUSE_HOST"],
            port=int(self.variables["CLICKHOUSE_HTTP_PORT"]),
            username=self.variables["CLICKHOUSE_USER"],
            password=self.variables["CLICKHOUSE_PASSWORD"],
            database=self.variables["CLICKHOUSE_DB"],
        )

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.variables["REDIS_URL"], decode_responses=True, socket_connect_timeout=10)

    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            region_name=self.variables["AWS_DEFAULT_REGION"],
            # Bucket names as part of the path need no DNS name for each bucket.
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
