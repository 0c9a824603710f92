"""What the embedded S3 stores is what the request says that it sends."""

import base64
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Mapping

import pytest
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from triton_env import TritonEnvironment
from triton_env.servers.s3.bodies import check_body
from triton_env.servers.s3.signature import RefusedError
from triton_env.services import S3

BODY, OTHER = b"body", b"yobd"
TRAILER = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32"}


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def crc32(body: bytes) -> str:
    return base64_of(zlib.crc32(body).to_bytes(4, "big"))


def chunked(body: bytes, trailer: str) -> bytes:
    """As clients send it: two chunks, the second with a signature, and a checksum behind them."""
    return (
        b"%x\r\n%s\r\n" % (1, body[:1])
        + b"%x;chunk-signature=0123\r\n%s\r\n" % (len(body) - 1, body[1:])
        + f"0\r\nx-amz-checksum-crc32:{trailer}\r\n\r\n".encode()
    )


def sayings(body: bytes) -> dict[str, dict[str, str]]:
    """What the headers of a request may say about a body."""
    return {
        "XAmzContentSHA256Mismatch": {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()},
        "BadDigest MD5": {"content-md5": base64_of(hashlib.md5(body).digest())},
        "BadDigest CRC32": {"x-amz-checksum-crc32": crc32(body)},
        "BadDigest SHA1": {"x-amz-checksum-sha1": base64_of(hashlib.sha1(body).digest())},
        "BadDigest SHA256": {"x-amz-checksum-sha256": base64_of(hashlib.sha256(body).digest())},
    }


@pytest.mark.parametrize("what", sayings(BODY))
def test_a_body_is_compared_with_what_the_headers_say(what: str) -> None:
    body = io.BytesIO(BODY)
    check_body(sayings(BODY)[what], lambda: body, is_all=True)
    assert body.read() == BODY  # as it was, for what comes behind the door
    with pytest.raises(RefusedError) as refused:
        check_body(sayings(BODY)[what], lambda: io.BytesIO(OTHER), is_all=True)
    assert (refused.value.code, refused.value.status) == (what.split()[0], 400)


def test_a_checksum_behind_the_body_is_compared_too() -> None:
    check_body(TRAILER, lambda: io.BytesIO(chunked(BODY, crc32(BODY))), is_all=True)
    for sent, code in (
        (chunked(OTHER, crc32(BODY)), "BadDigest"),
        (chunked(BODY, "no digest"), "InvalidDigest"),
        (chunked(BODY, crc32(BODY))[:12], "IncompleteBody"),
        (b"zz\r\n", "IncompleteBody"),
    ):
        with pytest.raises(RefusedError) as refused:
            check_body(TRAILER, lambda sent=sent: io.BytesIO(sent), is_all=True)  # type: ignore[misc]
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("headers", "sent", "code"),
    [
        ({"x-amz-decoded-content-length": "5"}, chunked(BODY, crc32(BODY)), "IncompleteBody"),
        ({}, b"4\r\nbody\r\n0\r\n\r\n", "MalformedTrailerError"),
        ({}, chunked(BODY, crc32(BODY))[:-30], "MalformedTrailerError"),
        ({}, b"4\r\nbody\r\n0\r\nx-amz-checksum-sha256:AAAA\r\n\r\n", "MalformedTrailerError"),
    ],
)
def test_chunks_of_another_length_and_trailers_that_do_not_come_are_refused(
    headers: dict[str, str], sent: bytes, code: str
) -> None:
    check_body(
        TRAILER | {"x-amz-decoded-content-length": "4"}, lambda: io.BytesIO(chunked(BODY, crc32(BODY))), is_all=True
    )
    with pytest.raises(RefusedError) as refused:
        check_body(TRAILER | headers, lambda: io.BytesIO(sent), is_all=True)
    assert (refused.value.code, refused.value.status) == (code, 400)


def test_a_trailer_that_was_not_announced_is_passed_over() -> None:
    sent = chunked(BODY, crc32(BODY))[:-2] + b"x-amz-checksum-sha256:AAAA\r\n\r\n"
    check_body(TRAILER, lambda: io.BytesIO(sent), is_all=True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
        {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
        # Of an object whose parts were sent before.
        {"x-amz-checksum-crc32": "AAAAAA=="},
    ],
)
def test_what_says_nothing_about_the_body_costs_nothing(headers: dict[str, str]) -> None:
    check_body(headers, lambda: pytest.fail("the body was read"), is_all=False)


@pytest.fixture(scope="module")
def s3(embedded_packages: None) -> Iterator[S3]:
    with TritonEnvironment(services=("s3",), runtime="embedded") as env:
        yield env.s3


def put(s3: S3, sent: bytes, headers: Mapping[str, str]) -> tuple[int, list[bytes]]:
    """The status and the code of the answer to a request that is signed for BODY."""
    request = AWSRequest("PUT", f"{s3.endpoint_url}/{s3.bucket}/key", headers=dict(headers), data=BODY)
    keys = s3.environ()
    credentials = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    answer = urllib3.request("PUT", request.url, headers=dict(request.headers), body=sent)
    return answer.status, re.findall(rb"<Code>(.*?)</Code>", answer.data)


def test_another_body_than_the_signed_one_is_not_stored(s3: S3) -> None:
    assert put(s3, OTHER, {}) == (400, [b"XAmzContentSHA256Mismatch"])
    assert put(s3, BODY, {"Content-MD5": base64_of(hashlib.md5(OTHER).digest())}) == (400, [b"BadDigest"])
    client = s3.client()
    assert client.list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0
    assert put(s3, BODY, {"Content-MD5": base64_of(hashlib.md5(BODY).digest())}) == (200, [])
    assert client.get_object(Bucket=s3.bucket, Key="key")["Body"].read() == BODY


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_what_boto3_sends_with_a_checksum_is_stored(s3: S3, algorithm: str) -> None:
    client = s3.client()
    kept = {"Bucket": s3.bucket, "Key": "large", "ChecksumAlgorithm": algorithm}
    client.put_object(**kept, Body=BODY)  # type: ignore[arg-type]
    upload = client.create_multipart_upload(**kept)["UploadId"]  # type: ignore[arg-type]
    part = client.upload_part(**kept, UploadId=upload, PartNumber=1, Body=BODY)  # type: ignore[arg-type]
    client.complete_multipart_upload(
        Bucket=s3.bucket,
        Key="large",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert client.get_object(Bucket=s3.bucket, Key="large")["Body"].read() == BODY


def test_keys_may_have_line_feeds(s3: S3) -> None:
    client = s3.client()
    for key in ("a\nb", "\n", "folder\n/key"):
        client.put_object(Bucket=s3.bucket, Key=key, Body=key.encode())
        assert client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == key.encode()
        assert [each["Key"] for each in client.list_objects_v2(Bucket=s3.bucket, Prefix=key)["Contents"]] == [key]
        client.delete_object(Bucket=s3.bucket, Key=key)
        assert client.list_objects_v2(Bucket=s3.bucket, Prefix=key)["KeyCount"] == 0
