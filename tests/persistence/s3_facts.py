"""Everything that the S3 API tells about its data, and data that has something of everything."""

import hashlib
import itertools
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from botocore.exceptions import ClientError

from persistence.localstack_server import ACCOUNTS, REGIONS, Server

BUCKET_FACTS = [
    "head_bucket",
    "get_bucket_location",
    "get_bucket_versioning",
    "get_bucket_tagging",
    "get_bucket_acl",
    "get_bucket_policy",
    "get_bucket_cors",
    "get_bucket_lifecycle_configuration",
    "get_bucket_website",
    "get_bucket_encryption",
    "get_public_access_block",
    "get_bucket_ownership_controls",
    "get_object_lock_configuration",
    "get_bucket_logging",
    "get_bucket_notification_configuration",
    "get_bucket_request_payment",
    "get_bucket_accelerate_configuration",
    "get_bucket_replication",
    "list_bucket_analytics_configurations",
    "list_bucket_inventory_configurations",
    "list_bucket_intelligent_tiering_configurations",
    "list_bucket_metrics_configurations",
    "list_objects_v2",
    "list_object_versions",
    "list_multipart_uploads",
]
VERSION_FACTS = ["get_object_tagging", "get_object_acl"]
LOCK_FACTS = [*VERSION_FACTS, "get_object_retention", "get_object_legal_hold"]
OF_THE_REQUEST = {"date", "x-amz-request-id", "x-amz-id-2"}
PART_SIZE = 5 * 1024 * 1024

Place = tuple[str, str]
"""An account and a region."""
EVERYWHERE: tuple[Place, ...] = tuple(itertools.product(ACCOUNTS, REGIONS))
WITH_EVERYTHING: tuple[Place, ...] = tuple(zip(ACCOUNTS, REGIONS, strict=True))


def ask(client: Any, operation: str, **parameters: Any) -> Any:
    """Return the answer, or the error, without what belongs to the request; a body by its hash."""
    try:
        answer = getattr(client, operation)(**parameters)
    except ClientError as error:
        answer = error.response
    metadata = answer.pop("ResponseMetadata")
    answer["headers"] = {name: text for name, text in metadata["HTTPHeaders"].items() if name not in OF_THE_REQUEST}
    answer["status"] = metadata["HTTPStatusCode"]
    for noise in ("RequestId", "HostId"):
        answer.get("Error", {}).pop(noise, None)
    if "Body" in answer:
        answer["Body"] = hashlib.sha256(answer["Body"].read()).hexdigest()
    return answer


def collect(server: Server, places: Iterable[Place] = EVERYWHERE) -> dict[str, Any]:
    """Return all that can be asked in accounts and regions, by a name for each question."""
    facts: dict[str, Any] = {}
    for account, region in places:
        client = server.s3(account, region)
        listed = ask(client, "list_buckets")
        facts[f"{account} {region} list_buckets"] = listed
        # The list has all regions of the account.
        for bucket in (entry["Name"] for entry in listed["Buckets"] if entry["BucketRegion"] == region):
            for operation in BUCKET_FACTS:
                facts[f"{account} {region} {bucket} {operation}"] = ask(client, operation, Bucket=bucket)
            _collect_objects(client, f"{account} {region} {bucket}", bucket, facts)
    return facts


