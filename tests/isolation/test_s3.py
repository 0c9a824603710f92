"""S3: buckets behind the names that the application expects, and copies that are equal and independent."""

import asyncio
import base64
import io
import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import urllib3

from backup.s3_contents import LARGE, fill_s3, look_at_s3
from triton_env import Settings, TritonEnvironment, backup
from triton_env.errors import InvalidSetting, IsolationFailed
from triton_env.services import S3
from triton_env.services.base_isolation import OWN, Space
from triton_env.services.s3 import copying as s3_copy
from triton_env.services.s3 import isolation as s3_module
from triton_env.services.s3.isolation import S3Isolation, names_of

# A start, and work on the server, take their time on a busy machine.
pytestmark = [pytest.mark.timeout(300), pytest.mark.long_on("docker", "seaweedfs")]

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]

ONE, TWO = Space("triton_ns_one"), Space("triton_ns_two")
TEMPLATE = Space("triton_tpl_0123456789ab")
SUFFIXES = tuple(names_of(each).suffix for each in (ONE, TWO, TEMPLATE))
REAL = "triton-documents-ns-one"
EXPECTED = "triton-documents"


@pytest.fixture(scope="module", params=[*RUNTIMES, "seaweedfs"])
def env(request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
    settings, runtime = Settings(), request.param
    if runtime == "seaweedfs":
        settings, runtime = Settings(triton_s3_server="seaweedfs"), "embedded"
    if runtime == "embedded":
        request.getfixturevalue("embedded_packages")
    with TritonEnvironment(settings, runtime=runtime, services=("s3",)) as environment:
        yield environment


@pytest.fixture
def isolation(env: TritonEnvironment) -> Iterator[S3Isolation]:
    found = S3Isolation(env.s3)
    try:
        yield found
        found.clear([])
        assert buckets(env.s3) == {EXPECTED}
    finally:
        found.close()


@pytest.fixture
def space(isolation: S3Isolation) -> S3:
    """A namespace, and what was made before it in the environment's own bucket."""
    own = isolation.bound(OWN).client()
    own.put_object(Bucket=EXPECTED, Key="own", Body=b"own")
    isolation.create(ONE)
    return isolation.bound(ONE)


def buckets(service: S3) -> set[str]:
    return {bucket["Name"] for bucket in service.client().list_buckets()["Buckets"]}


def keys(service: S3, bucket: str = EXPECTED) -> list[str]:
    return [entry["Key"] for entry in service.client().list_objects_v2(Bucket=bucket).get("Contents", ())]


def look(service: S3) -> dict[str, Any]:
    """All that clients of a space see; for the environment's own, without the buckets of others."""
    client = service.client()
    there = [each for each in client.list_buckets()["Buckets"] if not each["Name"].endswith(SUFFIXES)]
    client.list_buckets = lambda: {"Buckets": there}  # type: ignore[assignment,misc]
    seen = SimpleNamespace(s3=SimpleNamespace(client=lambda: client))
    return look_at_s3(cast(TritonEnvironment, seen))


def put_in_parts(service: S3, key: str, body: bytes) -> None:
    client = service.client()
    where: Any = {"Bucket": EXPECTED, "Key": key}
    where["UploadId"] = client.create_multipart_upload(**where, ContentType="text/x-parts")["UploadId"]
    tag = client.upload_part(**where, PartNumber=1, Body=body)["ETag"]
    parts: Any = [{"PartNumber": 1, "ETag": tag}]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


def test_a_bound_service_has_a_bucket_of_its_own(isolation: S3Isolation, space: S3) -> None:
    assert isolation.bound(OWN).bucket == EXPECTED
    assert space.bucket == REAL
    assert space.environ()["S3_BUCKET"] == REAL
    assert keys(space) == []
    assert keys(space, REAL) == []
    assert isolation.found() == {"triton_ns_one"}
    space.ensure_ready()


def test_clients_take_the_names_that_the_application_expects(isolation: S3Isolation, space: S3) -> None:
    client = space.client()
    made = client.create_bucket(Bucket="reports")
    client.put_object(Bucket=EXPECTED, Key="a b", Body=b"one", Metadata={"n": "1"})
    client.copy_object(Bucket="reports", Key="by-name", CopySource=f"{EXPECTED}/a b")
    client.copy_object(Bucket="reports", Key="by-slash", CopySource=f"/{EXPECTED}/a b")
    client.copy_object(Bucket="reports", Key="by-dict", CopySource={"Bucket": EXPECTED, "Key": "a b"})
    client.copy_object(Bucket=f"reports{names_of(ONE).suffix}", Key="by-real", CopySource=f"{REAL}/a b")
    client.copy({"Bucket": EXPECTED, "Key": "a b"}, "reports", "managed")

    assert made["Location"].rstrip("/").endswith("/reports")
    assert keys(space, "reports") == ["by-dict", "by-name", "by-real", "by-slash", "managed"]
    assert sorted(each["Name"] for each in client.list_buckets()["Buckets"]) == ["reports", EXPECTED]
    assert client.list_objects_v2(Bucket="reports")["Name"] == "reports"
    # As it was called.
    assert client.list_objects_v2(Bucket=REAL)["Name"] == REAL
    assert client.get_paginator("list_objects_v2").paginate(Bucket="reports").build_full_result()["Contents"]
    client.get_waiter("bucket_exists").wait(Bucket="reports")
    with pytest.raises(client.exceptions.NoSuchBucket):
        client.list_objects_v2(Bucket="nowhere")
    assert keys(isolation.bound(OWN)) == ["own"]
    assert buckets(isolation.bound(OWN)) == {EXPECTED, REAL, "reports-ns-one"}


@pytest.mark.long_on
def test_uploads_in_parts(space: S3) -> None:
    client = space.client()
    upload = client.create_multipart_upload(Bucket=EXPECTED, Key="large")
    where: Any = {"Bucket": EXPECTED, "Key": "large", "UploadId": upload["UploadId"]}
    first = client.upload_part(**where, PartNumber=1, Body=LARGE[: 6 << 20])
    client.put_object(Bucket=EXPECTED, Key="tail", Body=b"tail")
    second = client.upload_part_copy(**where, PartNumber=2, CopySource={"Bucket": EXPECTED, "Key": "tail"})
    parts: Any = [
        {"PartNumber": 1, "ETag": first["ETag"]},
        {"PartNumber": 2, "ETag": second["CopyPartResult"]["ETag"]},
    ]
    assert upload["Bucket"] == EXPECTED
    assert client.list_parts(**where)["Bucket"] == EXPECTED
    done = client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    assert done["Bucket"] == EXPECTED
    assert f"/{EXPECTED}" in done["Location"]
    assert REAL not in done["Location"]
    assert client.head_object(Bucket=EXPECTED, Key="large")["ContentLength"] == (6 << 20) + 4
    client.upload_fileobj(io.BytesIO(LARGE), EXPECTED, "managed")
    received = io.BytesIO()
    client.download_fileobj(EXPECTED, "managed", received)
    assert received.getvalue() == LARGE


def test_resources(space: S3) -> None:
    resource = space.resource()
    resource.create_bucket(Bucket="reports").upload_fileobj(io.BytesIO(b"x"), "key")
    resource.Object(EXPECTED, "copied").copy_from(CopySource={"Bucket": "reports", "Key": "key"})

    assert sorted(bucket.name for bucket in resource.buckets.all()) == ["reports", EXPECTED]
    assert [each.key for each in resource.Bucket(EXPECTED).objects.all()] == ["copied"]
    assert resource.Object("reports", "key").get()["Body"].read() == b"x"
    resource.Bucket("reports").objects.all().delete()
    resource.Bucket("reports").delete()
    assert buckets(space) == {EXPECTED}


def test_asynchronous_clients(space: S3) -> None:
    async def use() -> set[str]:
        client = space.aclient()
        await client.put_object(Bucket=EXPECTED, Key="key", Body=b"x")
        return {bucket["Name"] for bucket in (await client.list_buckets())["Buckets"]}

    assert asyncio.run(use()) == {EXPECTED}
    assert keys(space) == ["key"]


def conditions(post: Any) -> Any:
    """What a form for an upload has to hold."""
    return json.loads(base64.b64decode(post["fields"]["policy"]))["conditions"]


@pytest.mark.long_on
def test_presigned_urls_and_forms(space: S3) -> None:
    client = space.client()
    put = client.generate_presigned_url("put_object", Params={"Bucket": EXPECTED, "Key": "put"})
    get = client.generate_presigned_url("get_object", Params={"Bucket": EXPECTED, "Key": "put"})
    post = client.generate_presigned_post(EXPECTED, "post")
    again = client.generate_presigned_post(Bucket=REAL, Key="post")
    assert post["url"] == again["url"]
    assert {"bucket": REAL} in conditions(post)
    assert {"bucket": REAL} in conditions(again)

    with urllib3.PoolManager() as pool:
        assert pool.request("PUT", put, body=b"signed").status == 200
        with urllib.request.urlopen(get) as answer:
            assert answer.read() == b"signed"
        fields = {**post["fields"], "file": ("post", b"form")}
        assert pool.request("POST", post["url"], fields=fields).status in (200, 204)
    assert post["url"].endswith(f"/{REAL}")
    assert keys(space) == ["post", "put"]


def test_names_that_are_too_long(space: S3) -> None:
    longest = "b" * (63 - len("-ns-one"))
    client = space.client()
    client.create_bucket(Bucket=longest)

    with pytest.raises(InvalidSetting, match="more than 63 characters"):
        client.create_bucket(Bucket=f"{longest}b")
    assert buckets(space) == {EXPECTED, longest}


@pytest.mark.parametrize("name", ["_a", "a_", "_"])
def test_names_that_cannot_end_a_bucket(name: str) -> None:
    with pytest.raises(InvalidSetting, match="end with a letter or a digit"):
        names_of(Space(f"triton_ns_{name}"))


def test_no_space_sees_another_whose_name_ends_with_its_own(isolation: S3Isolation) -> None:
    ids = {"triton_ns_a", "triton_ns_b_a", "triton_ns_b_ns_a", "triton_ns_b__ns_a", "triton_snap_a", "triton_tpl_ns_a"}
    for id_ in ids:
        isolation.create(Space(id_))
    isolation.bound(OWN).client().create_bucket(Bucket="other-ns-data")

    assert isolation.found() == ids
    for id_ in ids:
        assert buckets(isolation.bound(Space(id_))) == {EXPECTED}
    for id_ in sorted(ids):
        isolation.drop(Space(id_))
        ids.discard(id_)
        assert isolation.found() == ids
    assert buckets(isolation.bound(OWN)) == {EXPECTED, "other-ns-data"}
    with pytest.raises(IsolationFailed, match="the name of the bucket other-ns-data conflicts with its names"):
        isolation.create(Space("triton_ns_data"))


# SeaweedFS has neither all of these properties nor keys that are not paths.
@pytest.mark.parametrize("env", RUNTIMES, indirect=True)
@pytest.mark.long_on("embedded")
def test_a_copy_is_equal_and_each_is_on_its_own(isolation: S3Isolation, env: TritonEnvironment) -> None:
    # 20 MB would have to be read again and again. What comes in parts need not be large.
    fill_s3(env, has_large=False)
    put_in_parts(env.s3, "large", b"small")
    before = look(env.s3)
    # Once from what changes, once from what is frozen and remembered.
    isolation.create(TEMPLATE, OWN)
    isolation.create(ONE, TEMPLATE)
    isolation.create(TWO, TEMPLATE)
    copy = isolation.bound(ONE)
    assert look(copy) == look(isolation.bound(TWO)) == before

    copy.client().delete_object(Bucket=EXPECTED, Key="binary")
    copy.client().put_object(Bucket="versions", Key="key v", Body=b"changed")
    env.s3.client().put_object(Bucket=EXPECTED, Key="public", Body=b"changed")
    assert "binary" in keys(env.s3)
    assert "binary" not in keys(copy)

    isolation.replace(OWN, TEMPLATE)
    assert look(env.s3) == before
    assert "binary" not in keys(copy)
    isolation.replace(ONE, TWO)
    assert look(copy) == before
    isolation.replace(ONE, None)
    assert buckets(copy) == {EXPECTED}
    assert keys(copy) == []
    assert isolation.found() == {ONE.id, TWO.id, TEMPLATE.id}


def test_a_drop_removes_versions_uploads_and_many_objects(isolation: S3Isolation, space: S3) -> None:
    client = space.client()
    client.put_bucket_versioning(Bucket=EXPECTED, VersioningConfiguration={"Status": "Enabled"})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: client.put_object(Bucket=EXPECTED, Key=f"many/{n}", Body=b""), range(150)))
    client.delete_object(Bucket=EXPECTED, Key="many/1")
    client.create_multipart_upload(Bucket=EXPECTED, Key="open")
    client.create_bucket(Bucket="more")
    client.create_multipart_upload(Bucket="more", Key="open")

    isolation.drop(ONE)
    isolation.drop(ONE)

    assert buckets(isolation.bound(OWN)) == {EXPECTED}
    assert keys(isolation.bound(OWN)) == ["own"]
    isolation.create(ONE)
    answer = client.list_multipart_uploads(Bucket=EXPECTED)
    assert "Uploads" not in answer
    assert "Versions" not in client.list_object_versions(Bucket=EXPECTED)


