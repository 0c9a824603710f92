"""What comes before moto's S3: it lets in programs that have the keys, and web pages only where a bucket says so.

A page in the developer's browser can send requests to this machine, whatever site it comes from. It cannot sign them,
its requests name its origin, and where its own host name leads here (DNS rebinding) they name that host.
"""

from __future__ import annotations

import fnmatch
import hashlib
import ipaddress
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY
from moto.iam.access_control import PermissionResult
from moto.s3.models import s3_backends
from werkzeug.formparser import parse_form_data
from werkzeug.wsgi import get_input_stream

from .bodies import check_body
from .forms import check_policy
from .refusals import check_request, retention
from .signature import RefusedError, Signatures, Signed

_IN_MEMORY: Final = 1 << 20
"""Bytes of a form that are kept in memory."""
_STATUS: Final = {200: "200 OK", 400: "400 Bad Request", 403: "403 Forbidden", 404: "404 Not Found"}
_OF_NONE: Final = re.compile(r"(s3(\.[\w-]+)?\.)?localhost")
_OF_A_BUCKET: Final = re.compile(r"(?P<bucket>.+?)(\.s3(\.[\w-]+)?)?\.localhost")
_READING: Final = frozenset(
    {
        *("list-type", "prefix", "delimiter", "marker", "max-keys", "continuation-token", "start-after"),
        *("encoding-type", "fetch-owner", "versionId", "partNumber", "x-id"),
    }
)
"""The parameters of requests that read objects and lists of them, and nothing else."""
Headers = list[tuple[str, str]]


class Door:
    """The application before an application.

    Args:
        inside: that of S3.
        keys: secret access keys by their ids.
        host: the address that the server listens on.
    """

    def __init__(self, inside: WSGIApplication, keys: Mapping[str, str], host: str) -> None:
        self._inside = inside
        self._signatures = Signatures(keys)
        self._host = host

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            host = _host_of(environ)
            self._check_host(host)
            request = _signed_part(environ, host)
            allowed = _allowed_by_bucket(request)
            if request.method == "OPTIONS":
                start_response(_STATUS[200], [*allowed, ("Content-Length", "0")])
                return []
            self._check_signature(request, environ)
            bucket, name, key = _place(request)
            if request.method == "GET" and key and "retention" in request.parameters:
                answer = retention(bucket, key, request.parameters.get("versionId", ""))
                return _respond(200, answer, _with_headers(start_response, allowed))
            check_request(request, bucket, name, key, lambda: _read(environ))
        except RefusedError as refusal:
            return _refuse(refusal, start_response)
        return self._inside(_with_bucket_in_path(environ, request, host), _with_headers(start_response, allowed))

    def _check_host(self, host: str) -> None:
        if host in ("localhost", self._host) or host.endswith(".localhost"):
            return
        try:
            if ipaddress.ip_address(host).is_loopback:
                return
        except ValueError:
            pass
        raise RefusedError("AccessDenied", "This server answers to localhost and to addresses of this machine alone.")

    def _check_signature(self, request: Signed, environ: WSGIEnvironment) -> None:
        is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
        if request.method == "POST" and is_form and "authorization" not in request.headers:
            body = _kept_body(environ)
            _, given, files = parse_form_data(dict(environ))
            body.seek(0)
            bucket = request.bucket or unquote(request.path.strip("/"))
            fields = {name.lower(): value for name, value in given.items()} | {"bucket": bucket}
            if signed := self._signatures.check_form(fields):
                sizes = [file.stream.seek(0, os.SEEK_END) for file in files.values()]
                check_policy(fields, sum(sizes) or len(fields.get("file", "")))
        else:
            signed = self._signatures.check(request, lambda: _digest(environ))
            if request.method in ("PUT", "POST"):
                # What completes an upload in parts names the checksums of the object.
                is_all = "uploadId" not in request.parameters or request.method == "PUT"
                check_body(request.headers, lambda: _kept_body(environ), is_all=is_all)
        if not signed and not _is_public(request):
            raise RefusedError("AccessDenied", "Access Denied")


