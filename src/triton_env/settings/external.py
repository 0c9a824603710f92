"""The settings for external servers: what leads to them, and what they are known by."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from triton_env.core.setting_types import plain_text
from triton_env.core.settings_group import CONNECTION, Role, SettingsGroup, UrlForm
from triton_env.errors import InvalidSetting
from triton_env.settings.model import Settings
from triton_env.settings.urls import merge_urls_into_parts, origin, urls


def external_settings(settings: Settings, services: Collection[str]) -> Settings:
    """The settings for external servers.

    A URL that was set and its parts have to agree; where only the URL was set, host, port,
    user, password and database are taken from it.

    Args:
        services: the names of the services that are used; the URLs of others do not matter.

    Raises:
        InvalidSetting: a URL and a part of it disagree, or it says what clients made from its parts would not do.
    """
    for name, url in urls(settings, services).items():
        form = settings.model_fields[name].form
        if form and (problem := _problem(form, urlsplit(url))):
            raise InvalidSetting(
                f"{name.upper()} {problem}.",
                where=origin(name),
                hint=f"the form is {form.example}",
            )
    settings = merge_urls_into_parts(settings, services, hosts=True)
    return settings.updated(**_implied_ports(settings))


def external_id(settings: Settings) -> str:
    """What an environment on these servers is known by: the same in every process that uses the same ones.

    Of all services, whichever are used: what is noted about a server, such as which of its logical databases are taken,
    has to be found by all. A service that another distribution brings counts where it is elsewhere than its
    defaults say, so that the id is the same where that distribution is not installed and nothing is set for it.

    Args:
        settings: with the groups of all services that are installed.
    """
    addresses = [value for group in Settings.groups for value in _address(settings, group)]
    for group in sorted(settings.groups_of_others, key=lambda group: group.service):
        address = _address(settings, group)
        if address != _address(Settings.model_construct().with_group(group), group):
            addresses += [group.service, *address]
    return hashlib.sha256(repr(tuple(addresses)).encode()).hexdigest()[:8]


def _address(settings: Settings, group: type[SettingsGroup]) -> tuple[str | int, ...]:
    """Where an external service is, whether it is used or not."""
    with suppress(InvalidSetting):  # of a service that is used, they agree
        settings = merge_urls_into_parts(settings, (group.service,), hosts=True)
    return (host_of(settings, group), *(settings.or_default(name) for name in group.names_of(Role.PORT)[:1]))


def host_of(settings: Settings, group: type[SettingsGroup]) -> str:
    """The host on which an external service is: that of its URL where no variable says it.

    Raises:
        InvalidSetting: its variable cannot be used.
    """
    for name in group.names_of(Role.HOST):
        return str(getattr(settings, name))
    hosts = (urlsplit(_url(settings, name)).hostname for name in group.names_of(Role.URL))
    return next(hosts, None) or ""


def leading_variables(group: type[SettingsGroup]) -> tuple[str, ...]:
    """The variables that lead clients to a server and let them in."""
    names = group.names_of(*(role for role in CONNECTION if role is not Role.REGION))
    others = group.names_of(Role.PORT)[1:]
    return tuple(name.upper() for name in names if name not in others)


def _implied_ports(settings: Settings) -> dict[str, int]:
    """The ports that URLs without one mean, by their fields, where nothing else was set."""
    ports: dict[str, int] = {}
    for group in settings.groups:
        for name in group.names_of(Role.URL):
            form = group.model_fields[name].form
            if form and form.port and urlsplit(_url(settings, name)).port is None:
                ports |= dict.fromkeys(group.names_of(Role.PORT)[:1], form.port)
    return {name: port for name, port in ports.items() if name not in settings.model_fields_set}


def _url(settings: Settings, name: str) -> str:
    return plain_text(settings.or_default(name))


def _problem(form: UrlForm, url: SplitResult) -> str:
    """What of this URL would be lost; empty where nothing would."""
    if url.scheme not in form.schemes:
        return f"has the scheme {url.scheme!r}; encrypted connections and others are not available"
    if url.query or url.fragment:
        return "has options, which are not available"
    return form.lost(url)
