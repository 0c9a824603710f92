"""Databases and buckets that users removed from persistent services: servers are well, and a start makes them again."""

import os
from collections.abc import Iterator, Sequence
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


def remove_all(project: PersistentProject, services: Sequence[str], environ: dict[str, str]) -> None:
    for statement in ("create database of_the_user", "drop database triton"):
        done = project.run("psql", "-d", "postgres", "-c", statement)
        assert done.returncode == 0 or "already exists" in done.stderr
    if "clickhouse" in services:
        drop_in_clickhouse(environ)
    if "s3" in services:
        delete_bucket(environ)


def drop_in_clickhouse(environ: dict[str, str]) -> None:
    address = f"http://{environ['CLICKHOUSE_HOST']}:{environ['CLICKHOUSE_HTTP_PORT']}"
    headers = urllib3.make_headers(basic_auth=f"{environ['CLICKHOUSE_USER']}:{environ['CLICKHOUSE_PASSWORD']}")
    assert urllib3.request("POST", address, body="drop database triton", headers=headers).status == 200


def delete_bucket(environ: dict[str, str]) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    s3.delete_bucket(Bucket=environ["S3_BUCKET"])


def missing(project: PersistentProject, services: Sequence[str]) -> dict[str, Any]:
    """What `status` says is missing. It finds all servers well."""
    data = project.json("status", *services)
    assert data["healthy"]
    return {name: each["missing"] for name, each in data["services"].items() if each["missing"]}


@pytest.mark.parametrize(
    "services", [("postgres",), pytest.param(tuple(NAMES), marks=pytest.mark.long)], ids=["PostgreSQL", "all"]
)
def test_servers_are_well_and_a_start_makes_them_again(project: PersistentProject, services: Sequence[str]) -> None:
    names = {name: NAMES[name] for name in services}
    environ = project.json("up", "--services", ",".join(services))["environ"]
    assert missing(project, services) == {}
    remove_all(project, services, environ)
    assert missing(project, services) == names
    shown = project.good("status", *services).stdout
    for words in names.values():
        assert f"healthy; its {words} was removed, and `up` makes it again, empty" in shown
    # On servers that run.
    project.good("up", "--services", ",".join(services))
    assert missing(project, services) == {}
    remove_all(project, services, environ)
    project.good("restart", *services)
    assert missing(project, services) == {}
    # After a stop.
    remove_all(project, services, environ)
    project.good("down")
    # Not what the data was not made with, whether servers run or not.
    refused(project)
    project.good("up", "--services", ",".join(services))
    assert missing(project, services) == {}
    refused(project)
    # What else there is was left alone.
    databases = project.good("psql", "-Atc", "select datname from pg_database").stdout.split()
    assert {"triton", "of_the_user"} <= set(databases)
    assert "another" not in databases


def refused(project: PersistentProject) -> None:
    """A database that is named, and is not the one that PostgreSQL's data was made with."""
    done = project.run("up", "--services", "postgres", environment={"POSTGRES_DB": "another"})
    assert done.returncode == 1
    assert "POSTGRES_DB" in done.stderr
