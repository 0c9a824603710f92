"""What users rely on, for every service on every runtime, with real clients."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import boto3
import clickhouse_connect
import psycopg
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_driver import Client as NativeClient

import places
from conftest import RUNTIMES
from contents import CONTENTS
from patience import SECONDS, patient_probes
from triton_env import TritonEnvironment
from triton_env.services import SERVICES
from triton_env.services.postgres.protocol import Login, answer
from triton_env.services.s3.requests import answered, buckets_in, pages
from triton_env.testing import Contents, ServiceContract

# The first test of each runtime starts all four.
# On persistent services there are the same containers and clients; what is particular to them is in `test_persistent`.
pytestmark = [pytest.mark.timeout(400), pytest.mark.long_on("persistent")]


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    with patient_probes():
        yield


@pytest.fixture(scope="module", params=[*RUNTIMES, "persistent without docker"])
def env(request: pytest.FixtureRequest, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm(request.param)


@pytest.fixture(params=list(SERVICES))
def service_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return CONTENTS


class TestEveryService(ServiceContract):
    """The contract of all services."""


def test_it_is_as_the_documents_compare_it(env: TritonEnvironment) -> None:
    places.check({"docker": places.DOCKER, "embedded": places.EMBEDDED}[env.runtime], env)


class TestPostgres:
    def test_connects_as_the_user_to_the_database(self, env: TritonEnvironment) -> None:
        with env.postgres.connect() as connection:
            row = connection.execute("select current_user, current_database(), 6 * 7").fetchone()
        assert row == (env.postgres.user, env.postgres.database, 42)

    def test_keeps_what_was_committed(self, env: TritonEnvironment) -> None:
        with env.postgres.connect() as connection:
            connection.execute("create table kept (value text)")
            connection.execute("insert into kept values ('yes')")
        with psycopg.connect(env.postgres.url) as connection:
            assert connection.execute("select value from kept").fetchall() == [("yes",)]

    async def test_connects_asynchronously(self, env: TritonEnvironment) -> None:
        async with await env.postgres.aconnect() as connection:
            cursor = await connection.execute("select 1")
            assert await cursor.fetchone() == (1,)

    def test_refuses_a_wrong_password(self, env: TritonEnvironment) -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            env.postgres.connect(password="wrong", connect_timeout=SECONDS)

    def test_user_may_create_databases_and_roles(self, env: TritonEnvironment) -> None:
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute("create database another")
            connection.execute("create role guest login")
        with env.postgres.connect(dbname="another") as connection:
            assert connection.execute("select current_database()").fetchone() == ("another",)

    def test_questions_without_a_client_are_answered_as_those_of_a_client(self, env: TritonEnvironment) -> None:
        place = env.postgres
        login = Login((place.host, place.port), place.user, place.password, place.database)
        where = "select current_user || '@' || current_database()"
        with place.connect() as connection:
            assert answer(login, where, SECONDS).rows == connection.execute(where).fetchone()
            version = connection.info.parameter_status("server_version")
        assert answer(login, where, SECONDS).parameters["server_version"] == version
        for wrong in (replace(login, password="wrong"), replace(login, database="nowhere")):
            with pytest.raises(ConnectionError):
                answer(wrong, where, SECONDS)


class TestClickHouse:
    def test_queries_the_database(self, env: TritonEnvironment) -> None:
        client = env.clickhouse.client()
        assert client.query("select currentUser(), currentDatabase()").result_rows == [
            (env.clickhouse.user, env.clickhouse.database)
        ]

    def test_takes_its_url(self, env: TritonEnvironment) -> None:
        client = clickhouse_connect.get_client(dsn=env.clickhouse.url)
        assert client.command("select currentDatabase()") == env.clickhouse.database

    def test_inserts_and_aggregates(self, env: TritonEnvironment) -> None:
        client = env.clickhouse.client()
        client.command("create table claims (id UInt64, amount Decimal(12, 2)) engine MergeTree order by id")
        client.insert("claims", [[number, number] for number in range(1000)], column_names=["id", "amount"])
        assert client.query("select count(), sum(amount) from claims").result_rows[0][0] == 1000
        assert int(client.command("select sum(amount) from claims")) == sum(range(1000))

    async def test_queries_asynchronously(self, env: TritonEnvironment) -> None:
        client = await env.clickhouse.aclient()
        try:
            assert (await client.query("select 1 + 1")).result_rows == [(2,)]
        finally:
            await client.close()

    def test_refuses_a_wrong_password(self, env: TritonEnvironment) -> None:
        with pytest.raises(DatabaseError, match="516"):
            env.clickhouse.client(password="wrong")

    def test_http_port_is_the_main_port(self, env: TritonEnvironment) -> None:
        assert env.clickhouse.http_port == env.clickhouse.port
        with urllib.request.urlopen(f"http://{env.clickhouse.host}:{env.clickhouse.http_port}/ping") as answer:
            assert answer.read() == b"Ok.\n"

    def test_native_port_speaks_the_native_protocol(self, env: TritonEnvironment) -> None:
        service = env.clickhouse
        assert env.environ()["CLICKHOUSE_PORT"] == str(service.native_port)
        login = {"user": service.user, "password": service.password, "database": service.database}
        with NativeClient(service.host, service.native_port, **login, compression="lz4") as client:
            client.execute("CREATE TEMPORARY TABLE numbers (n UInt64, words Array(String))")
            client.execute("INSERT INTO numbers VALUES", [(1, ["one"]), (2, [])])
            rows = client.execute("SELECT n, words, currentDatabase() FROM numbers ORDER BY n")
        assert rows == [(1, ["one"], service.database), (2, [], service.database)]


class TestRedis:
    def test_sets_and_gets(self, env: TritonEnvironment) -> None:
        with env.redis.client(decode_responses=True) as client:
            client.set("greeting", "hello", ex=60)
            assert client.get("greeting") == "hello"
            assert 0 < client.ttl("greeting") <= 60

    def test_takes_its_url(self, env: TritonEnvironment) -> None:
        with redis.Redis.from_url(env.redis.url) as client:
            assert client.ping() is True

    async def test_sets_and_gets_asynchronously(self, env: TritonEnvironment) -> None:
        async with env.redis.aclient() as client:
            await client.set("async", b"yes")
            assert await client.get("async") == b"yes"

    def test_publishes_to_subscribers(self, env: TritonEnvironment) -> None:
        with env.redis.client() as client, client.pubsub(ignore_subscribe_messages=False) as pubsub:
            pubsub.subscribe("jobs")
            assert pubsub.get_message(timeout=SECONDS)["type"] == "subscribe"
            client.publish("jobs", "done")
            assert pubsub.get_message(timeout=SECONDS)["data"] == b"done"

    @pytest.mark.parametrize("password", [None, "wrong"])
    def test_refuses_a_wrong_password_and_none(self, env: TritonEnvironment, password: str | None) -> None:
        # A client would try again for seconds by itself.
        with env.redis.client(password=password, retry=None) as client, pytest.raises(redis.AuthenticationError):
            client.ping()

    def test_questions_without_a_client_are_answered_as_those_of_a_client(self, env: TritonEnvironment) -> None:
        env.redis.configuration_at_start = None
        env.redis.ensure_ready()
        with env.redis.client() as client:
            assert env.redis.configuration_at_start == client.config_get("*")
            assert client.info("server")["redis_version"] in env.redis.server_version()


class TestS3:
    def test_lists_without_a_client_are_those_of_a_client(self, env: TritonEnvironment) -> None:
        client = env.s3.client()
        client.create_bucket(Bucket="listed-plainly")
        for key in ("a/1", "a/2", "b", "c +%20&<>"):
            client.put_object(Bucket="listed-plainly", Key=key, Body=key.encode())
        for prefix, delimiter in (("", ""), ("", "/"), ("a/", "/"), ("c +", ""), ("none", "")):
            plain = [*pages(env.s3, "listed-plainly", prefix, delimiter, max_keys="2")]
            paginator = client.get_paginator("list_objects_v2")
            folders = {"Delimiter": delimiter} if delimiter else {}
            usual = [*paginator.paginate(Bucket="listed-plainly", Prefix=prefix, MaxKeys=2, **folders)]
            for kind, fields in {"CommonPrefixes": {"Prefix"}, "Contents": {"Key", "LastModified", "Size"}}.items():
                found = [entry for page in plain for entry in page[kind]]
                wanted = [entry for page in usual for entry in page.get(kind, ())]
                assert found == [{field: entry[field] for field in fields} for entry in wanted]
        assert buckets_in(answered(env.s3)) == {
            bucket["Name"]: bucket["CreationDate"] for bucket in client.list_buckets()["Buckets"]
        }

    def test_bucket_exists_and_is_empty_at_first(self, env: TritonEnvironment) -> None:
        assert env.s3.bucket in [bucket["Name"] for bucket in env.s3.client().list_buckets()["Buckets"]]

    def test_puts_and_gets(self, env: TritonEnvironment) -> None:
        client = env.s3.client()
        client.put_object(Bucket=env.s3.bucket, Key="a/b.txt", Body=b"text", Metadata={"owner": "us"})
        answer = client.get_object(Bucket=env.s3.bucket, Key="a/b.txt")
        assert (answer["Body"].read(), answer["Metadata"]) == (b"text", {"owner": "us"})

    def test_encrypts_with_keys_of_kms(self, env: TritonEnvironment) -> None:
        claim: Any = {"Bucket": env.s3.bucket, "Key": "claim.pdf", "Body": b"claim", "ServerSideEncryption": "aws:kms"}
        if "SeaweedFS" in env.s3.server_version():
            # It has no keys, and stores nothing that would have to be encrypted.
            with pytest.raises(ClientError):
                env.s3.client(config=Config(retries={"max_attempts": 0})).put_object(**claim)
            return
        answer = env.s3.client().put_object(**claim)
        assert answer["ServerSideEncryption"] == "aws:kms"
        assert env.s3.client().get_object(Bucket=env.s3.bucket, Key="claim.pdf")["Body"].read() == b"claim"

    def test_resource_lists(self, env: TritonEnvironment) -> None:
        bucket = env.s3.resource().Bucket(env.s3.bucket)
        bucket.put_object(Key="listed", Body=b"1")
        assert "listed" in [summary.key for summary in bucket.objects.all()]

    async def test_puts_and_gets_asynchronously(self, env: TritonEnvironment) -> None:
        client = env.s3.aclient()
        await client.put_object(Bucket=env.s3.bucket, Key="async", Body=b"yes")
        answer = await client.get_object(Bucket=env.s3.bucket, Key="async")
        assert answer["Body"].read() == b"yes"

    def test_presigned_url_is_readable_without_credentials(self, env: TritonEnvironment) -> None:
        client = env.s3.client()
        client.put_object(Bucket=env.s3.bucket, Key="shared", Body=b"for you")
        url = client.generate_presigned_url("get_object", Params={"Bucket": env.s3.bucket, "Key": "shared"})
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"for you"

    def test_multipart_upload(self, env: TritonEnvironment) -> None:
        client = env.s3.client()
        part = b"x" * (5 * 1024 * 1024)
        upload = client.create_multipart_upload(Bucket=env.s3.bucket, Key="large")["UploadId"]
        parts = [
            {
                "PartNumber": number,
                "ETag": client.upload_part(
                    Bucket=env.s3.bucket, Key="large", UploadId=upload, PartNumber=number, Body=part
                )["ETag"],
            }
            for number in (1, 2)
        ]
        client.complete_multipart_upload(
            Bucket=env.s3.bucket, Key="large", UploadId=upload, MultipartUpload={"Parts": parts}
        )
        assert client.head_object(Bucket=env.s3.bucket, Key="large")["ContentLength"] == 2 * len(part)


CHILD = """
import os, boto3, clickhouse_connect, psycopg, redis
e = os.environ
psycopg.connect(e["DATABASE_URL"]).execute("select 1")
psycopg.connect(host=e["POSTGRES_HOST"], port=e["POSTGRES_PORT"], user=e["POSTGRES_USER"],
                password=e["POSTGRES_PASSWORD"], dbname=e["POSTGRES_DB"]).execute("select 1")
clickhouse_connect.get_client(host=e["CLICKHOUSE_HOST"], port=int(e["CLICKHOUSE_HTTP_PORT"]),
                              username=e["CLICKHOUSE_USER"], password=e["CLICKHOUSE_PASSWORD"],
                              database=e["CLICKHOUSE_DB"]).command("select 1")
redis.Redis.from_url(e["REDIS_URL"]).ping()
redis.Redis(host=e["REDIS_HOST"], port=int(e["REDIS_PORT"]), password=e["REDIS_PASSWORD"]).ping()
boto3.client("s3").head_bucket(Bucket=e["S3_BUCKET"])
print("all four")
"""


def test_environ_is_all_that_an_application_needs(env: TritonEnvironment) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=env.environ(), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout == "all four\n", done.stderr


def test_boto3_takes_the_variables_of_environ(env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.s3.environ().items():
        monkeypatch.setenv(name, value)
    boto3.session.Session().client("s3").head_bucket(Bucket=env.s3.bucket)


def test_a_proxy_is_not_asked(env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    for service in SERVICES:
        env.service(service).ensure_ready()
    assert env.clickhouse.client().command("select 1") == 1
    env.s3.client().head_bucket(Bucket=env.s3.bucket)
