"""The settings of Redis."""

from typing import Annotated
from urllib.parse import SplitResult

from triton_env.core.server_options import ServerOptions
from triton_env.core.setting_types import Name, PortNumber, Seconds, Secret
from triton_env.core.settings_group import Role, SettingsGroup, UrlForm, setting, with_fields


def _lost(url: SplitResult) -> str:
    if url.path.strip("/") not in ("", "0"):
        return f"names the logical database {url.path.strip('/')}; only 0 is available"
    if url.username not in (None, "", "default"):
        return f"names the user {url.username}; only the default one is available"
    return ""


_URL = UrlForm(schemes=("redis",), example="redis://:PASSWORD@HOST:PORT/0", lost=_lost)


@with_fields
class RedisSettings(SettingsGroup):
    """The settings of Redis."""

    service = "redis"

    redis_host: Name = setting(Role.HOST, "Host, for applications.", default="localhost")
    redis_port: PortNumber = setting(
        Role.PORT, "Port of persistent services, and with `TRITON_PORTS=fixed`.", default=6379, protocol="redis"
    )
    redis_password: Secret = setting(
        Role.PASSWORD,
        "Password of persistent services, and with `TRITON_PASSWORDS=fixed`. Empty: none; set one before you let others"
        " reach the port.",
        default=Secret(""),
    )
    redis_url: Secret = setting(
        Role.URL, "URL, for applications.", default=Secret("redis://localhost:6379/0"), form=_URL
    )
    redis_image: Name = setting(Role.IMAGE, "A Redis image with the official entrypoint.", default="redis:7-alpine")
    triton_redis_options: Annotated[
        str, ServerOptions("bind", "daemonize", "databases", "dir", "port", "requirepass")
    ] = setting(
        Role.OPTIONS,
        "[Options of the server](../how-to/server-options.md), such as `maxmemory=100mb,notify-keyspace-events=KEA`.",
        default="",
    )
    triton_redis_timeout: Seconds = setting(
        Role.TIMEOUT, "Seconds from a container's start until Redis has to be ready.", default=120
    )
