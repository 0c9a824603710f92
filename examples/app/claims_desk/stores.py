"""What the application keeps, and where: one class for each service."""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import boto3
import clickhouse_connect
import psycopg
import redis
from botocore.config import Config
from botocore.exceptions import ClientError
from psycopg.rows import dict_row

from claims_desk.settings import Settings


class Clients:
    """Clients of the desk, in PostgreSQL."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url

    def add(self, name: str, plan: str) -> int:
        """Add a client; returns its number. Raises `psycopg.errors.UniqueViolation` where the name is taken."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute(
                "insert into clients (name, plan_id) select %s, id from plans where code = %s returning id",
                (name, plan),
            ).fetchone()
        if row is None:
            raise LookupError(plan)
        return int(row[0])

    def all(self) -> list[dict[str, Any]]:
        """Every client with its plan, by number."""
        query = "select c.id, c.name, p.code as plan from clients c join plans p on p.id = c.plan_id order by c.id"
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()


class Claims:
    """Claims, in ClickHouse."""

    def __init__(self, settings: Settings) -> None:
        self._client = clickhouse_connect.get_client(
            host=settings.clickhouse_host,
            port=settings.clickhouse_http_port,
            username=settings.clickhouse_user,
            password=settings.clickhouse_password,
            database=settings.clickhouse_db,
        )

    def add(self, client: int, claims: Iterable[Mapping[str, Any]]) -> int:
        """Insert claims of a client; returns how many."""
        rows = [(client, date.fromisoformat(each["day"]), Decimal(each["amount"])) for each in claims]
        self._client.insert("claims", rows, column_names=["client", "day", "amount"])
        return len(rows)

    def by_month(self, client: int) -> list[dict[str, Any]]:
        """What a client claimed in each month, from the materialized view."""
        result = self._client.query(
            "select month, sum(claims), sum(amount) from claims_by_month where client = {client:UInt32}"
            " group by month order by month",
            parameters={"client": client},
        )
        return [
            {"month": f"{month:%Y-%m}", "claims": count, "amount": str(amount)}
            for month, count, amount in result.result_rows
        ]

    def close(self) -> None:
        self._client.close()


class Jobs:
    """The state of jobs, in Redis, and who wants to know of it."""

    def __init__(self, settings: Settings) -> None:
        self._redis = redis.Redis.from_url(settings.redis_url, decode_responses=True)

    def update(self, job: str, state: str) -> None:
        """Note a job's state for an hour and announce it."""
        self._redis.set(f"job:{job}", state, ex=3600)
        self._redis.rpush("jobs:history", json.dumps({"job": job, "state": state}))

    def state(self, job: str) -> str | None:
        """The last state of a job; None where there is no such job."""
        return self._redis.get(f"job:{job}")  # type: ignore[return-value]

    def history(self) -> list[dict[str, str]]:
        """All updates in their order."""
        return [json.loads(text) for text in self._redis.lrange("jobs:history", 0, -1)]

    def close(self) -> None:
        self._redis.close()


class Documents:
    """Documents, in S3."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._s3 = boto3.session.Session(
            settings.aws_access_key_id, settings.aws_secret_access_key, region_name=settings.aws_default_region
        ).client("s3", endpoint_url=settings.aws_endpoint_url, config=Config(s3={"addressing_style": "path"}))

    def put(self, name: str, content: bytes) -> None:
        """Keep a document."""
        self._s3.put_object(Bucket=self._bucket, Key=name, Body=content)

    def get(self, name: str) -> bytes | None:
        """A document's content; None where there is none of that name."""
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise

    def names(self) -> list[str]:
        """The names of all documents."""
        return [each["Key"] for each in self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", [])]

    def close(self) -> None:
        self._s3.close()
