"""Buckets full of all kinds of objects, and how a client sees them."""

import hashlib
import random
from typing import Any

from triton_env import TritonEnvironment

LARGE = random.Random(7).randbytes(20 * 2**20)
"""An object that is uploaded in parts."""


def fill_s3(env: TritonEnvironment, *, has_large: bool = True) -> None:
    client = env.s3.client()
    own = env.s3.bucket
    client.put_object(
        Bucket=own,
        Key="plain/ä b+c%.txt",
        Body=b"text",
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="x.txt"',
        ContentLanguage="de",
        ContentEncoding="identity",
        Expires="Wed, 21 Oct 2037 07:28:00 GMT",
        Metadata={"claim": "17", "mixed-case": "Value with spaces"},
        Tagging="state=open&who=a%20b",
    )
    client.put_object(Bucket=own, Key="public", Body=b"", ACL="public-read")
    client.put_object(Bucket=own, Key="binary", Body=bytes(range(256)))
    for number in range(4):
        client.put_object(Bucket=own, Key=f"many/{number}", Body=str(number).encode())
    if has_large:
        _put_in_parts(client, own, "large", LARGE)
    client.create_bucket(Bucket="versions", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_object(Bucket="versions", Key="old", Body=b"before versioning")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        client.put_object(Bucket="versions", Key="key v", Body=b"%d" % number, Metadata={"n": str(number)})
    client.delete_object(Bucket="versions", Key="key v")
    client.put_object(Bucket="versions", Key="key v", Body=b"again")
    client.put_object(Bucket="versions", Key="old", Body=b"with versioning")
    client.put_object(Bucket="versions", Key="deleted", Body=b"x")
    client.delete_object(Bucket="versions", Key="deleted")
    client.put_bucket_cors(
        Bucket="versions",
        CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"]}]},
    )
    client.put_bucket_lifecycle_configuration(
        Bucket="versions",
        LifecycleConfiguration={
            "Rules": [{"ID": "one", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 9}}]
        },
    )
    client.put_bucket_website(Bucket="versions", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
    client.put_bucket_tagging(Bucket="versions", Tagging={"TagSet": [{"Key": "team", "Value": "claims"}]})
    client.put_bucket_policy(
        Bucket="versions",
        Policy='{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",'
        ' "Resource": "arn:aws:s3:::versions/no/*"}]}',
    )
    client.create_bucket(Bucket="empty-bucket")
    client.put_bucket_acl(Bucket="empty-bucket", ACL="public-read")


def _put_in_parts(client: Any, bucket: str, key: str, body: bytes) -> None:
    parts = 7 * 2**20
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType="application/x-large")
    done: Any = []
    for number, start in enumerate(range(0, len(body), parts), start=1):
        where: Any = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"], "PartNumber": number}
        done.append(
            {"PartNumber": number, "ETag": client.upload_part(**where, Body=body[start : start + parts])["ETag"]}
        )
    client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload["UploadId"], MultipartUpload={"Parts": done}
    )


_S3_CONFIGURATION = {
    "get_bucket_location": ("LocationConstraint",),
    "get_bucket_versioning": ("Status",),
    "get_bucket_cors": ("CORSRules",),
    "get_bucket_lifecycle_configuration": ("Rules",),
    "get_bucket_website": ("IndexDocument",),
    "get_bucket_tagging": ("TagSet",),
    "get_bucket_policy": ("Policy",),
    "get_bucket_acl": ("Grants",),
}


def look_at_s3(env: TritonEnvironment) -> dict[str, Any]:
    client = env.s3.client()
    found: dict[str, Any] = {}
    for bucket in client.list_buckets()["Buckets"]:
        name = bucket["Name"]
        found[f"{name}?"] = {
            method: _answer(client, method, fields, name) for method, fields in _S3_CONFIGURATION.items()
        }
        page = client.list_object_versions(Bucket=name)
        for version in page.get("Versions", ()):
            where = {"Bucket": name, "Key": version["Key"]}
            if version["VersionId"] != "null":
                where["VersionId"] = version["VersionId"]
            answer = client.get_object(**where)
            body = hashlib.sha256(answer["Body"].read()).hexdigest()
            about = {key: answer.get(key) for key in _S3_HEADERS}
            # moto has no ACL for objects that came in parts, and for versions under a delete marker.
            has_acl = version["IsLatest"] and version["Key"] != "large"
            grants = client.get_object_acl(Bucket=name, Key=version["Key"])["Grants"] if has_acl else []
            acl = sorted(grant["Grantee"].get("URI", "owner") for grant in grants)
            tags = sorted((tag["Key"], tag["Value"]) for tag in client.get_object_tagging(**where)["TagSet"])
            is_null = version["VersionId"] == "null"
            found.setdefault(f"{name}/{version['Key']}", []).append(
                (version["IsLatest"], is_null, body, about, acl, tags)
            )
        for marker in page.get("DeleteMarkers", ()):
            found.setdefault(f"{name}/{marker['Key']}", []).append((marker["IsLatest"], "deleted"))
    return found


def _answer(client: Any, method: str, fields: tuple[str, ...], bucket: str) -> Any:
    try:
        answer = getattr(client, method)(Bucket=bucket)
    except client.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return [answer.get(field) for field in fields]


_S3_HEADERS = (
    *("ContentType", "CacheControl", "ContentDisposition", "ContentLanguage", "ContentEncoding", "Expires"),
    *("Metadata", "ContentLength", "TagCount"),
)
