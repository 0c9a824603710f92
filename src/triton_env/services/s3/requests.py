"""Plain requests to S3, for what asks little: loading boto3 and its description of S3 takes longer than such a command.

What is not answered as usual is left to boto3, which has words for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from triton_env.services import base
from triton_env.services.s3.signing import signed, target

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from triton_env.services.s3.service import S3

_READ_TIMEOUT = 10
"""Seconds. The first request may have to wait for the provider."""
_GOOD = 200


class UnusualError(OSError):
    """What came is not what boto3 would take for an answer."""


def answered(service: S3, bucket: str = "", **query: str) -> bytes:
    """What the server answers to a GET request.

    Args:
        bucket: its real name; empty for the server itself.
        **query: the parameters, with `_` for `-`.

    Raises:
        UnusualError: it does not answer well.
        TimeoutError: it does not answer.
    """
    from http.client import HTTPConnection, HTTPException

    asked = target(f"/{bucket}", {name.replace("_", "-"): value for name, value in query.items()})
    host = service.url.removeprefix("http://")
    headers = signed("GET", host, asked, (service.access_key, service.secret_key), service.region)
    try:
        with closing(HTTPConnection(service.host, service.port, timeout=base.CONNECT_TIMEOUT)) as connection:
            connection.connect()
            connection.sock.settimeout(_READ_TIMEOUT)
            connection.request("GET", asked, headers=headers)
            response = connection.getresponse()
            content = response.read()
    except TimeoutError:
        raise
    except (OSError, HTTPException) as error:
        raise UnusualError(str(error)) from error
    if response.status != _GOOD:
        raise UnusualError(f"status {response.status}")
    return content


def buckets_in(answer: bytes) -> dict[str, datetime]:
    """The buckets in the answer to the request that lists them, with their dates.

    Raises:
        UnusualError: the answer is something else.
    """
    return {
        _text(bucket, "Name"): _moment(_text(bucket, "CreationDate"))
        for bucket in _parsed(answer).findall("{*}Buckets/{*}Bucket")
    }


def buckets_of(service: S3) -> dict[str, datetime]:
    """The buckets of a server with their dates, by boto3 where that is needed."""
    try:
        return buckets_in(answered(service))
    except UnusualError:
        return {bucket["Name"]: bucket["CreationDate"] for bucket in service.client().list_buckets()["Buckets"]}


def pages(service: S3, bucket: str, prefix: str, delimiter: str, **options: str) -> Iterator[Mapping[str, Any]]:
    """The objects in a bucket as boto3's paginator of `list_objects_v2` yields them, with further parameters."""
    query = {"list_type": "2", "prefix": prefix, "encoding_type": "url", **options}
    if delimiter:
        query["delimiter"] = delimiter
    while True:
        root = _parsed(answered(service, bucket, **query))
        yield {
            "CommonPrefixes": [
                {"Prefix": unquote_plus(_text(folder, "Prefix"))} for folder in root.findall("{*}CommonPrefixes")
            ],
            "Contents": [
                {
                    "Key": unquote_plus(_text(item, "Key")),
                    "LastModified": _moment(_text(item, "LastModified")),
                    "Size": int(_text(item, "Size")),
                }
                for item in root.findall("{*}Contents")
            ],
        }
        if _text(root, "IsTruncated") != "true":
            return
        query["continuation_token"] = _text(root, "NextContinuationToken")


def _parsed(content: bytes) -> Element:
    from xml.etree.ElementTree import ParseError, fromstring

    try:
        return fromstring(content)  # noqa: S314 - of a server that this user uses anyway
    except ParseError as error:
        raise UnusualError(str(error)) from error


def _text(element: Element, name: str) -> str:
    found = element.findtext(f"{{*}}{name}")
    if found is None:
        raise UnusualError(f"no {name}")
    return found


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UnusualError(text) from error
