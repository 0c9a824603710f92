"""Who signed a request: AWS's signatures of version 4 and 2, in a header, in the URL or in a form.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import re
import time
from calendar import timegm
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes

from botocore.auth import HmacV1Auth

_UNRESERVED: Final = "-_.~"
_SUBRESOURCES: Final = frozenset(HmacV1Auth.QSAOfInterest)
_IS_HEADER: Final = re.compile("x-amz-|content-(md5|type)$", re.IGNORECASE)
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"


class RefusedError(Exception):
    """A request that is not answered: an error of S3, by its code and its text."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True, slots=True)
class Signed:
    """What of a request is signed.

    Attributes:
        method: of HTTP.
        path: as it was sent, without the query.
        query: as it was sent.
        bucket: the one that the host names, empty where the path does. Version 2 wants it in the path.
        headers: by lower-case name.
    """

    method: str
    path: str
    query: str
    bucket: str
    headers: Mapping[str, str]

    @property
    def parameters(self) -> dict[str, str]:
        """The query's parameters."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


class Signatures:
    """Knows the keys of one server, by id."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys

    def check(self, request: Signed, body: Callable[[], str]) -> bool:
        """Whether a request is signed, as it has to be.

        Args:
            body: a function that returns the body's SHA-256 in hexadecimal digits.

        Raises:
            RefusedError: it is signed with another key, for another service, or was good until some time ago.
        """
        authorization = request.headers.get("authorization", "")
        if authorization.startswith("AWS4-HMAC-SHA256"):
            self._check_header(request, authorization, body)
        elif authorization.startswith("AWS "):
            identity, _, signature = authorization.removeprefix("AWS ").strip().partition(":")
            date = "" if "x-amz-date" in request.headers else request.headers.get("date", "")
            self._check_version_2(request, identity, signature, date)
        elif authorization:
            raise RefusedError("InvalidArgument", "Unsupported Authorization Type", 400)
        else:
            return self._check_url(request)
        return True

    def check_form(self, fields: Mapping[str, str]) -> bool:
        """Whether the fields of a form, by lower-case name, are signed, as they have to be; see `check`."""
        policy = fields.get("policy", "")
        if "x-amz-signature" in fields:
            scope = _Scope.of(fields.get("x-amz-credential", ""))
            _compare([self._sign(scope, policy)], fields["x-amz-signature"])
        elif "signature" in fields:
            secret = self._secret(fields.get("awsaccesskeyid", ""))
            _compare([_version_2(secret, policy)], fields["signature"])
        else:
            return False
        return True

    def _check_header(self, request: Signed, authorization: str, body: Callable[[], str]) -> None:
        words = authorization.partition(" ")[2].split(",")
        parts = dict(word.strip().partition("=")[::2] for word in words)
        scope = _Scope.of(parts.get("Credential", ""))
        payload = request.headers.get("x-amz-content-sha256") or body()
        date = request.headers.get("x-amz-date") or request.headers.get("date", "")
        self._check_version_4(request, scope, parts.get("SignedHeaders", ""), date, payload, parts.get("Signature", ""))

    def _check_url(self, request: Signed) -> bool:
        given = request.parameters
        if "X-Amz-Signature" in given:
            scope = _Scope.of(given.get("X-Amz-Credential", ""))
            date = given.get("X-Amz-Date", "")
            payload = request.headers.get("x-amz-content-sha256", _UNSIGNED)
            headers = given.get("X-Amz-SignedHeaders", "")
            self._check_version_4(request, scope, headers, date, payload, given["X-Amz-Signature"])
            _check_time(_seconds(date) + _number(given.get("X-Amz-Expires", "")))
        elif "Signature" in given:
            expires = given.get("Expires", "")
            # Such a URL has what was signed as a header, a session token for instance.
            moved = {name.lower(): value for name, value in given.items() if _IS_HEADER.match(name)}
            request = replace(request, headers=moved | dict(request.headers))
            self._check_version_2(request, given.get("AWSAccessKeyId", ""), given["Signature"], expires)
            _check_time(_number(expires))
        else:
            return False
        return True

    def _check_version_4(
        self, request: Signed, scope: _Scope, signed: str, date: str, payload: str, signature: str
    ) -> None:
        if "host" not in signed.split(";"):
            raise RefusedError("AccessDenied", "There were headers present in the request which were not signed")
        headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed.split(";"))
        # Clients differ in what they escape, and in whether that is done before or after they sign.
        paths = dict.fromkeys((request.path, quote(unquote_to_bytes(request.path), safe=f"/{_UNRESERVED}")))
        queries = dict.fromkeys((_canonical(request.query), _canonical(request.query.replace("+", "%20"))))
        possible = []
        for path, query in product(paths, queries):
            canonical = "\n".join((request.method, path, query, headers, signed, payload))
            digest = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
            possible.append(self._sign(scope, "\n".join(("AWS4-HMAC-SHA256", date, scope.text, digest))))
        _compare(possible, signature)

    def _check_version_2(self, request: Signed, identity: str, signature: str, date: str) -> None:
        headers = request.headers
        amazon = sorted(f"{name}:{value.strip()}\n" for name, value in headers.items() if name.startswith("x-amz-"))
        parts = (unquote(part) for part in sorted(request.query.split("&")) if part.partition("=")[0] in _SUBRESOURCES)
        selected = "&".join(parts)
        lines = (request.method, headers.get("content-md5", ""), headers.get("content-type", ""), date)
        start = "\n".join((*lines, "".join(amazon))) + (f"/{request.bucket}" if request.bucket else "")
        end = f"?{selected}" if selected else ""
        # Some clients sign a slash after the bucket's name that they do not send.
        possible = [f"{start}{path}{end}" for path in (request.path, f"{request.path}/")]
        _compare([_version_2(self._secret(identity), text) for text in possible], signature)

    def _sign(self, scope: _Scope, text: str) -> str:
        key = _signing_key(self._secret(scope.identity), scope.date, scope.region)
        return hmac.new(key, text.encode("latin-1", "replace"), hashlib.sha256).hexdigest()

    def _secret(self, identity: str) -> str:
        try:
            return self._keys[identity]
        except KeyError:
            raise RefusedError(
                "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
            ) from None


