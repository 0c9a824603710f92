"""Which server answers? Asked of the server itself, since image tags such as `latest` do not tell."""

import json
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from triton_env.environment import TritonEnvironment
from triton_env.services import S3, ClickHouse, Postgres, Redis, Service

_TIMEOUT = 2
"""Seconds; a version is nice to have."""


def server_versions(environment: TritonEnvironment) -> Mapping[str, str]:
    """The version of each running server by service name; empty where it does not tell."""
    with ThreadPoolExecutor(max_workers=len(environment.services)) as threads:
        versions = threads.map(lambda name: _version(environment.service(name)), environment.services)
    return dict(zip(environment.services, versions, strict=True))


def _version(service: Service) -> str:
    ask = _ASK.get(type(service))
    try:
        return ask(service) if ask else ""
    except Exception:  # whatever a driver raises, the environment is as good without this word
        return ""


def _postgres(service: Service) -> str:
    assert isinstance(service, Postgres)
    with service.connect(connect_timeout=_TIMEOUT) as connection:
        # "15.14 (Debian 15.14-0+deb12u1)"
        return str(connection.info.parameter_status("server_version")).split()[0]


def _clickhouse(service: Service) -> str:
    assert isinstance(service, ClickHouse)
    headers = {"X-ClickHouse-User": service.user, "X-ClickHouse-Key": service.password}
    return _get(f"http://{service.host}:{service.http_port}/?query=SELECT%20version()", headers).strip()


def _redis(service: Service) -> str:
    assert isinstance(service, Redis)
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # By default the client tries again for seconds.
    once = Retry(NoBackoff(), 0)
    with service.client(socket_connect_timeout=_TIMEOUT, socket_timeout=_TIMEOUT, retry=once) as client:
        return str(client.info("server")["redis_version"])


def _s3(service: Service) -> str:
    assert isinstance(service, S3)
    return str(json.loads(_get(f"{service.endpoint_url}/_localstack/health"))["version"])


def _get(url: str, headers: Mapping[str, str] | None = None) -> str:
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - http://, made above
    # Without the proxies of the environment: they cannot know this machine's ports.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_TIMEOUT) as response:
        return str(response.read().decode())


_ASK: Mapping[type[Service], Callable[[Service], str]] = {
    Postgres: _postgres,
    ClickHouse: _clickhouse,
    Redis: _redis,
    S3: _s3,
}
