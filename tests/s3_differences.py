"""What the S3 servers answer in different ways: each difference with a probe that asks for it.

`tests/contract/test_s3_servers.py` asks each server, and `scripts/s3_table.py` writes the table of
docs/reference/runtimes.md from here, so what that says was answered.
"""

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

SERVERS: Mapping[str, str] = {"localstack": "LocalStack 4.14", "moto": "moto 5.2", "seaweedfs": "SeaweedFS 4.48"}
"""By the value of TRITON_S3_SERVER, the server and its version."""


@dataclass(frozen=True)
class Difference:
    """One line of the table.

    Attributes:
        subject: what is asked, in words.
        probe: asks for it with a client of one bucket that is empty, by its name; gives the answer in words.
        aws: the answer of S3 itself, by its documentation.
        localstack: that of LocalStack.
        moto: that of moto.
        seaweedfs: that of SeaweedFS.
    """

    subject: str
    probe: Callable[[Any, str], str]
    aws: str
    localstack: str
    moto: str
    seaweedfs: str


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    """The code with which a call is refused; empty where it is not."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def refused(call: Callable[..., Any], **arguments: Any) -> str:
    """Whether a call is refused, in one word."""
    return "refused" if refusal(call, **arguments) else "accepted"


def keys(client: Any, bucket: str, **options: Any) -> list[str]:
    """The keys of a bucket, as they are listed."""
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket, **options).get("Contents", ())]


def put(client: Any, bucket: str, *names: str) -> None:
    """Put objects that hold their own keys."""
    for name in names:
        client.put_object(Bucket=bucket, Key=name, Body=name.encode())


def kept(client: Any, bucket: str, *names: str) -> str:
    """Whether all of these objects are there, each with its own content, after they were put one after another."""
    for name in names:
        if refusal(client.put_object, Bucket=bucket, Key=name, Body=name.encode()):
            return "refused"
    for name in names:
        with suppress(Exception):
            if client.get_object(Bucket=bucket, Key=name)["Body"].read() == name.encode():
                continue
        return "one is lost"
    return "all are kept" if sorted(keys(client, bucket)) == sorted(names) else "one is not listed"


def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str]]:
    """The status and the headers of an answer to a plain request."""
    try:
        request = urllib.request.Request(url, method=method, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=200) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def other_client(client: Any, **options: Any) -> Any:
    """A client of the same server with other keys."""
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url=client.meta.endpoint_url, region_name="us-east-1", config=config, **options)


def wrong_secret(client: Any, bucket: str) -> str:
    key = client._request_signer._credentials.access_key
    other = other_client(client, aws_access_key_id=key, aws_secret_access_key="wrong")
    return refused(other.list_objects_v2, Bucket=bucket)


def without_signature(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    status, _ = asked(f"{client.meta.endpoint_url}/{bucket}/key")
    return "refused" if status == 403 else "accepted"


def expired_url(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    with patch("botocore.auth.get_current_datetime", return_value=datetime.now(UTC) - timedelta(hours=1)):
        signed = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"}, ExpiresIn=60)
    return "refused" if asked(signed)[0] == 403 else "accepted"


def public_by_acl(client: Any, bucket: str) -> str:
    controls: Any = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=controls)
    with suppress(ClientError):
        client.delete_public_access_block(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="key", Body=b"x", ACL="public-read")
    return "to be read" if asked(f"{client.meta.endpoint_url}/{bucket}/key")[0] == 200 else "refused"


def set_policy(client: Any, bucket: str, statement: Mapping[str, str]) -> None:
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def denied(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    resource = f"arn:aws:s3:::{bucket}/*"
    set_policy(client, bucket, {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resource})
    answers = {"GET": client.get_object, "HEAD": client.head_object}
    codes = {name: refusal(call, Bucket=bucket, Key="key") for name, call in answers.items()}
    found = [name for name, code in codes.items() if code in ("AccessDenied", "403")]
    client.delete_bucket_policy(Bucket=bucket)
    return f"{' and '.join(found)} refused" if found else "not applied"


def policy_of_another(client: Any, bucket: str) -> str:
    resource = "arn:aws:s3:::triton-another/*"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    return refused(set_policy, client=client, bucket=bucket, statement=statement)


def other_origin(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    signed = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    status, headers = asked(signed, Origin="https://page.example")
    if status == 403:
        return "refused"
    return "readable by the page" if headers.get("Access-Control-Allow-Origin") else "not readable by the page"


def suspended(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    for status in ("Enabled", "Suspended"):
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        client.put_object(Bucket=bucket, Key="key", Body=b"old")
    client.put_object(Bucket=bucket, Key="key", Body=b"new")
    return "the newest" if client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"new" else "an older one"


def put_again(client: Any, bucket: str) -> str:
    for status in ("Enabled", "Suspended"):
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    put(client, bucket, "key")
    client.delete_object(Bucket=bucket, Key="key")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(client, bucket, "key")
    return "it is gone" if refusal(client.get_object, Bucket=bucket, Key="key") else "the newest"


def customer_key(client: Any, bucket: str) -> str:
    secret: Any = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"0" * 32}
    client.put_object(Bucket=bucket, Key="key", Body=b"x", **secret)
    return "with the key alone" if refusal(client.get_object, Bucket=bucket, Key="key") else "without the key"


def kms(client: Any, bucket: str) -> str:
    where: Any = {"Bucket": bucket, "Key": "key"}
    if refusal(client.put_object, **where, Body=b"x", ServerSideEncryption="aws:kms"):
        return "refused"
    return "named" if client.head_object(**where).get("SSEKMSKeyId") else "not named"


def wrong_checksum(client: Any, bucket: str) -> str:
    return refused(
        client.put_object, Bucket=bucket, Key="key", Body=b"x", ChecksumCRC64NVME=b64encode(bytes(8)).decode()
    )


def part_of_object(client: Any, bucket: str) -> str:
    where: Any = {"Bucket": bucket, "Key": "key"}
    upload: Any = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    bodies = (b"a" * (5 << 20), b"b")
    parts: Any = [
        {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return "that part" if client.get_object(**where, PartNumber=2)["Body"].read() == b"b" else "another answer"


def next_marker(client: Any, bucket: str) -> str:
    put(client, bucket, "a", "b/1", "c")
    found = client.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=2).get("NextMarker")
    return "the last entry" if found == "b/" else "something else"


def start_after_folder(client: Any, bucket: str) -> str:
    put(client, bucket, "a", "b/c")
    return "the keys below" if keys(client, bucket, StartAfter="b") == ["b/c"] else "nothing"


def order(client: Any, bucket: str) -> str:
    names = ["a", "a-b", "a/b", "a0"]
    put(client, bucket, *reversed(names))
    return "by bytes" if keys(client, bucket) == names else "folder by folder"


def key_and_folder(client: Any, bucket: str) -> str:
    return kept(client, bucket, "a", "a/b", "a/")


def folder_with_content(client: Any, bucket: str) -> str:
    return kept(client, bucket, "a/")


def double_slash(client: Any, bucket: str) -> str:
    return kept(client, bucket, "a//b", "a/b")


def leading_slash(client: Any, bucket: str) -> str:
    return kept(client, bucket, "/a", "a")


def dots(client: Any, bucket: str) -> str:
    return kept(client, bucket, "a/../b")


def backslash(client: Any, bucket: str) -> str:
    return kept(client, bucket, "a\\b", "a/b")


def long_name(client: Any, bucket: str) -> str:
    return kept(client, bucket, "k" * 256)


def special_name(client: Any, bucket: str) -> str:
    return kept(client, bucket, "a.versions/b")


def emptied_folder(client: Any, bucket: str) -> str:
    put(client, bucket, "a/b")
    client.delete_object(Bucket=bucket, Key="a/b")
    return "listed" if client.list_objects_v2(Bucket=bucket, Delimiter="/").get("CommonPrefixes") else "gone"


def content_type(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    return f"`{client.head_object(Bucket=bucket, Key='key').get('ContentType')}`"


def expiration(client: Any, bucket: str) -> str:
    rule: Any = {"ID": "rule", "Status": "Enabled", "Filter": {"Prefix": "t/"}, "Expiration": {"Days": 3}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    put(client, bucket, "t/x")
    return "sent" if "Expiration" in client.head_object(Bucket=bucket, Key="t/x") else "missing"


def website(client: Any, bucket: str) -> str:
    page: Any = {"IndexDocument": {"Suffix": "index.html"}}
    return refused(client.put_bucket_website, Bucket=bucket, WebsiteConfiguration=page)


def request_payment(client: Any, bucket: str) -> str:
    payer: Any = {"Payer": "Requester"}
    if refusal(client.put_bucket_request_payment, Bucket=bucket, RequestPaymentConfiguration=payer):
        return "refused"
    return "kept" if client.get_bucket_request_payment(Bucket=bucket).get("Payer") == "Requester" else "ignored"


def public_access_block(client: Any, bucket: str) -> str:
    block: Any = {"BlockPublicAcls": True}
    return refused(client.put_public_access_block, Bucket=bucket, PublicAccessBlockConfiguration=block)


def conditional_delete(client: Any, bucket: str) -> str:
    put(client, bucket, "key")
    return refusal(client.delete_object, Bucket=bucket, Key="key", IfMatch='"0"') or "accepted"


def archived(client: Any, bucket: str) -> str:
    client.put_object(Bucket=bucket, Key="key", Body=b"x", StorageClass="GLACIER")
    return "refused until it is restored" if refusal(client.get_object, Bucket=bucket, Key="key") else "handed out"


DIFFERENCES = (
    Difference("The order of keys in a list", order, "by bytes", "by bytes", "by bytes", "folder by folder"),
    Difference(
        "The keys `a`, `a/b` and `a/`, put one after another",
        key_and_folder,
        "all are kept",
        "all are kept",
        "all are kept",
        "one is lost",
    ),
    Difference(
        "A key that ends in `/`, with content",
        folder_with_content,
        "all are kept",
        "all are kept",
        "all are kept",
        "one is lost",
    ),
    Difference(
        "The keys `a//b` and `a/b`",
        double_slash,
        "all are kept",
        "all are kept",
        "all are kept",
        "one is lost",
    ),
    Difference("The keys `/a` and `a`", leading_slash, "all are kept", "all are kept", "all are kept", "one is lost"),
    Difference("The keys `a\\b` and `a/b`", backslash, "all are kept", "all are kept", "all are kept", "one is lost"),
    Difference("The key `a/../b`", dots, "all are kept", "all are kept", "all are kept", "refused"),
    Difference(
        "The key `a.versions/b`",
        special_name,
        "all are kept",
        "all are kept",
        "all are kept",
        "one is not listed",
    ),
    Difference("A key of 256 letters", long_name, "all are kept", "all are kept", "all are kept", "refused"),
    Difference("The common prefix of a key that was deleted", emptied_folder, "gone", "gone", "gone", "listed"),
    Difference(
        "What is listed after `b` where there is `b/c`",
        start_after_folder,
        "the keys below",
        "the keys below",
        "the keys below",
        "nothing",
    ),
    Difference(
        "`NextMarker` of the first list API",
        next_marker,
        "the last entry",
        "the last entry",
        "something else",
        "the last entry",
    ),
    Difference(
        "GET of an object from before versioning that was put twice while that was suspended",
        suspended,
        "the newest",
        "an older one",
        "the newest",
        "the newest",
    ),
    Difference(
        "GET of an object that was deleted while versioning was suspended, and put again afterwards",
        put_again,
        "the newest",
        "the newest",
        "the newest",
        "it is gone",
    ),
    Difference(
        "GET of one part of an object that came in parts",
        part_of_object,
        "that part",
        "that part",
        "another answer",
        "that part",
    ),
    Difference("A wrong checksum (CRC64NVME)", wrong_checksum, "refused", "refused", "accepted", "refused"),
    Difference(
        "An object encrypted with a key of the client (SSE-C) is given out",
        customer_key,
        "with the key alone",
        "with the key alone",
        "without the key",
        "with the key alone",
    ),
    Difference(
        "The key of an object encrypted with `aws:kms`, where no key was asked for",
        kms,
        "named",
        "named",
        "not named",
        "refused",
    ),
    Difference(
        "The content type of an object that was put without one",
        content_type,
        "`binary/octet-stream`",
        "`binary/octet-stream`",
        "`binary/octet-stream`",
        "`text/plain; charset=utf-8`",
    ),
    Difference(
        "GET of an object of the storage class GLACIER",
        archived,
        "refused until it is restored",
        "refused until it is restored",
        "refused until it is restored",
        "handed out",
    ),
    Difference("The expiration header of a lifecycle", expiration, "sent", "sent", "missing", "missing"),
    Difference(
        "DELETE with an `If-Match` that does not match",
        conditional_delete,
        "PreconditionFailed",
        "NotImplemented",
        "PreconditionFailed",
        "PreconditionFailed",
    ),
    Difference("A configuration as a website", website, "accepted", "accepted", "accepted", "refused"),
    Difference("A block of public access", public_access_block, "accepted", "accepted", "accepted", "refused"),
    Difference("Request payment", request_payment, "kept", "kept", "ignored", "refused"),
    Difference("A bucket policy about another bucket", policy_of_another, "refused", "accepted", "accepted", "refused"),
    Difference(
        "A bucket policy that denies `s3:GetObject`",
        denied,
        "GET and HEAD refused",
        "not applied",
        "GET and HEAD refused",
        "GET and HEAD refused",
    ),
    Difference("An object made public by its ACL", public_by_acl, "to be read", "to be read", "to be read", "refused"),
    Difference("A wrong secret key", wrong_secret, "refused", "accepted", "refused", "refused"),
    Difference("A request without a signature", without_signature, "refused", "accepted", "refused", "refused"),
    Difference("A presigned URL that has expired", expired_url, "refused", "accepted", "refused", "refused"),
    Difference(
        "A presigned URL, used by a web page of another origin",
        other_origin,
        "not readable by the page",
        "refused",
        "refused",
        "not readable by the page",
    ),
)
"""The table, line by line: keys and lists, objects, buckets, who may do what."""
