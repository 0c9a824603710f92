"""The settings for servers that somebody else runs: what leads to them, and what they are known by."""

import hashlib
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from triton_env.errors import InvalidSetting
from triton_env.settings.model import Settings
from triton_env.settings.urls import agreed, origin, urls

_SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis",),
    "aws_endpoint_url": ("http",),
}
_HTTP_PORT = 80


def external_settings(settings: Settings, services: Collection[str]) -> Settings:
    """The settings for servers of somebody else.

    A URL that was set (DATABASE_URL, REDIS_URL, AWS_ENDPOINT_URL) and its parts have to agree; where only the URL was
    set, host, port, user, password and database are taken from it.

    Args:
        settings: as they were read.
        services: the names of the services that are used; the URLs of others do not matter.

    Raises:
        InvalidSetting: a URL and a part of it disagree, or it says what clients made from its parts would not do.
    """
    for name, url in urls(settings, services).items():
        if problem := _problem(name, urlsplit(url)):
            raise InvalidSetting(
                f"{name.upper()} {problem}.",
                where=origin(name),
                hint=f"the form is {_example(name)}",
            )
    settings = agreed(settings, services, hosts=True)
    if (
        urlsplit(settings.or_default("aws_endpoint_url")).port is None
        and "localstack_port" not in settings.model_fields_set
    ):
        return settings.updated(localstack_port=_HTTP_PORT)
    return settings


def external_id(settings: Settings) -> str:
    """What an environment on these servers is known by: the same in every process that uses the same ones.

    Of all four, whichever are used: what is noted about a server, such as which of its logical databases are taken, has
    to be found by everybody.
    """
    addresses = (
        *(settings.postgres_host, settings.or_default("postgres_port")),
        *(settings.clickhouse_host, settings.or_default("clickhouse_http_port")),
        *(settings.redis_host, settings.or_default("redis_port")),
        *(urlsplit(settings.or_default("aws_endpoint_url")).hostname, settings.or_default("localstack_port")),
    )
    return hashlib.sha256(repr(addresses).encode()).hexdigest()[:8]


def _problem(name: str, url: SplitResult) -> str:
    """What of this URL would be lost; empty where nothing would."""
    if url.scheme not in _SCHEMES[name]:
        return f"has the scheme {url.scheme!r}; encrypted connections and others are not available"
    if url.query or url.fragment:
        return "has options, which are not available"
    if name == "redis_url" and url.path.strip("/") not in ("", "0"):
        return f"names the logical database {url.path.strip('/')}; only 0 is available"
    if name == "redis_url" and url.username not in (None, "", "default"):
        return f"names the user {url.username}; only the default one is available"
    if name == "aws_endpoint_url" and url.path.strip("/"):
        return "has a path, which is not available"
    return ""


def _example(name: str) -> str:
    return {
        "database_url": "postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        "redis_url": "redis://:PASSWORD@HOST:PORT/0",
        "aws_endpoint_url": "http://HOST:PORT",
    }[name]
