"""A change that SQLite refuses is answered with an error, and memory goes back to what the database holds.

The refusal is a trigger that another process puts into the running server's database.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from persistence.localstack_server import DATA, Server, server, volume
from persistence.s3_facts import PART_SIZE, collect

# Starts of LocalStack take their time on a busy machine.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

BUCKET = "bucket"
VERSIONED = "versioned"
TRIGGERS = {
    f"{table}_{event}": f"BEFORE {event} ON {table}"
    for table in ("buckets", "objects", "uploads", "parts")
    for event in ("INSERT", "UPDATE", "DELETE")
}
TAGS = {"TagSet": [{"Key": "newest", "Value": "tag"}]}


def fill(running: Server) -> None:
    client = running.s3()
    client.create_bucket(Bucket="empty")
    for bucket in (BUCKET, VERSIONED):
        client.create_bucket(Bucket=bucket)
        client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "old", "Value": "tag"}]})
        if bucket == VERSIONED:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            client.put_object(Bucket=bucket, Key="key", Body=b"older", Tagging="older=tag")
        client.put_object(Bucket=bucket, Key="key", Body=b"old", Tagging="old=tag", Metadata={"old": "yes"})
    client.put_object(Bucket=BUCKET, Key="other", Body=b"other")
    client.put_object(Bucket=BUCKET, Key="another", Body=b"another", Tagging="old=tag")
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="key", Tagging="from=parts")["UploadId"]
    where = {"Bucket": BUCKET, "Key": "key", "UploadId": upload}
    client.upload_part(**where, PartNumber=1, Body=b"p" * PART_SIZE)
    client.upload_part(**where, PartNumber=2, Body=b"last")


@contextmanager
def refusing_server() -> Iterator[tuple[Server, dict[str, Any], set[str]]]:
    """A server where no statement can write to the database; its facts and its bodies."""
    with volume() as on, server(on) as made:
        made.start()
        fill(made)
        made.query(
            *(
                f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
                for name, when in TRIGGERS.items()
            )
        )
        yield made, collect(made), bodies(made)


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[Server, dict[str, Any], set[str]]]:
    with refusing_server() as found:
        yield found


def bodies(of: Server) -> set[str]:
    return set(of.run("find", f"{DATA}/s3/data", "-ignore_readdir_race", "-type", "f").split())


def uploaded(client: Any) -> dict[str, Any]:
    (upload,) = client.list_multipart_uploads(Bucket=BUCKET, Prefix="key")["Uploads"]
    return {"Bucket": BUCKET, "Key": "key", "UploadId": upload["UploadId"]}


def complete(client: Any) -> None:
    where = uploaded(client)
    listed = client.list_parts(**where)["Parts"][:2]
    parts = [{name: part[name] for name in ("ETag", "PartNumber")} for part in listed]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


def oldest(client: Any) -> str:
    versions = client.list_object_versions(Bucket=VERSIONED)["Versions"]
    return str(next(version["VersionId"] for version in versions if not version["IsLatest"]))


CHANGES: dict[str, Callable[[Any], object]] = {
    "create_bucket": lambda s3: s3.create_bucket(Bucket="new"),
    "delete_bucket": lambda s3: s3.delete_bucket(Bucket="empty"),
    "put_object": lambda s3: s3.put_object(Bucket=BUCKET, Key="key", Body=b"new", Tagging="new=tag"),
    "put_object (new key)": lambda s3: s3.put_object(Bucket=BUCKET, Key="new", Body=b"new", Tagging="new=tag"),
    "put_object (new version)": lambda s3: s3.put_object(Bucket=VERSIONED, Key="key", Body=b"new", Tagging="new=tag"),
    "copy_object": lambda s3: s3.copy_object(Bucket=BUCKET, Key="new", CopySource=f"{VERSIONED}/key"),
    "delete_object": lambda s3: s3.delete_object(Bucket=BUCKET, Key="another"),
    "delete_object (marker)": lambda s3: s3.delete_object(Bucket=VERSIONED, Key="key"),
    "delete_object (version)": lambda s3: s3.delete_object(Bucket=VERSIONED, Key="key", VersionId=oldest(s3)),
    "delete_objects": lambda s3: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "other"}]}),
    "put_object_tagging": lambda s3: s3.put_object_tagging(Bucket=BUCKET, Key="key", Tagging=TAGS),
    "delete_object_tagging": lambda s3: s3.delete_object_tagging(Bucket=BUCKET, Key="key"),
    "put_object_acl": lambda s3: s3.put_object_acl(Bucket=BUCKET, Key="key", ACL="public-read"),
    "create_multipart_upload": lambda s3: s3.create_multipart_upload(Bucket=BUCKET, Key="new"),
    "upload_part": lambda s3: s3.upload_part(**uploaded(s3), PartNumber=1, Body=b"new"),
    "upload_part (new)": lambda s3: s3.upload_part(**uploaded(s3), PartNumber=3, Body=b"new"),
    "abort_multipart_upload": lambda s3: s3.abort_multipart_upload(**uploaded(s3)),
    "complete_multipart_upload": complete,
    "put_bucket_versioning": lambda s3: s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
    ),
    "put_bucket_tagging": lambda s3: s3.put_bucket_tagging(Bucket=BUCKET, Tagging=TAGS),
    "delete_bucket_tagging": lambda s3: s3.delete_bucket_tagging(Bucket=BUCKET),
    "put_bucket_policy": lambda s3: s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17"})),
    "put_bucket_cors": lambda s3: s3.put_bucket_cors(
        Bucket=BUCKET, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    ),
}


def refuse(running: Server, changes: Iterable[str]) -> None:
    for change in changes:
        with pytest.raises(ClientError, match="refused by the test") as error:
            CHANGES[change](running.s3())
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500, change


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES)
def test_memory_goes_back(refusing: tuple[Server, dict[str, Any], set[str]], change: str) -> None:
    running, facts, files = refusing
    refuse(running, [change])
    assert collect(running) == facts
    assert bodies(running) == files


def test_memory_goes_back_and_where_nothing_refuses_them_the_same_changes_are_kept() -> None:
    with refusing_server() as (running, facts, files):
        # To ask for all facts takes a hundred times as long as a change. One that does not go back shows afterwards.
        refuse(running, CHANGES)
        assert collect(running) == facts
        assert bodies(running) == files
        running.query(*(f"DROP TRIGGER {name}" for name in TRIGGERS))
        for name, change in CHANGES.items():
            if name not in ("upload_part", "abort_multipart_upload"):  # the upload is completed instead
                change(running.s3())
        after = collect(running)
        assert after != facts
        running.kill()
        running.start()
        assert collect(running) == after
