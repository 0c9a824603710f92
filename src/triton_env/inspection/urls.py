"""URLs of services, as they may be shown."""

import re
from urllib.parse import unquote_plus, urlsplit

from triton_env.services import Service

HIDDEN = "***"
"""What stands for a password."""
_SECRET = re.compile("passw|pwd|secret|token", re.IGNORECASE)
"""In the names of parameters whose values are not shown."""


def url_of(service: Service, *, show_secrets: bool) -> str:
    """The URL for clients, with its password where secrets may be shown."""
    return service.url if show_secrets else without_password(service.url)


def without_password(url: str) -> str:
    """A URL with `***` for its password, and for the value of each parameter that is named like one."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{name}:{HIDDEN}@{host}" if at and colon else parts.netloc
    query = "&".join(map(_parameter, parts.query.split("&")))
    unchanged = (shown, query) == (parts.netloc, parts.query)
    return url if unchanged else parts._replace(netloc=shown, query=query).geturl()


def _parameter(text: str) -> str:
    """A parameter of a URL, as it may be shown."""
    name, equals, _ = text.partition("=")
    return f"{name}={HIDDEN}" if equals and _SECRET.search(unquote_plus(name)) else text
