"""LocalStack's S3 tells the same before and after a restart, of whatever kind."""

import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from persistence.localstack_server import ACCOUNTS, Server, server, volume
from persistence.s3_facts import EVERYWHERE, PART_SIZE, WITH_EVERYTHING, Place, bucket_of, collect, fill

# The first test has to fill the server and to restart it twice, which takes its time on a busy machine.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


HOOKED = {"S3_BUCKET": "from-the-hook", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": ACCOUNTS[1]}
"""A bucket for the hook to create, where nothing else is: of one account, in a region of its own."""


@dataclass(frozen=True)
class Restarted:
    """A server that was filled, ended and started again; and what it told before."""

    server: Server
    places: Sequence[Place]
    """The accounts and regions that were filled."""
    ends: Sequence[str]
    created: dict[str, Any]
    """What the list of buckets said of the hook's one before anything else was there."""
    facts: dict[str, Any]
    link: str


def named(buckets: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [bucket for bucket in buckets if bucket["Name"] == name]


@pytest.fixture(
    scope="module",
    params=[
        # The account and the region that are not the usual ones.
        pytest.param((WITH_EVERYTHING[-1:], ("kill",)), id="one place"),
        pytest.param((EVERYWHERE, ("stop", "kill")), id="everywhere", marks=pytest.mark.long),
    ],
)
def restarted(request: pytest.FixtureRequest) -> Iterator[Restarted]:
    places, ends = request.param
    with volume() as on, server(on, **HOOKED) as made:
        made.start()
        assert made.s3(ACCOUNTS[0]).list_buckets()["Buckets"] == []
        (created,) = made.s3(ACCOUNTS[1]).list_buckets()["Buckets"]
        fill(made, places)
        facts = collect(made, places)
        link = made.s3(*places[0]).generate_presigned_url(
            "get_object", Params={"Bucket": bucket_of("plain", places[0]), "Key": "overwritten"}, ExpiresIn=3600
        )
        for end in ends:
            getattr(made, end)()
            made.start()
        yield Restarted(made, places, ends, created, facts, link)


def test_all_facts_are_the_same(restarted: Restarted) -> None:
    before, after = restarted.facts, collect(restarted.server, restarted.places)
    good = [name for name, fact in before.items() if fact["status"] in (200, 206)]
    assert len(good) > 150 * len(restarted.places), "too much of what is asked is answered with an error"
    assert list(after) == list(before)
    different = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert different == {}


def test_a_presigned_url_still_answers(restarted: Restarted) -> None:
    with urllib.request.urlopen(restarted.link, timeout=200) as answer:
        assert answer.read() == b"second"


def test_an_upload_that_was_begun_before_can_be_completed_after(restarted: Restarted) -> None:
    for place in restarted.places:
        client, bucket = restarted.server.s3(*place), bucket_of("plain", place)
        for upload in client.list_multipart_uploads(Bucket=bucket)["Uploads"]:
            where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            options = {"ChecksumAlgorithm": "SHA256"} if upload.get("ChecksumAlgorithm") == "SHA256" else {}
            client.upload_part(**where, PartNumber=1, Body=b"y" * PART_SIZE, **options)
            parts = [
                {name: part[name] for name in ("ETag", "PartNumber", "ChecksumSHA256") if name in part}
                for part in client.list_parts(**where)["Parts"]
            ]
            assert [part["PartNumber"] for part in parts] == [1, 2, 3]
            client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
            whole = client.get_object(Bucket=bucket, Key=upload["Key"])["Body"].read()
            assert whole == b"y" * PART_SIZE + b"x" * PART_SIZE + (b"0123456789" * 10_000)[10:]
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_what_was_locked_is_locked(restarted: Restarted) -> None:
    place = next(each for each in restarted.places if each in WITH_EVERYTHING)
    client, bucket = restarted.server.s3(*place), bucket_of("locked", place)
    version = client.head_object(Bucket=bucket, Key="retained")["VersionId"]
    with pytest.raises(ClientError, match="object lock"):
        client.delete_object(Bucket=bucket, Key="retained", VersionId=version)


def test_a_bucket_is_created_once_by_the_hook(restarted: Restarted) -> None:
    created = restarted.created
    assert (created["Name"], created["BucketRegion"]) == ("from-the-hook", "eu-west-1")
    found = {account: restarted.server.s3(account).list_buckets()["Buckets"] for account in ACCOUNTS}
    assert named(found[ACCOUNTS[1]], created["Name"]) == [created]
    assert named(found[ACCOUNTS[0]], created["Name"]) == []
    # By the first start, and found there by the others.
    log = restarted.server.logs()
    assert log.count(f"Bucket {created['Name']} was created in eu-west-1.") == 1
    assert log.count(f"Bucket {created['Name']} is there.") == len(restarted.ends)