def test_what_is_left_of_an_earlier_space_goes_first(isolation: S3Isolation, space: S3) -> None:
    space.client().put_object(Bucket=EXPECTED, Key="old", Body=b"x")
    space.client().create_bucket(Bucket="old")

    isolation.create(ONE)

    assert buckets(space) == {EXPECTED}
    assert keys(space) == []


@pytest.mark.long_on
def test_locked_objects(isolation: S3Isolation) -> None:
    isolation.create(ONE)
    client = isolation.bound(ONE).client()
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    client.put_object(
        Bucket="locked", Key="key", Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate="2099-01-01"
    )

    isolation.drop(ONE)

    assert buckets(isolation.bound(OWN)) == {EXPECTED}


def test_an_object_that_is_too_large_is_said_before_anything_changes(
    isolation: S3Isolation, space: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.client().put_object(Bucket=EXPECTED, Key="kept", Body=b"x")
    isolation.bound(OWN).client().put_object(Bucket=EXPECTED, Key="large", Body=bytes(100))
    # The limit itself cannot be reached here: 5 GB would have to be stored.
    monkeypatch.setattr(s3_copy, "_LARGEST", 99)

    with pytest.raises(IsolationFailed, match="triton-documents/large is too large"):
        isolation.create(TWO, OWN)
    with pytest.raises(IsolationFailed, match="triton-documents/large is too large"):
        isolation.replace(ONE, OWN)

    assert keys(space) == ["kept"]
    assert isolation.found() == {"triton_ns_one"}


def test_clear_leaves_what_is_kept(isolation: S3Isolation, space: S3) -> None:
    space.client().put_object(Bucket=EXPECTED, Key="kept", Body=b"x")
    isolation.create(TWO)
    own = isolation.bound(OWN)
    own.client().create_bucket(Bucket="more")

    isolation.clear([ONE])

    assert buckets(own) == {EXPECTED, REAL}
    assert keys(own) == []
    assert keys(space) == ["kept"]


def test_another_region(embedded_packages: None) -> None:
    settings = Settings(aws_default_region="eu-west-1")
    with TritonEnvironment(settings, runtime="embedded", services=("s3",)) as environment:
        environment.s3.client(region_name="us-east-1").create_bucket(Bucket="far")
        isolation = S3Isolation(environment.s3)
        try:
            isolation.create(TWO)
            isolation.create(ONE, OWN)
            isolation.create(ONE, OWN)
        finally:
            isolation.close()
        copy = isolation.bound(ONE).client()
        assert copy.get_bucket_location(Bucket=EXPECTED)["LocationConstraint"] == "eu-west-1"
        assert copy.get_bucket_location(Bucket="far")["LocationConstraint"] is None


def test_several_at_once(isolation: S3Isolation) -> None:
    isolation.bound(OWN).client().put_object(Bucket=EXPECTED, Key="key", Body=b"x")
    spaces = [Space(f"triton_ns_{number}") for number in range(12)]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda each: isolation.create(each, OWN), spaces))
        assert isolation.found() == {each.id for each in spaces}
        assert list(pool.map(lambda each: keys(isolation.bound(each)), spaces)) == [["key"]] * 12
        list(pool.map(isolation.drop, spaces))
    assert isolation.found() == frozenset()


