"""Databases and buckets that users removed from persistent services: servers are well, and a start makes them again."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

from faces.persistent_project import PersistentProject, variables

pytestmark = pytest.mark.docker

NAMES = {"postgres": "database triton", "clickhouse": "database triton", "s3": "bucket triton-documents"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersistentProject]:
    project = PersistentProject(tmp_path, variables(dict(os.environ)))
    yield project
    project.remove()


def remove_all(project: PersistentProject, environ: dict[str, str]) -> None:
    for statement in ("create database of_the_user", "drop database triton"):
        done = project.run("psql", "-d", "postgres", "-c", statement)
        assert done.returncode == 0 or "already exists" in done.stderr
    address = f"http://{environ['CLICKHOUSE_HOST']}:{environ['CLICKHOUSE_HTTP_PORT']}"
    headers = urllib3.make_headers(basic_auth=f"{environ['CLICKHOUSE_USER']}:{environ['CLICKHOUSE_PASSWORD']}")
    assert urllib3.request("POST", address, body="drop database triton", headers=headers).status == 200
    s3 = boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    s3.delete_bucket(Bucket=environ["S3_BUCKET"])


def missing(project: PersistentProject) -> dict[str, Any]:
    """What `status` says is missing. It finds all servers well."""
    data = project.json("status")
    assert data["healthy"]
    return {name: each["missing"] for name, each in data["services"].items() if each["missing"]}


def test_servers_are_well_and_a_start_makes_them_again(project: PersistentProject) -> None:
    environ = project.json("up", "--services", "postgres,clickhouse,redis,s3")["environ"]
    assert missing(project) == {}
    remove_all(project, environ)
    assert missing(project) == NAMES
    shown = project.good("status").stdout
    assert "healthy; its bucket triton-documents was removed, and `up` makes it again, empty" in shown
    # On servers that run.
    project.good("up")
    assert missing(project) == {}
    remove_all(project, environ)
    project.good("restart", "postgres", "clickhouse", "s3")
    assert missing(project) == {}
    # After a stop.
    remove_all(project, environ)
    project.good("down")
    project.good("up")
    assert missing(project) == {}
    # What else there is was left alone.
    databases = project.good("psql", "-Atc", "select datname from pg_database").stdout.split()
    assert {"triton", "of_the_user"} <= set(databases)


def test_a_database_that_the_data_was_not_made_with_is_not_made(project: PersistentProject) -> None:
    project.good("up", "--services", "postgres")
    for stop in (False, True):
        if stop:
            project.good("down")
        done = project.run("up", "--services", "postgres", environment={"POSTGRES_DB": "another"})
        assert done.returncode == 1
        assert "POSTGRES_DB" in done.stderr
    project.good("up", "--services", "postgres")
    assert "another" not in project.good("psql", "-Atc", "select datname from pg_database").stdout.split()
