"""Plain requests to S3, for what asks little: loading boto3 and its description of S3 takes longer than such a command.

What is not answered as usual is left to boto3, which has words for it.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from triton_env.services import base
from triton_env.services.s3.signing import signed, target

if TYPE_CHECKING:
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
        UnusualError: it is no such answer.
    """
    from xml.etree.ElementTree import ParseError, fromstring

    try:
        found = fromstring(answer).findall("{*}Buckets/{*}Bucket")  # noqa: S314 - of a server that this user uses anyway
        return {
            bucket.findtext("{*}Name", ""): datetime.fromisoformat(bucket.findtext("{*}CreationDate", ""))
            for bucket in found
        }
    except (ParseError, ValueError) as error:
        raise UnusualError(str(error)) from error


def buckets_of(service: S3) -> dict[str, datetime]:
    """The buckets of a server with their dates, by boto3 where that is needed."""
    try:
        return buckets_in(answered(service))
    except UnusualError:
        return {bucket["Name"]: bucket["CreationDate"] for bucket in service.client().list_buckets()["Buckets"]}
