"""Signatures for plain requests to S3: those that are asked so often, or by so short a command, that boto3 is too much.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import reduce
from urllib.parse import quote

_NOTHING = hashlib.sha256().hexdigest()
_UNRESERVED = "-_.~"


def target(path: str, query: Mapping[str, str]) -> str:
    """What is asked for in a request, as it is signed."""
    parameters = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(query.items()))
    return quote(path, f"/{_UNRESERVED}") + (f"?{parameters}" if query else "")


def signed(method: str, host: str, asked: str, key: tuple[str, str], region: str) -> dict[str, str]:
    """The headers of a request without a body.

    Args:
        host: as the header of that name has it.
        asked: from `target`.
        key: its id and its secret.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path, _, query = asked.partition("?")
    headers = {"host": host, "x-amz-content-sha256": _NOTHING, "x-amz-date": moment}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = "\n".join((method, path, query, lines, names, _NOTHING))
    scope = (moment[:8], region, "s3", "aws4_request")
    text = "\n".join(("AWS4-HMAC-SHA256", moment, "/".join(scope), hashlib.sha256(request.encode()).hexdigest()))
    signature = reduce(_hash, (*scope, text), f"AWS4{key[1]}".encode()).hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={key[0]}/{'/'.join(scope)}, SignedHeaders={names}, Signature="
    return headers | {"Authorization": authorization + signature}


def _hash(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _quoted(text: str) -> str:
    return quote(text, _UNRESERVED)
