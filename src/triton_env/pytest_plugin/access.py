"""How people get into a service: its URL, and a command for its shell."""

import shlex
from typing import TYPE_CHECKING, Any

from triton_env.core.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from triton_env.services import S3, ClickHouse, Postgres, Redis, Service


def urls(services: "Iterable[Service]", hidden: frozenset[str]) -> str:
    """A line with the URL of each service.

    Args:
        services: bound to the namespace that is meant.
        hidden: secrets that are not to be shown.
    """
    lines = []
    for service in services:
        bucket = f"  bucket {service.bucket}" if service.name == "s3" else ""  # type: ignore[attr-defined]
        lines.append(f"{service.title:<10}  {redacted(service.url, hidden)}{bucket}")
    return "\n".join(lines)


def commands(services: "Iterable[Service]") -> list[str]:
    """A command line for each service that opens a shell in it, for a terminal of this machine."""
    return [_OF_SERVICES[service.name](service) for service in services]


def secrets(services: "Iterable[Service]") -> frozenset[str]:
    """The passwords and keys of services, as they are and as they stand in URLs."""
    from triton_env.services.base import url_quoted

    plain = {getattr(service, "password", "") or getattr(service, "secret_key", "") for service in services} - {""}
    return frozenset(plain | {url_quoted(secret) for secret in plain})


def _postgres(service: "Postgres") -> str:
    return f"psql {shlex.quote(service.url)}"


def _clickhouse(service: "ClickHouse") -> str:
    if service.native_port is None:
        url = f"http://{service.host}:{service.http_port}/?database={service.database}"
        return shlex.join(("curl", "-u", f"{service.user}:{service.password}", url, "-d", "show tables"))
    where = ("--host", service.host, "--port", str(service.native_port), "--database", service.database)
    return shlex.join(("clickhouse", "client", *where, "--user", service.user, "--password", service.password))


def _redis(service: "Redis") -> str:
    return f"redis-cli -u {shlex.quote(service.url)}"


def _s3(service: "S3") -> str:
    variables = {
        "AWS_ACCESS_KEY_ID": service.access_key,
        "AWS_SECRET_ACCESS_KEY": service.secret_key,
        "AWS_DEFAULT_REGION": service.region,
    }
    before = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"{before} aws --endpoint-url {service.endpoint_url} s3 ls s3://{service.bucket}"


_OF_SERVICES: "dict[str, Callable[[Any], str]]" = {
    "postgres": _postgres,
    "clickhouse": _clickhouse,
    "redis": _redis,
    "s3": _s3,
}
