"""Web pages stay outside, unless a bucket lets them in.

LocalStack does not check keys, so what a page in the developer's browser sends is done, whatever site it comes from.
Such requests name the origin of the page, and where its own host name leads here (DNS rebinding) they name that host.
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

LOG = logging.getLogger(__name__)

_LOCAL = ("localhost", "internal", "local", "localhost.localstack.cloud", "amazonaws.com")
"""Domains whose names no stranger can lead here: those of this machine, of containers, of LocalStack and of AWS."""


class Door:
    """The first handler of each request.

    Args:
        cors: S3's own handler, which knows the buckets' rules.
    """

    def __init__(self, cors: S3CorsHandler) -> None:
        self._cors = cors

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
        if origin is None or origin in config.EXTRA_CORS_ALLOWED_ORIGINS.replace(" ", "").split(","):
            return ""
        _, bucket = self._cors.pre_parse_s3_request(request)
        rules = self._cors.bucket_cors_index.cors.get(bucket, {}).get("CORSRules", [])
        if self._cors.match_rules(request, rules):
            return ""
        return "no CORS rule of the bucket allows this origin"


def _is_ours(host: str) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        # The name of a container has no dot, or the name of its network after it.
        domains = (*_LOCAL, localstack_host().host)
        return bool(name) and ("." not in name or any(name == each or name.endswith(f".{each}") for each in domains))
    # Whoever asks by an address means that address.
    return True


def install(cors: S3CorsHandler) -> None:
    """Put it before everything else. To be called before the gateway serves."""
    handlers.preprocess_request.handlers.insert(0, Door(cors))