def _host_of(environ: WSGIEnvironment) -> str:
    """The name in the header Host, in lower case and without the port."""
    try:
        return (urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _signed_part(environ: WSGIEnvironment, host: str) -> Signed:
    target = environ["RAW_URI"]
    if not target.startswith("/"):  # a whole URL, as for a proxy
        parts = urlsplit(target)
        target = parts._replace(scheme="", netloc="").geturl()
    path, _, query = target.partition("?")
    names: Mapping[str, str] = environ.get(PRESERVED_HEADER_NAMES_ENVIRON_KEY) or {}
    headers = {}
    for key, value in environ.items():
        if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = names.get(key) or key.removeprefix("HTTP_").replace("_", "-")
            headers[name.lower()] = value
    return Signed(environ["REQUEST_METHOD"], path, query, _bucket_of(host), headers)


def _bucket_of(host: str) -> str:
    """The bucket that a host name names, as in `BUCKET.localhost` or `BUCKET.s3.REGION.localhost`; empty for none."""
    found = _OF_A_BUCKET.fullmatch(host) if not _OF_NONE.fullmatch(host) else None
    return found["bucket"] if found else ""


def _with_bucket_in_path(environ: WSGIEnvironment, request: Signed, host: str) -> WSGIEnvironment:
    """The request as moto understands it for any bucket, also for one with dots in its name."""
    if not host.endswith(".localhost"):
        return environ
    prefix = f"/{request.bucket}" if request.bucket else ""
    target = prefix + request.path + (f"?{request.query}" if request.query else "")
    address, path = f"localhost:{environ['SERVER_PORT']}", prefix + environ["PATH_INFO"]
    return environ | {"HTTP_HOST": address, "PATH_INFO": path, "RAW_URI": target, "REQUEST_URI": target}


def _kept_body(environ: WSGIEnvironment) -> Any:
    """The body, read to its end, and there to be read again."""
    body = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it lives as long as the request
    shutil.copyfileobj(get_input_stream(environ), body)
    body.seek(0)
    environ["wsgi.input"], environ["wsgi.input_terminated"] = body, True
    return body


def _read(environ: WSGIEnvironment) -> bytes:
    body = _kept_body(environ)
    content = bytes(body.read())
    body.seek(0)
    return content


def _digest(environ: WSGIEnvironment) -> str:
    body = _kept_body(environ)
    digest = hashlib.sha256()
    while piece := body.read(1 << 16):
        digest.update(piece)
    body.seek(0)
    return digest.hexdigest()


def _place(request: Signed) -> tuple[Any, str, str]:
    """Moto's bucket, None where there is none, its name, and that of the object, empty where the bucket is meant."""
    name, key = request.bucket, unquote(request.path.removeprefix("/"))
    if not name:
        name, _, key = key.partition("/")
    buckets = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
    return buckets.get(name), name, key


def _is_public(request: Signed) -> bool:
    """Whether a request without a signature only reads what its bucket, or the object, gives to everybody."""
    bucket, _, key = _place(request)
    if bucket is None or request.method not in ("GET", "HEAD") or not request.parameters.keys() <= _READING:
        return False
    arn = f"arn:aws:s3:::{bucket.name}"
    if not key:
        return _gives_everybody(bucket, "s3:ListBucket", arn) or bool(bucket.acl and bucket.acl.public_read)
    found = bucket.keys.get(key)
    is_readable = bool(found and found.acl and found.acl.public_read)
    return is_readable or _gives_everybody(bucket, "s3:GetObject", f"{arn}/{key}")


def _gives_everybody(bucket: Any, action: str, resource: str) -> bool:
    """Whether the bucket's policy allows this without asking who it is, or anything else."""
    statements = json.loads(bucket.policy or "{}").get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        named = principal.get("AWS") if isinstance(principal, dict) else principal
        if (
            statement.get("Effect") == "Allow"
            and named in ("*", ["*"])
            and "Condition" not in statement
            and _matches(statement.get("Action", ()), action)
            and _matches(statement.get("Resource", ()), resource)
        ):
            # Another statement may forbid it.
            return bool(bucket.get_permission(action, resource) == PermissionResult.PERMITTED)
    return False


def _allowed_by_bucket(request: Signed) -> Headers:
    """The headers that let a page of another origin read the answer; none for what is not a page's request.

    Raises:
        RefusedError: a page's request that no rule of the bucket allows. S3 itself would do what such a request says,
            and only keep the answer from the page.
    """
    origin = request.headers.get("origin")
    if origin is None:
        if request.method == "OPTIONS":
            raise RefusedError("BadRequest", "Insufficient information. Origin request header needed.", 400)
        return []
    asked = request.headers.get("access-control-request-headers", "") if request.method == "OPTIONS" else ""
    method = request.headers.get("access-control-request-method", "") if request.method == "OPTIONS" else request.method
    names = [name.strip() for name in asked.split(",") if name.strip()]
    bucket, *_ = _place(request)
    for rule in bucket.cors if bucket is not None else ():
        by_header = rule.allowed_headers or ()
        if (
            _matches(rule.allowed_origins, origin)
            and method in rule.allowed_methods
            and all(_matches([each.lower() for each in by_header], name.lower()) for name in names)
        ):
            return _cors_headers(rule, origin, names)
    raise RefusedError(
        "AccessForbidden", "CORSResponse: This CORS request is not allowed. The bucket has no rule for this origin."
    )


def _cors_headers(rule: Any, origin: str, names: list[str]) -> Headers:
    anyone = "*" in rule.allowed_origins
    found = [
        ("Access-Control-Allow-Origin", "*" if anyone else origin),
        ("Access-Control-Allow-Methods", ", ".join(rule.allowed_methods)),
        ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
    ]
    if not anyone:
        found.append(("Access-Control-Allow-Credentials", "true"))
    if names:
        found.append(("Access-Control-Allow-Headers", ", ".join(names)))
    if rule.exposed_headers:
        found.append(("Access-Control-Expose-Headers", ", ".join(rule.exposed_headers)))
    if rule.max_age_seconds is not None:
        found.append(("Access-Control-Max-Age", str(rule.max_age_seconds)))
    return found


def _matches(patterns: str | Iterable[str], text: str) -> bool:
    """Whether one of the patterns, with `*` for anything, is the text."""
    listed = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatch.fnmatchcase(text, pattern.replace("[", "[[]")) for pattern in listed)


def _with_headers(start_response: StartResponse, added: Headers) -> StartResponse:
    """Answer with these headers for pages of other origins, and not with moto's."""

    def start(status: str, headers: Headers, *rest: Any) -> Any:
        kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
        return start_response(status, kept + added, *rest)

    return start


def _refuse(refusal: RefusedError, start_response: StartResponse) -> Iterable[bytes]:
    text = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
    return _respond(refusal.status, f"<Error>{text}</Error>".encode(), start_response)


def _respond(status: int, content: bytes, start_response: StartResponse) -> Iterable[bytes]:
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + content
    start_response(_STATUS[status], [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