@dataclass(frozen=True, slots=True)
class _Scope:
    """For what a signature of version 4 is good."""

    identity: str
    date: str
    region: str

    @property
    def text(self) -> str:
        return f"{self.date}/{self.region}/s3/aws4_request"

    @classmethod
    def of(cls, credential: str) -> _Scope:
        match credential.rsplit("/", 4):
            case [identity, date, region, "s3", "aws4_request"]:
                return cls(identity, date, region)
        raise RefusedError("AuthorizationHeaderMalformed", "This is S3 alone: the credential has to be for it.", 400)


@functools.lru_cache(maxsize=64)
def _signing_key(secret: str, *scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for word in (*scope, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key


def _version_2(secret: str, text: str) -> str:
    digest = hmac.new(secret.encode(), text.encode("latin-1", "replace"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def _canonical(query: str) -> str:
    pairs = (part.partition("=")[::2] for part in query.split("&") if part)
    escaped = ((_escaped(name), _escaped(value)) for name, value in pairs if name != "X-Amz-Signature")
    return "&".join(f"{name}={value}" for name, value in sorted(escaped))


def _escaped(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def _compare(possible: Iterable[str], signature: str) -> None:
    if not any(hmac.compare_digest(each.encode(), signature.encode("utf-8", "replace")) for each in possible):
        raise RefusedError(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing "
            "method.",
        )


def _seconds(date: str) -> int:
    try:
        return timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise RefusedError("AccessDenied", "The date of the signature cannot be read.") from None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _check_time(end: int) -> None:
    if time.time() > end:
        raise RefusedError("AccessDenied", "Request has expired")
