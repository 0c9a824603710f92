"""S3: every version, lock and property is kept or named, whatever happens while it is read."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from backup.conftest import Started
from backup.forging import rewritten
from triton_env import TritonEnvironment, backup
from triton_env.archive.archive import Archive
from triton_env.archive.records import read_records, write_record
from triton_env.archive.steps import Meter
from triton_env.errors import IsolationFailed, RestoreFailed
from triton_env.services.base_isolation import Space
from triton_env.services.s3 import backup as s3_backup
from triton_env.services.s3 import configuration, reading, upload
from triton_env.services.s3.isolation import S3Isolation
from triton_env.services.s3.restore import S3Restorer
from triton_env.services.s3.takeover import Plan, S3Takeover

pytestmark = [pytest.mark.timeout(300), pytest.mark.long_on("docker", "seaweedfs")]

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]
LATER = "2099-01-01T00:00:00+00:00"


@pytest.fixture(scope="module", params=[*RUNTIMES, "seaweedfs"])
def env(request: pytest.FixtureRequest, started: Started) -> TritonEnvironment:
    if request.param == "seaweedfs":
        return started("embedded", "s3", triton_s3_server="seaweedfs")
    return started(request.param, "s3")


@pytest.fixture
def s3(env: TritonEnvironment) -> Iterator[Any]:
    """A client of a server that is emptied afterwards."""
    client = env.s3.client()
    yield client
    for bucket in client.list_buckets()["Buckets"]:
        for version in client.list_object_versions(Bucket=bucket["Name"]).get("Versions", ()):
            where = {"Bucket": bucket["Name"], "Key": version["Key"], "VersionId": version["VersionId"]}
            if client.get_bucket_versioning(Bucket=bucket["Name"]).get("Status"):
                held = client.head_object(**where).get("ObjectLockLegalHoldStatus") == "ON"
                if held:
                    client.put_object_legal_hold(**where, LegalHold={"Status": "OFF"})
    env.reset()
    client.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s3.backup"


def make_bucket(client: Any, name: str, versioning: str = "", **options: Any) -> None:
    client.create_bucket(Bucket=name, **options)
    if versioning:
        set_versioning(client, name, versioning)


def set_versioning(client: Any, name: str, status: str) -> None:
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})


def contents(client: Any, bucket: str) -> dict[str, list[tuple[bool, bytes]]]:
    """By key its versions, the newest first: whether it has no id, and its content; and whether the key is deleted."""
    page = client.list_object_versions(Bucket=bucket)
    found: dict[str, list[Any]] = {}
    for version in page.get("Versions", ()):
        where = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
        body = client.get_object(**where)["Body"].read()
        found.setdefault(version["Key"], []).append((version["VersionId"] == "null", body))
    for marker in page.get("DeleteMarkers", ()):
        found.setdefault(marker["Key"], []).append(("deleted", marker["IsLatest"]))
    return found


@pytest.mark.long_on("embedded", "seaweedfs")
def test_each_version_keeps_its_own_content(env: TritonEnvironment, s3: Any, path: Path) -> None:
    make_bucket(s3, "claims")
    for key in ("first", "deleted", "alone"):
        s3.put_object(Bucket="claims", Key=key, Body=b"before versioning")
    set_versioning(s3, "claims", "Enabled")
    for number in range(3):
        s3.put_object(Bucket="claims", Key="first", Body=b"%d" % number)
        s3.put_object(Bucket="claims", Key="middle", Body=b"%d" % number)
    s3.delete_object(Bucket="claims", Key="deleted")
    set_versioning(s3, "claims", "Suspended")
    s3.put_object(Bucket="claims", Key="middle", Body=b"while suspended")
    s3.put_object(Bucket="claims", Key="newest", Body=b"while suspended")
    s3.put_object(Bucket="claims", Key="again", Body=b"lost")
    s3.delete_object(Bucket="claims", Key="again")
    set_versioning(s3, "claims", "Enabled")
    if env.settings.triton_s3_server != "seaweedfs":  # takes its newest version for deleted
        s3.put_object(Bucket="claims", Key="again", Body=b"again")
    s3.put_object(Bucket="claims", Key="middle", Body=b"last")
    before = contents(s3, "claims")

    assert backup.create(env, path, services=("s3",)).services["s3"].notes == ()
    env.snapshot("claims")
    s3.put_object(Bucket="claims", Key="first", Body=b"later")
    env.restore("claims")
    assert contents(s3, "claims") == before
    backup.restore(env, path, services=("s3",), replace=True)
    assert contents(s3, "claims") == before


def test_a_server_that_loses_versions_is_seen(env: TritonEnvironment, s3: Any, path: Path) -> None:
    make_bucket(s3, "claims", "Enabled")
    for number in range(2):
        s3.put_object(Bucket="claims", Key="key", Body=b"%d" % number)
    backup.create(env, path, services=("s3",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configuration, "apply", lambda *_, **__: [])
        # So that the second replaces the first.
        patch.setattr(upload.Uploads, "set_versioning", lambda *_: None)
        with pytest.raises(RestoreFailed, match=r"does not hold what was restored\. Nothing was changed") as raised:
            backup.restore(env, path, services=("s3",), replace=True)
    assert raised.value.cause.endswith("/key has 1 bytes instead of 1 bytes, 1 bytes")
    assert [body for _, body in contents(s3, "claims")["key"]] == [b"1", b"0"]


def test_what_vanishes_or_is_replaced_while_it_is_read(
    env: TritonEnvironment, s3: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = bytes(3 << 20)
    for bucket in ("going", "gone"):
        make_bucket(s3, bucket)
    for key in ("gone", "kept"):
        s3.put_object(Bucket="going", Key=key, Body=b"x")
    for key in ("grows", "large", "large and gone", "shrinks"):
        s3.put_object(Bucket="going", Key=key, Body=b"" if key == "grows" else large)
    listed, read, pieces = s3_backup.versions_by_key, s3_backup._read_bucket, reading.Reader._pieces

    def listed_and_changed(client: Any, bucket: str, **options: Any) -> Any:
        found = list(listed(client, bucket, **options))
        if bucket == "going":
            s3.delete_object(Bucket="going", Key="gone")
            s3.put_object(Bucket="going", Key="grows", Body=large)
            s3.put_object(Bucket="going", Key="shrinks", Body=b"")
        return iter(found)

    def gone_and_read(client: Any, bucket: str, notes: Any) -> Any:
        if bucket == "gone":
            s3.delete_bucket(Bucket="gone")
        return read(client, bucket, notes)

    changed: set[str] = set()

    def changed_in_between(self: Any, version: Any, found: Any) -> Iterator[bytes]:
        for piece in pieces(self, version, found):
            yield piece
            if version.key not in changed:
                changed.add(version.key)
                if version.key == "large":
                    s3.put_object(Bucket="going", Key="large", Body=b"y" * len(large))
                elif version.key == "large and gone":
                    s3.delete_object(Bucket="going", Key="large and gone")

    monkeypatch.setattr(s3_backup, "versions_by_key", listed_and_changed)
    monkeypatch.setattr(s3_backup, "_read_bucket", gone_and_read)
    monkeypatch.setattr(reading.Reader, "_pieces", changed_in_between)
    monkeypatch.setattr(reading, "_RANGE", 1 << 20)

    saved = backup.create(env, path, services=("s3",)).services["s3"]

    assert saved.contents == ("going", env.s3.bucket)
    assert saved.notes == ("Deleted while they were read, so left out: going/gone, going/large and gone, gone.",)
    s3.put_object(Bucket="going", Key="superfluous", Body=b"x")
    backup.restore(env, path, services=("s3",), replace=True)
    assert {key: found[0][1] for key, found in contents(s3, "going").items()} == {
        "grows": large,
        "kept": b"x",
        "large": b"y" * len(large),
        "shrinks": b"",
    }


# SeaweedFS does not have all of these properties.
@pytest.mark.parametrize("env", RUNTIMES, indirect=True)
@pytest.mark.long_on
def test_what_the_server_does_not_hand_out_is_named(env: TritonEnvironment, s3: Any, path: Path) -> None:
    own = env.s3.bucket
    s3.put_object(Bucket=own, Key="kept", Body=b"kept")
    for name in ("GLACIER", "DEEP_ARCHIVE"):
        s3.put_object(Bucket=own, Key=name, Body=b"x", StorageClass=name)
    s3.put_object(Bucket=own, Key="instant", Body=b"x", StorageClass="GLACIER_IR")
    left_out = [rf"{own}/{name} \(storage class {name}\)" for name in ("DEEP_ARCHIVE", "GLACIER")]
    if env.runtime == "docker":  # moto hands it out
        s3.put_object(Bucket=own, Key="sse-c", Body=b"x", SSECustomerAlgorithm="AES256", SSECustomerKey=b"0" * 32)
        left_out.append(rf"{own}/sse-c \(.+\)")
    sentence = f"does not hand out, so left out: {', '.join(left_out)}"

    (note,) = backup.create(env, path, services=("s3",)).services["s3"].notes
    assert re.search(sentence, note)
    with pytest.warns(UserWarning, match=sentence):
        env.snapshot("odd")
    env.restore("odd")
    kept = {key: found[0][1] for key, found in contents(s3, own).items()}
    assert kept == {"instant": b"x", "kept": b"kept"}
    backup.restore(env, path, services=("s3",), replace=True)
    assert {key: found[0][1] for key, found in contents(s3, own).items()} == kept


def test_locks_are_restored_and_checked_before_the_first_change(env: TritonEnvironment, s3: Any, path: Path) -> None:
    make_bucket(s3, "locked", ObjectLockEnabledForBucket=True)
    make_bucket(s3, "aaa")
    governed = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": LATER}
    s3.put_object(Bucket="locked", Key="governed", Body=b"x", **governed)
    s3.put_object(Bucket="locked", Key="large", Body=bytes(9 << 20), **governed)
    s3.put_object(Bucket="locked", Key="held", Body=b"x", ObjectLockLegalHoldStatus="ON")
    s3.put_object(Bucket="aaa", Key="key", Body=b"x")
    backup.create(env, path, services=("s3",))
    s3.put_object(Bucket="aaa", Key="later", Body=b"x")

    def restore() -> None:
        backup.restore(env, path, services=("s3",), replace=True)

    with pytest.raises(RestoreFailed, match=r"objects that are locked.*Nothing was changed") as refused:
        restore()
    assert refused.value.where == "locked/held (legal hold)"
    env.snapshot("locked")
    for bring_back in (lambda: env.restore("locked"), env.reset):
        with pytest.raises(IsolationFailed, match=r"locked/held \(legal hold\) is locked.*Nothing was changed"):
            bring_back()
    assert set(contents(s3, "aaa")) == {"key", "later"}

    def end_hold() -> None:
        version = s3.head_object(Bucket="locked", Key="held")["VersionId"]
        s3.put_object_legal_hold(Bucket="locked", Key="held", VersionId=version, LegalHold={"Status": "OFF"})

    def assert_restored(expected: set[str]) -> None:
        assert set(contents(s3, "aaa")) == expected
        assert s3.head_object(Bucket="locked", Key="held")["ObjectLockLegalHoldStatus"] == "ON"
        for key in ("governed", "large"):
            answer = s3.head_object(Bucket="locked", Key=key)
            assert (answer["ObjectLockMode"], answer["ObjectLockRetainUntilDate"].isoformat()) == ("GOVERNANCE", LATER)
        assert "Rule" not in s3.get_object_lock_configuration(Bucket="locked")["ObjectLockConfiguration"]

    end_hold()
    env.restore("locked")
    assert_restored({"key", "later"})
    # The holds in what triton-env made end with it.
    env.delete_snapshot("locked")
    end_hold()
    restore()
    assert_restored({"key"})


def test_a_policy_that_denies_to_delete_is_not_a_lock(env: TritonEnvironment, s3: Any, path: Path) -> None:
    make_bucket(s3, "denied")
    s3.put_object(Bucket="denied", Key="key", Body=b"1")
    actions = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket"]
    where = ["arn:aws:s3:::denied", "arn:aws:s3:::denied/*"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": actions, "Resource": where}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket="denied", Policy=json.dumps(policy))
    backup.create(env, path, services=("s3",))
    s3.put_object(Bucket="denied", Key="later", Body=b"2")
    backup.restore(env, path, services=("s3",), replace=True)
    assert set(contents(s3, "denied")) == {"key"}
    assert json.loads(s3.get_bucket_policy(Bucket="denied")["Policy"]) == policy


def test_properties_of_another_form_are_refused_before_anything_changes(
    env: TritonEnvironment, s3: Any, path: Path
) -> None:
    def changed(name: str, data: bytes) -> bytes:
        records = list(read_records(io.BytesIO(data)))
        records[0].header["configuration"]["logging"] = {"TargetBucket": "elsewhere"}
        stream = io.BytesIO()
        for record in records:
            write_record(stream, record)
        return stream.getvalue()

    s3.put_object(Bucket=env.s3.bucket, Key="key", Body=b"1")
    backup.create(env, path, services=("s3",))
    with pytest.raises(RestoreFailed, match=r"Nothing\s+was\s+changed") as raised:
        backup.restore(env, rewritten(path, path.with_name("forged"), changed), replace=True)
    assert "the logging of the bucket" in raised.value.cause
    assert set(contents(s3, env.s3.bucket)) == {"key"}


def test_a_namespace_that_compliance_keeps_on_the_server_says_so(embedded_packages: None) -> None:
    words = r"locked-ns-kept/key cannot be removed"
    # Nothing removes it before 2099 but the end of its server.
    with TritonEnvironment(runtime="embedded", services=("s3",)) as environment:
        isolation = S3Isolation(environment.s3)
        space = Space("triton_ns_kept")
        isolation.create(space)
        client = isolation.bound(space).client()
        make_bucket(client, "locked", ObjectLockEnabledForBucket=True)
        client.put_object(
            Bucket="locked", Key="key", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=LATER
        )
        with pytest.raises(IsolationFailed, match=words), pytest.warns(UserWarning, match=words):
            isolation.drop(space)
        isolation.close()


# SeaweedFS does not have all of these properties.
@pytest.mark.parametrize("env", RUNTIMES, indirect=True)
@pytest.mark.long_on("embedded", "seaweedfs")
def test_properties_of_buckets_and_objects_are_restored_or_named(env: TritonEnvironment, s3: Any, path: Path) -> None:
    make_bucket(s3, "reports", "Enabled")
    make_bucket(s3, "full", "Enabled")
    inventory: Any = {
        "Id": "all",
        "IsEnabled": True,
        "IncludedObjectVersions": "All",
        "Schedule": {"Frequency": "Daily"},
        "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::reports", "Format": "CSV"}},
    }
    queue = {"QueueArn": "arn:aws:sqs:us-east-1:000000000000:queue", "Events": ["s3:ObjectCreated:*"]}
    rule = {
        "ID": "all",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": "arn:aws:s3:::reports"},
    }
    s3.put_bucket_accelerate_configuration(Bucket="full", AccelerateConfiguration={"Status": "Suspended"})
    s3.put_bucket_inventory_configuration(Bucket="full", Id="all", InventoryConfiguration=inventory)
    s3.put_bucket_notification_configuration(
        Bucket="full", NotificationConfiguration={"QueueConfigurations": [queue]}, SkipDestinationValidation=True
    )
    s3.put_bucket_replication(
        Bucket="full", ReplicationConfiguration={"Role": "arn:aws:iam::000000000000:role/r", "Rules": [rule]}
    )
    retention = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket="full", ObjectLockConfiguration=retention)
    if env.runtime == "docker":  # moto ignores these, and wants an ACL for logging that it does not tell
        s3.put_bucket_request_payment(Bucket="full", RequestPaymentConfiguration={"Payer": "Requester"})
        s3.put_bucket_metrics_configuration(Bucket="full", Id="m", MetricsConfiguration={"Id": "m"})
        s3.put_bucket_analytics_configuration(
            Bucket="full", Id="a", AnalyticsConfiguration={"Id": "a", "StorageClassAnalysis": {}}
        )
        tiers: Any = {"Id": "i", "Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]}
        s3.put_bucket_intelligent_tiering_configuration(Bucket="full", Id="i", IntelligentTieringConfiguration=tiers)
        target = {"TargetBucket": "reports", "TargetPrefix": "log/"}
        s3.put_bucket_logging(Bucket="full", BucketLoggingStatus={"LoggingEnabled": target})
    own = env.s3.bucket
    key_id = "arn:aws:kms:us-east-1:000000000000:key/17"
    s3.put_object(Bucket=own, Key="kms", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId=key_id)
    s3.put_object(Bucket=own, Key="sha", Body=b"x", ChecksumAlgorithm="SHA256")
    s3.create_multipart_upload(Bucket=own, Key="open")
    before = configuration.read(s3, "full")
    unfinished = f"Uploads that are not complete are left out: {own}/open."

    assert backup.create(env, path, services=("s3",)).services["s3"].notes == (unfinished,)
    with pytest.warns(UserWarning, match=re.escape(unfinished)):
        env.snapshot("full")
    with env.namespace(template="full") as namespace:
        mine = namespace.s3.client()
        suffix = namespace.s3.bucket.removeprefix(own)
        # What happens in a namespace is not reported or replicated into the environment's own buckets.
        copied = configuration.read(mine, "full")
        assert copied == configuration.renamed(before, {"reports": f"reports{suffix}"}) != before
    for bring_back in (lambda: env.restore("full"), lambda: backup.restore(env, path, replace=True)):
        s3.delete_bucket(Bucket="full")
        bring_back()
        assert configuration.read(s3, "full") == before
        encrypted = s3.head_object(Bucket=own, Key="kms")
        assert (encrypted["ServerSideEncryption"], encrypted["SSEKMSKeyId"]) == ("aws:kms", key_id)
        assert s3.head_object(Bucket=own, Key="sha", ChecksumMode="ENABLED")["ChecksumSHA256"]


# SeaweedFS does not have all of these properties.
@pytest.mark.parametrize("env", RUNTIMES, indirect=True)
def test_a_restore_that_others_finish_sets_the_same_locks_and_properties(
    env: TritonEnvironment, s3: Any, path: Path
) -> None:
    make_bucket(s3, "reports", "Enabled")
    make_bucket(s3, "locked", ObjectLockEnabledForBucket=True)
    for number in range(2):
        s3.put_object(
            Bucket="locked", Key="key", Body=b"%d" % number, ObjectLockLegalHoldStatus="ON" if number else "OFF"
        )
        held = s3.head_object(Bucket="locked", Key="key")
    inventory: Any = {
        "Id": "all",
        "IsEnabled": True,
        "IncludedObjectVersions": "All",
        "Schedule": {"Frequency": "Daily"},
        "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::reports", "Format": "CSV"}},
    }
    s3.put_bucket_inventory_configuration(Bucket="locked", Id="all", InventoryConfiguration=inventory)
    before = configuration.read(s3, "locked"), contents(s3, "locked")
    backup.create(env, path, services=("s3",))
    s3.put_object_legal_hold(Bucket="locked", Key="key", VersionId=held["VersionId"], LegalHold={"Status": "OFF"})
    place: Any = None
    with Archive(path) as archive:
        restorer = S3Restorer(env.s3, place, archive, Meter("s3", lambda step: None), place, "triton_restore_01234567")
        restorer.check()
        plan = restorer.plan()
        restorer.stage()
    # Without the backup, from what was loaded, as after a kill; and once more, since that may be killed too.
    noted: list[dict[str, Any]] = []
    S3Takeover(env.s3, Plan(**plan), noted.append).finish()
    assert (configuration.read(s3, "locked"), contents(s3, "locked")) == before
    versions = s3.list_object_versions(Bucket="locked")["Versions"]
    holds = [
        s3.head_object(Bucket="locked", Key="key", VersionId=each["VersionId"]).get("ObjectLockLegalHoldStatus")
        for each in versions
    ]
    assert (holds[0], holds[1] or "OFF") == ("ON", "OFF")
    S3Takeover(env.s3, Plan(**noted[-1]), noted.append).finish()
    names = [each["Name"] for each in s3.list_buckets()["Buckets"]]
    assert not [name for name in names if name.startswith("triton-restore-")]


def test_no_property_that_boto3_knows_is_forgotten() -> None:
    client = boto3.client("s3", region_name="us-east-1")
    pattern = r"get_bucket_\w+|list_bucket_\w+_configurations|get_public_access_block|get_object_lock_configuration"
    known = {part.get for part in configuration.PARTS} | configuration.READ_OTHERWISE
    # One of a list that is read as a whole, and the older forms of two.
    known |= {re.sub("^list_(.+)s$", r"get_\1", name) for name in known}
    known |= {"get_bucket_lifecycle", "get_bucket_notification"}
    assert {name for name in client.meta.method_to_api_mapping if re.fullmatch(pattern, name)} - known == set()


def test_bodies_are_read_in_bounded_pieces(
    env: TritonEnvironment, s3: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_RANGE", 2 << 20)
    body = bytes(5 << 20)
    for number in range(3):
        s3.put_object(Bucket=env.s3.bucket, Key=f"large/{number}", Body=body)
        s3.put_object(Bucket=env.s3.bucket, Key=f"small/{number}", Body=b"x")
    asked: list[tuple[str, int]] = []
    client_of = s3_backup.threaded_client

    def watched(*arguments: Any, **options: Any) -> Any:
        client = client_of(*arguments, **options)

        def note(params: dict[str, Any], **_: Any) -> None:
            start, end = map(int, params["Range"].removeprefix("bytes=").split("-"))
            asked.append((params["Key"], end + 1 - start))

        client.meta.events.register("provide-client-params.s3.GetObject", note)
        return client

    monkeypatch.setattr(s3_backup, "threaded_client", watched)
    backup.create(env, path, services=("s3",))

    assert max(size for _, size in asked) <= 2 << 20
    large = [key for key, _ in asked if key.startswith("large/")]
    # One after another: what a server has in memory does not grow with the number of large objects.
    assert large == [f"large/{number}" for number in range(3) for _ in range(3)]
