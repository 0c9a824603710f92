"""Web pages stay outside, unless a bucket lets them in.

LocalStack does not check keys, so what a page in the developer's browser sends is done, whatever site it comes from.
Such requests name the origin of the page, and where its own host name leads here (DNS rebinding) they name that host.

LocalStack executes this file before it serves (https://docs.localstack.cloud/references/init-hooks/). Where it cannot,
in a version whose classes are others, it logs the error and starts without the door. Persistent services mount it, and
sessions copy it into their container.
"""

import ipaddress
import logging
from typing import Any
from urllib.parse import urlsplit

from localstack import config
from localstack.aws import handlers
from localstack.aws.chain import HandlerChain
from localstack.http import Request, Response
from localstack.services.s3.cors import S3CorsHandler
from localstack.utils.urls import localstack_host

LOG = logging.getLogger("triton_env.door")

_LOCAL = ("localhost", "internal", "local", "test", "svc", "localhost.localstack.cloud", "amazonaws.com")
"""Domains whose names no stranger can lead here: of this machine, of tests, of containers, of Services of a cluster, of
LocalStack and of AWS."""


class Door:
    """The first handler of each request."""

    def __call__(self, chain: HandlerChain, context: Any, response: Response) -> None:
        """Refuse what a page of another origin sends."""
        request = context.request
        if not (problem := self._problem(request)):
            return
        LOG.info("refused %s %s: %s", request.method, request.path, problem)
        response.status_code = 403
        response.set_response(f"<Error><Code>AccessDenied</Code><Message>{problem}</Message></Error>".encode())
        response.headers["Content-Type"] = "application/xml"
        chain.terminate()

    def _problem(self, request: Request) -> str:
        if not _is_ours(request.headers.get("Host", "")):
            return "this server answers to localhost, to addresses and to names of containers, not to this host name"
        origin = request.headers.get("Origin")
        if origin is None or (origin and origin in config.EXTRA_CORS_ALLOWED_ORIGINS.replace(" ", "").split(",")):
            return ""
        # S3's own handler knows the buckets' rules. It is there once S3 is loaded.
        for cors in handlers.preprocess_request.handlers:
            if isinstance(cors, S3CorsHandler) and _is_allowed(cors, request):
                return ""
        return "no CORS rule of the bucket allows this origin"


def _is_allowed(cors: S3CorsHandler, request: Request) -> bool:
    _, bucket = cors.pre_parse_s3_request(request)
    rules = cors.bucket_cors_index.cors.get(bucket, {}).get("CORSRules", [])
    return cors.match_rules(request, rules) is not None


def _is_ours(host: str) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        # The name of a container has no dot, or the name of its network after it. Public domains are of letters alone.
        _, dot, domain = name.rpartition(".")
        if not dot or not (domain.isalpha() or domain.startswith("xn--")):
            return bool(name)
        return any(name == each or name.endswith(f".{each}") for each in (*_LOCAL, localstack_host().host))
    # A client that asks by an address means that address.
    return True


# Before everything else.
handlers.preprocess_request.handlers.insert(0, Door())
