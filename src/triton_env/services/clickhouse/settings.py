"""The settings of ClickHouse."""

from typing import Annotated

from triton_env.core.server_options import ServerOptions
from triton_env.core.setting_types import Identifier, Name, Number, PortNumber, Seconds, Secret
from triton_env.core.settings_group import Role, SettingsGroup, setting, with_fields


@with_fields
class ClickHouseSettings(SettingsGroup):
    """The settings of ClickHouse."""

    service = "clickhouse"

    clickhouse_host: Name = setting(Role.HOST, "Host, for applications.", default="localhost")
    clickhouse_http_port: PortNumber = setting(
        Role.PORT,
        "Port of the HTTP protocol, of persistent services and with `TRITON_PORTS=fixed`.",
        default=8123,
        protocol="http",
    )
    clickhouse_user: Identifier = setting(
        Role.USER, "The user, who may manage access. Letters, digits and `_`.", default="default"
    )
    clickhouse_password: Secret = setting(
        Role.PASSWORD,
        "Password of persistent services, and with `TRITON_PASSWORDS=fixed`. Without one the official image lets the"
        " user `default` log in from inside its container only.",
        default=Secret("development_password_change_in_prod"),
    )
    clickhouse_db: Identifier = setting(
        Role.DATABASE, "The database, which is created. Letters, digits and `_`.", default="triton"
    )
    clickhouse_port: PortNumber = setting(
        Role.PORT,
        "Port of the native protocol, of persistent services and with `TRITON_PORTS=fixed`; most Python clients use"
        " HTTP.",
        default=9000,
        protocol="native",
    )
    clickhouse_nofile: Annotated[int, Number(ge=1024)] = setting(
        Role.PERSISTENT,
        "Open files of the persistent ClickHouse, from 1024. Every engine grants this many; ClickHouse recommends"
        " 262144.",
        default=20_000,
    )
    clickhouse_image: Name = setting(
        Role.IMAGE,
        "The image. `latest` moves; name a version where that matters.",
        default="clickhouse/clickhouse-server:latest",
    )
    triton_clickhouse_bin: str = setting(
        Role.PROGRAM,
        "Which ClickHouse runs without Docker: the program `clickhouse` of one on this machine, 24.3 or newer, or its"
        " folder, or `wheel` for the server of the Python package. Empty: that on `PATH`, else that of clickhousectl,"
        " else that of the package.",
        default="",
    )
    triton_clickhouse_options: Annotated[str, ServerOptions("http_port", "listen_host", "path", "tcp_port")] = setting(
        Role.OPTIONS,
        "[Options of the server](../how-to/server-options.md), by their paths in its configuration, such as"
        " `mark_cache_size=100000000,profiles.default.max_threads=2`.",
        default="",
    )
    triton_clickhouse_timeout: Seconds = setting(
        Role.TIMEOUT, "Seconds from a container's start until ClickHouse has to be ready.", default=120
    )