@pytest.mark.long_on("docker", "seaweedfs")
def test_what_vanishes_while_a_snapshot_is_taken(
    isolation: S3Isolation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = isolation.bound(OWN).client()
    for key in ("gone at first", "gone later", "kept"):
        own.put_object(Bucket=EXPECTED, Key=key, Body=b"x")
    own.create_bucket(Bucket="gone")
    listed, copied = s3_copy.versions_by_key, s3_copy.copy_bucket

    def listed_and_deleted(client: Any, bucket: str, **options: Any) -> Any:
        found = list(listed(client, bucket, **options))
        if bucket == EXPECTED:
            own.delete_object(Bucket=EXPECTED, Key="gone at first")
        else:
            own.delete_bucket(Bucket="gone")
            found = list(listed(client, bucket, **options))
        return iter(found)

    def deleted_and_copied(*arguments: Any, **options: Any) -> None:
        own.delete_object(Bucket=EXPECTED, Key="gone later")
        copied(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(s3_copy, "versions_by_key", listed_and_deleted)
        patched.setattr(s3_module, "copy_bucket", deleted_and_copied)
        isolation.create(TEMPLATE, OWN)
    assert [each.getMessage() for each in caplog.records if "left out" in each.getMessage()] == [
        f"S3: Deleted while they were read, so left out: gone, {EXPECTED}/gone at first.",
        f"S3: Deleted while they were read, so left out: {EXPECTED}/gone later.",
    ]
    isolation.create(ONE, TEMPLATE)
    assert keys(isolation.bound(ONE)) == ["kept"]

    # Gone from what others rely on, it is not silently left out.
    time.sleep(2.1)
    isolation.create(TWO, TEMPLATE)
    isolation.bound(TEMPLATE).client().delete_object(Bucket=EXPECTED, Key="kept")
    with pytest.raises(IsolationFailed, match=r"no longer complete in S3: .*kept\sis\sgone"):
        isolation.create(ONE, TEMPLATE)
    assert isolation.found() == {TEMPLATE.id, TWO.id}


# SeaweedFS has neither all of these properties nor keys that are not paths.
@pytest.mark.parametrize("env", RUNTIMES, indirect=True)
@pytest.mark.long_on("embedded")
def test_odd_keys(isolation: S3Isolation, env: TritonEnvironment, tmp_path: Path) -> None:
    own = isolation.bound(OWN).client()
    odd = ["a+b %2F&=", "ü/😀", " lead", "a//b", "./x", "/abs", "<&>\"'", "trail/"]
    # moto lists the first of these as the second, which it does not take.
    odd += ["a\rb", "a\nb"] if env.runtime == "docker" else []
    for key in odd:
        own.put_object(Bucket=EXPECTED, Key=key, Body=key.encode(), Tagging="a%2Bb=c+d%3D")

    def found(service: S3) -> dict[str, tuple[bytes, list[tuple[str, str]]]]:
        client = service.client()
        where = [{"Bucket": EXPECTED, "Key": key} for key in keys(service)]
        return {
            each["Key"]: (
                client.get_object(**each)["Body"].read(),
                sorted((tag["Key"], tag["Value"]) for tag in client.get_object_tagging(**each)["TagSet"]),
            )
            for each in where
        }

    before = found(isolation.bound(OWN))
    assert sorted(before) == sorted(odd)
    isolation.create(ONE, OWN)
    assert found(isolation.bound(ONE)) == before
    backup.create(env, tmp_path / "odd", services=("s3",))
    backup.restore(env, tmp_path / "odd", services=("s3",), replace=True)
    assert found(isolation.bound(OWN)) == before
