"""Settings that say the same twice: DATABASE_URL, REDIS_URL and AWS_ENDPOINT_URL, and their parts."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from triton_env.core.setting_types import SecretStr, problem_of_text
from triton_env.errors import InvalidSetting
from triton_env.settings.model import Settings

_OF_SERVICE = {"database_url": "postgres", "redis_url": "redis", "aws_endpoint_url": "s3"}
"""The service of each URL."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a URL, and the field that says the same."""

    field: str
    value: str | int


def urls(settings: Settings, services: Collection[str] = tuple(_OF_SERVICE.values())) -> Mapping[str, str]:
    """The URLs that were set, by the names of their fields, those of some services only."""
    return {
        name: str(_plain(getattr(settings, name)))
        for name, service in _OF_SERVICE.items()
        if name in settings.model_fields_set and service in services
    }


def agreed(
    settings: Settings, services: Collection[str] = tuple(_OF_SERVICE.values()), *, hosts: bool = False
) -> Settings:
    """The settings with the parts of a URL taken from it where only the URL was set.

    Args:
        settings: as they were read.
        services: whose URLs count.
        hosts: whether a URL's host is a part of it, too.

    Raises:
        InvalidSetting: a URL and a part of it disagree.
    """
    values: dict[str, object] = {}
    for name, url in urls(settings, services).items():
        for part in _parts(name, urlsplit(url), hosts=hosts):
            if problem := problem_of_text(str(part.value)):
                raise InvalidSetting(f"{name.upper()} cannot be used: of its parts, {problem}.", where=origin(name))
            if part.field not in settings.model_fields_set:
                values[part.field] = _typed(part)
            elif _plain(getattr(settings, part.field)) != part.value:
                raise _disagreement(name, part, settings)
    return settings.updated(**values) if values else settings


def origin(name: str) -> str:
    """Where a setting comes from, for error messages."""
    return f"{name.upper()} in .env or the process environment"


def _parts(name: str, url: SplitResult, *, hosts: bool) -> Iterator[_Part]:
    """What this URL says; nothing about what it leaves out."""
    if name == "database_url":
        if url.username:
            yield _Part("postgres_user", unquote(url.username))
        if url.path.strip("/"):
            yield _Part("postgres_db", unquote(url.path.strip("/")))
    field = {"database_url": "postgres", "redis_url": "redis", "aws_endpoint_url": "localstack"}[name]
    if name != "aws_endpoint_url":
        if hosts and url.hostname:
            yield _Part(f"{field}_host", url.hostname)
        if url.password:
            yield _Part(f"{field}_password", unquote(url.password))
    if url.port:
        yield _Part(f"{field}_port", url.port)


def _typed(part: _Part) -> object:
    return SecretStr(str(part.value)) if part.field.endswith("_password") else part.value


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _disagreement(name: str, part: _Part, settings: Settings) -> InvalidSetting:
    secret = part.field.endswith("_password")
    there, here = ("another", "its own") if secret else (part.value, _plain(getattr(settings, part.field)))
    return InvalidSetting(
        f"{part.field.upper()} and {name.upper()} say the same thing twice and disagree: {here} and {there}.",
        where=origin(name),
        hint=f"change one of them, or unset {name.upper()}: it then follows from the others",
    )
