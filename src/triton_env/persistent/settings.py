"""The settings of the persistent mode: what they say twice agrees, and each project has ports of its own."""

from binascii import crc32
from collections.abc import Iterator
from itertools import count
from math import ceil
from urllib.parse import urlsplit

from triton_env.core.settings_group import Role
from triton_env.errors import InvalidSetting
from triton_env.settings import Settings
from triton_env.settings.urls import merge_urls_into_parts, origin, urls

DEFAULT_PROJECT = str(Settings.model_fields["triton_project"].default)

_LOWEST, _BLOCKS, _BLOCK = 10_000, 1_200, 8
"""Where the ports of other projects lie, in blocks of so many: below those that sessions take, which are below those
that systems take for outgoing connections. The services that come with triton-env share a block, and each other one has
blocks of its own."""

_HERE = ("localhost", "127.0.0.1", "::1")


def persistent_settings(settings: Settings) -> Settings:
    """The settings for persistent services.

    A URL that was set and its parts have to agree; where only the URL was set, the parts are taken from it. In a
    project with another name than the default one, each port that has its default value is replaced by one that follows
    from the name, so that two projects run side by side.

    Raises:
        InvalidSetting: a URL and a part of it disagree, or it points to another machine.
    """
    for name, url in urls(settings).items():
        host = urlsplit(url).hostname
        if host not in (*_HERE, settings.triton_bind_address):
            raise InvalidSetting(
                f"{name.upper()} points to {host or 'no host'}, but persistent services run on this machine.",
                where=origin(name),
                hint=f"unset {name.upper()}, or point it to localhost",
            )
    return _with_own_ports(_checked(merge_urls_into_parts(settings), settings))


def _checked(settings: Settings, before: Settings) -> Settings:
    """See that what was taken from URLs is what the settings of that name may be: it goes into SQL and XML."""
    taken = {name: value for name, value in settings if value != before.or_default(name)}
    try:
        settings.check_values(**taken)
    except InvalidSetting as error:
        error.where = ", ".join(origin(name) for name in urls(before))
        raise
    return settings


def _with_own_ports(settings: Settings) -> Settings:
    if settings.triton_project == DEFAULT_PROJECT:
        return settings
    own = Settings.model_construct().names_in(Role.PORT)
    ports = dict(zip(own, _ports_from(_hashed(settings.triton_project) % _BLOCKS), strict=False))
    for group in settings.groups_of_others:
        names = group.names_of(Role.PORT)
        ports |= zip(names, _ports_from(_block_of(settings.triton_project, group.service, len(names))), strict=False)
    return settings.updated(
        **{
            name: port
            for name, port in ports.items()
            if settings.or_default(name) == settings.model_fields[name].default
        }
    )


def _block_of(project: str, service: str, ports: int) -> int:
    """The first block of a service that another distribution brings: never that of the project's other services.

    It follows from both names, whatever else is installed, so that it stays what it is.
    """
    blocks = ceil(ports / _BLOCK)
    return _hashed(project) % _BLOCKS + 1 + _hashed(f"{project}/{service}") % (_BLOCKS - blocks)


def _ports_from(block: int) -> Iterator[int]:
    """The ports of a block and of those after it; after the last one comes the first."""
    return (_LOWEST + (block * _BLOCK + place) % (_BLOCKS * _BLOCK) for place in count())


def _hashed(words: str) -> int:
    return crc32(words.encode())