def _collect_objects(client: Any, name: str, bucket: str, facts: dict[str, Any]) -> None:
    versions = facts[f"{name} list_object_versions"]
    for entry in versions.get("Versions", []):
        where = {"Bucket": bucket, "Key": entry["Key"]}
        if entry["VersionId"] != "null":
            where["VersionId"] = entry["VersionId"]
        label = f"{name} {entry['Key']} {entry['VersionId']}"
        for operation in LOCK_FACTS if "locked" in bucket else VERSION_FACTS:
            facts[f"{label} {operation}"] = ask(client, operation, **where)
        facts[f"{label} get_object"] = ask(client, "get_object", ChecksumMode="ENABLED", **where)
        facts[f"{label} head_object"] = ask(client, "head_object", ChecksumMode="ENABLED", **where)
        facts[f"{label} get_object_attributes"] = ask(
            client,
            "get_object_attributes",
            ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"],
            **where,
        )
        for part in (1, 2, 3) if "multipart" in entry["Key"] else ():
            facts[f"{label} part {part}"] = ask(client, "get_object", PartNumber=part, ChecksumMode="ENABLED", **where)
    for entry in versions.get("DeleteMarkers", []):
        where = {"Bucket": bucket, "Key": entry["Key"], "VersionId": entry["VersionId"]}
        facts[f"{name} {entry['Key']} {entry['VersionId']} head_object"] = ask(client, "head_object", **where)
    for key in {entry["Key"] for kind in ("Versions", "DeleteMarkers") for entry in versions.get(kind, [])}:
        facts[f"{name} {key} newest"] = ask(client, "get_object", Bucket=bucket, Key=key)
    for upload in facts[f"{name} list_multipart_uploads"].get("Uploads", []):
        where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        facts[f"{name} {upload['Key']} {upload['UploadId']} list_parts"] = ask(client, "list_parts", **where)


def bucket_of(kind: str, place: Place) -> str:
    """The name of the bucket of a kind that `fill` makes in an account and region."""
    account, region = place
    return f"{kind}-{account[:3]}-{region}"


def fill(server: Server, places: Iterable[Place]) -> None:
    """Put objects there in accounts and regions, in those of `WITH_EVERYTHING` something of everything."""
    for place in places:
        _, region = place
        client = server.s3(*place)
        _create(client, region, bucket_of("plain", place))
        _fill_plain(client, bucket_of("plain", place))
        if place not in WITH_EVERYTHING:
            continue
        for kind in ("configured", "versioned", "suspended", "locked"):
            _create(client, region, bucket_of(kind, place), ObjectLockEnabledForBucket=kind == "locked")
        _configure(client, bucket_of("configured", place))
        _fill_versioned(client, bucket_of("versioned", place))
        _fill_suspended(client, bucket_of("suspended", place))
        _fill_locked(client, bucket_of("locked", place))
        _create(client, region, bucket_of("gone", place))
        client.delete_bucket(Bucket=bucket_of("gone", place))


def _create(client: Any, region: str, bucket: str, **options: Any) -> None:
    if region != "us-east-1":
        options["CreateBucketConfiguration"] = {"LocationConstraint": region}
    client.create_bucket(Bucket=bucket, **options)


