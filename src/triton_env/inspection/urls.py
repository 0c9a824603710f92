"""URLs of services, as they may be shown."""

from urllib.parse import urlsplit

from triton_env.services import Service

HIDDEN = "***"
"""What stands for a password."""


def url_of(service: Service, *, show_secrets: bool) -> str:
    """The URL for clients, with its password where secrets may be shown."""
    return service.url if show_secrets else without_password(service.url)


def without_password(url: str) -> str:
    """A URL with `***` for its password."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return parts._replace(netloc=f"{name}:{HIDDEN}@{host}").geturl() if at and colon else url
