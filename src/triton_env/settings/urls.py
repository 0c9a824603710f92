"""Settings that say the same twice: the URL of a service and its parts."""

from collections.abc import Collection, Iterator, Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from triton_env.core.setting_types import SecretStr, plain_text, problem_of_text
from triton_env.core.settings_group import Role, SettingsGroup
from triton_env.errors import InvalidSetting
from triton_env.settings.model import Settings


def urls(settings: Settings, services: Collection[str] | None = None) -> Mapping[str, str]:
    """The URLs that were set, by the names of their fields: those of some services, or of all."""
    return {
        name: plain_text(getattr(settings, name))
        for name in settings.names_in(Role.URL, services=services)
        if name in settings.model_fields_set
    }


def merge_urls_into_parts(
    settings: Settings, services: Collection[str] | None = None, *, hosts: bool = False
) -> Settings:
    """The settings with the parts of a URL taken from it where only the URL was set.

    Args:
        services: whose URLs count; those of all by default.
        hosts: whether a URL's host is a part of it, too.

    Raises:
        InvalidSetting: a URL and a part of it disagree.
    """
    values: dict[str, object] = {}
    for group in settings.groups_of(services):
        for name, url in urls(settings, (group.service,)).items():
            for part, value in _parts(group, urlsplit(url), hosts=hosts):
                if problem := problem_of_text(str(value)):
                    raise InvalidSetting(f"{name.upper()} cannot be used: of its parts, {problem}.", where=origin(name))
                if part not in settings.model_fields_set:
                    values[part] = SecretStr(str(value)) if group.model_fields[part].is_secret else value
                elif plain_text(getattr(settings, part)) != str(value):
                    raise _disagreement(settings, name, part, value)
    return settings.updated(**values) if values else settings


def origin(name: str) -> str:
    """Where a setting comes from, for error messages."""
    return f"{name.upper()} in .env or the process environment"


def _parts(group: type[SettingsGroup], url: SplitResult, *, hosts: bool) -> Iterator[tuple[str, str | int]]:
    """What a URL says, and the fields that say the same; nothing about what it leaves out."""
    said: Mapping[Role, str | int | None] = {
        Role.USER: unquote(url.username or ""),
        Role.DATABASE: unquote(url.path.strip("/")),
        Role.HOST: url.hostname if hosts else None,
        Role.PASSWORD: unquote(url.password or ""),
        Role.PORT: url.port,
    }
    for role, value in said.items():
        if value:
            yield from ((name, value) for name in group.names_of(role)[:1])


def _disagreement(settings: Settings, name: str, part: str, value: object) -> InvalidSetting:
    secret = settings.model_fields[part].is_secret
    there, here = ("another", "its own") if secret else (value, plain_text(getattr(settings, part)))
    return InvalidSetting(
        f"{part.upper()} and {name.upper()} say the same thing twice and disagree: {here} and {there}.",
        where=origin(name),
        hint=f"change one of them, or unset {name.upper()}: it then follows from the others",
    )