def _fill_plain(client: Any, bucket: str) -> None:
    client.put_object(
        Bucket=bucket,
        Key="with/all metadata ü.txt",
        Body=b"text" * 1000,
        ContentType="text/plain; charset=utf-8",
        ContentEncoding="identity",
        ContentLanguage="de",
        ContentDisposition='attachment; filename="a.txt"',
        CacheControl="max-age=60",
        Expires=datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC),
        Metadata={"owner": "someone", "$datetime": "2020-01-01", "empty": "", "also": "unsorted"},
        Tagging="place=here%20and%20there&colour=blue&a=last",
        StorageClass="STANDARD_IA",
        WebsiteRedirectLocation="/elsewhere",
        ACL="public-read",
    )
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        client.put_object(Bucket=bucket, Key=f"sum/{algorithm}", Body=algorithm.encode(), ChecksumAlgorithm=algorithm)
    # boto3 cannot work these out without a further package; their check values are in every catalogue of CRCs.
    client.put_object(Bucket=bucket, Key="sum/CRC32C", Body=b"123456789", ChecksumCRC32C="4waSgw==")
    client.put_object(Bucket=bucket, Key="sum/CRC64NVME", Body=b"123456789", ChecksumCRC64NVME="rosUhgp5mIg=")
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    form = client.generate_presigned_post(bucket, "form/${filename}")
    answer = requests.post(form["url"], data=form["fields"], files={"file": ("name.txt", b"by form")}, timeout=200)
    assert answer.status_code == 204, answer.text
    client.put_object(Bucket=bucket, Key="large", Body=b"0123456789" * 100_000)
    client.put_object(Bucket=bucket, Key="overwritten", Body=b"first", Tagging="old=1", Metadata={"old": "1"})
    client.put_object(Bucket=bucket, Key="overwritten", Body=b"second")
    client.put_object(Bucket=bucket, Key="deleted", Body=b"gone", Tagging="old=1")
    client.delete_object(Bucket=bucket, Key="deleted")
    client.put_object(Bucket=bucket, Key="deleted/1", Body=b"gone")
    client.put_object(Bucket=bucket, Key="deleted/2", Body=b"gone")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "deleted/1"}, {"Key": "deleted/2"}]})
    source = {"Bucket": bucket, "Key": "with/all metadata ü.txt"}
    client.copy_object(Bucket=bucket, Key="copied", CopySource=source)
    client.put_object(Bucket=bucket, Key="in place", Body=b"in place")
    client.copy_object(
        Bucket=bucket,
        Key="in place",
        CopySource={"Bucket": bucket, "Key": "in place"},
        MetadataDirective="REPLACE",
        Metadata={"replaced": "yes"},
    )
    client.put_object(Bucket=bucket, Key="archived", Body=b"cold", StorageClass="GLACIER")
    client.restore_object(Bucket=bucket, Key="archived", RestoreRequest={"Days": 3})
    client.put_object_tagging(Bucket=bucket, Key="empty", Tagging={"TagSet": [{"Key": "t", "Value": "ü"}]})
    client.put_object_tagging(Bucket=bucket, Key="large", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    client.delete_object_tagging(Bucket=bucket, Key="large")
    client.put_object_acl(Bucket=bucket, Key="empty", ACL="authenticated-read")
    upload_whole(client, bucket, "multipart/composite", ChecksumAlgorithm="SHA256")
    upload_whole(client, bucket, "multipart/full", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    upload_whole(client, bucket, "multipart/none", Tagging="many=parts", Metadata={"made": "of parts"})
    leave_open(client, bucket, "open", Tagging="still=open", ContentType="text/x-open", Metadata={"still": "open"})
    leave_open(client, bucket, "open", ChecksumAlgorithm="SHA256")
    aborted = client.create_multipart_upload(Bucket=bucket, Key="aborted")["UploadId"]
    client.upload_part(Bucket=bucket, Key="aborted", UploadId=aborted, PartNumber=1, Body=b"gone")
    client.abort_multipart_upload(Bucket=bucket, Key="aborted", UploadId=aborted)


def parts_of(client: Any, bucket: str, key: str, upload: str, **options: Any) -> list[dict[str, Any]]:
    """Upload two parts, numbered 2 and 3 so that a number is not an index, the second one by copying."""
    client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=2, Body=b"replaced", **options)
    first = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=2, Body=b"x" * PART_SIZE, **options)
    second = client.upload_part_copy(
        Bucket=bucket,
        Key=key,
        UploadId=upload,
        PartNumber=3,
        CopySource={"Bucket": bucket, "Key": "large"},
        CopySourceRange="bytes=10-99999",
    )["CopyPartResult"]
    told = {"ETag", *(f"Checksum{algorithm}" for algorithm in options.values())}
    return [{name: part[name] for name in told} | {"PartNumber": number} for number, part in ((2, first), (3, second))]


def upload_whole(client: Any, bucket: str, key: str, **options: Any) -> None:
    algorithm = {name: options[name] for name in ("ChecksumAlgorithm",) if name in options}
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    parts = parts_of(client, bucket, key, upload, **algorithm)
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def leave_open(client: Any, bucket: str, key: str, **options: Any) -> None:
    algorithm = {name: options[name] for name in ("ChecksumAlgorithm",) if name in options}
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    parts_of(client, bucket, key, upload, **algorithm)


def _configure(client: Any, bucket: str) -> None:
    arn = f"arn:aws:s3:::{bucket}"
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "team", "Value": "ü"}]})
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{arn}/*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"], "MaxAgeSeconds": 5}
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "by days",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "logs/"},
                    "Expiration": {"Days": 30},
                },
                {
                    "ID": "by date",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "tmp/"},
                    "Transitions": [{"Date": datetime(2041, 1, 1, tzinfo=UTC), "StorageClass": "GLACIER"}],
                },
            ]
        },
    )
    client.put_bucket_website(
        Bucket=bucket,
        WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}},
    )
    default = {"SSEAlgorithm": "AES256"}
    client.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    client.delete_public_access_block(Bucket=bucket)
    client.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    client.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": "Enabled"})
    client.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    client.put_bucket_logging(
        Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": bucket, "TargetPrefix": "log/"}}
    )
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    client.put_bucket_intelligent_tiering_configuration(
        Bucket=bucket,
        Id="tiers",
        IntelligentTieringConfiguration={
            "Id": "tiers",
            "Status": "Enabled",
            "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}],
        },
    )
    client.put_bucket_metrics_configuration(Bucket=bucket, Id="all", MetricsConfiguration={"Id": "all"})
    client.put_bucket_analytics_configuration(
        Bucket=bucket,
        Id="some",
        AnalyticsConfiguration={"Id": "some", "StorageClassAnalysis": {}, "Filter": {"Prefix": "a/"}},
    )
    client.put_bucket_inventory_configuration(
        Bucket=bucket,
        Id="weekly",
        InventoryConfiguration={
            "Id": "weekly",
            "IsEnabled": True,
            "IncludedObjectVersions": "All",
            "Schedule": {"Frequency": "Weekly"},
            "Destination": {"S3BucketDestination": {"Bucket": arn, "Format": "CSV"}},
        },
    )
    client.put_object(Bucket=bucket, Key="logs/expires", Body=b"x")


def _fill_versioned(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="before", Body=b"null version", Tagging="was=null")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=bucket, Key="before", Body=b"second")
    for number in range(3):
        client.put_object(Bucket=bucket, Key="three", Body=b"%d" % number, Tagging=f"number={number}")
    middle = client.put_object(Bucket=bucket, Key="two of three", Body=b"0")["VersionId"]
    client.put_object(Bucket=bucket, Key="two of three", Body=b"1")
    client.delete_object(Bucket=bucket, Key="two of three", VersionId=middle)
    client.put_object(Bucket=bucket, Key="marked", Body=b"hidden")
    client.delete_object(Bucket=bucket, Key="marked")
    client.put_object(Bucket=bucket, Key="back again", Body=b"seen")
    marker = client.delete_object(Bucket=bucket, Key="back again")["VersionId"]
    client.delete_object(Bucket=bucket, Key="back again", VersionId=marker)
    client.delete_object(Bucket=bucket, Key="only a marker")
    client.put_object(Bucket=bucket, Key="large", Body=b"l" * 200_000)
    upload_whole(client, bucket, "multipart")


def _fill_suspended(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"null 1")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=bucket, Key="a", Body=b"a version")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    client.put_object(Bucket=bucket, Key="a", Body=b"null 2")
    client.put_object(Bucket=bucket, Key="b", Body=b"null 1")
    client.put_object(Bucket=bucket, Key="b", Body=b"null 2")
    client.delete_object(Bucket=bucket, Key="b")
    client.put_object(Bucket=bucket, Key="c", Body=b"null 1")
    # The null version goes and comes back within one request, and with that to the end of the order.
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a", "VersionId": "null"}, {"Key": "a"}]})


def _fill_locked(client: Any, bucket: str) -> None:
    client.put_object(
        Bucket=bucket,
        Key="retained",
        Body=b"kept",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=2),
    )
    client.put_object(Bucket=bucket, Key="held", Body=b"kept")
    client.put_object_legal_hold(Bucket=bucket, Key="held", LegalHold={"Status": "ON"})
    client.put_object(Bucket=bucket, Key="retained later", Body=b"kept")
    client.put_object_retention(
        Bucket=bucket,
        Key="retained later",
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": datetime(2042, 1, 1, tzinfo=UTC)},
    )
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    client.put_object(Bucket=bucket, Key="retained by default", Body=b"kept")
