"""The settings of PostgreSQL."""

from typing import Annotated

from triton_env.core.server_options import ServerOptions
from triton_env.core.setting_types import Identifier, Name, PortNumber, Seconds, Secret
from triton_env.core.settings_group import Role, SettingsGroup, UrlForm, setting, with_fields

_URL = UrlForm(schemes=("postgresql", "postgres"), example="postgresql://USER:PASSWORD@HOST:PORT/DATABASE")


@with_fields
class PostgresSettings(SettingsGroup):
    """The settings of PostgreSQL."""

    service = "postgres"

    postgres_host: Name = setting(
        Role.HOST,
        "Host, for applications and the [external runtime](runtimes.md#external-servers).",
        default="localhost",
    )
    postgres_port: PortNumber = setting(
        Role.PORT, "Port of persistent services, and with `TRITON_PORTS=fixed`.", default=5432, protocol="postgres"
    )
    postgres_user: Identifier = setting(
        Role.USER, "The user, a superuser. Letters, digits and `_`.", default="triton_user"
    )
    postgres_password: Secret = setting(
        Role.PASSWORD,
        "Password of persistent services, and with `TRITON_PASSWORDS=fixed`.",
        default=Secret("development_password_change_in_prod"),
    )
    postgres_db: Identifier = setting(
        Role.DATABASE, "The database, which is created. Letters, digits and `_`.", default="triton"
    )
    database_url: Secret = setting(
        Role.URL,
        "The same as one URL, for applications.",
        default=Secret("postgresql://triton_user:development_password_change_in_prod@localhost:5432/triton"),
        form=_URL,
    )
    postgres_image: Name = setting(
        Role.IMAGE,
        "The official image, or [another](../how-to/images.md). PostgreSQL 14 reached its end of life on 2026-11-12; 15"
        " to 18 work as well.",
        default="postgres:14-alpine",
    )
    triton_postgres_bin: str = setting(
        Role.PROGRAM,
        "Which PostgreSQL runs without Docker: the folder of the programs of one on this machine, 14 or newer, or"
        " `wheel` for that of the Python package. Empty: the newest of this machine, else that of the package.",
        default="",
    )
    triton_postgres_options: Annotated[
        str, ServerOptions("data_directory", "listen_addresses", "port", "unix_socket_directories")
    ] = setting(
        Role.OPTIONS,
        "[Options of the server](../how-to/server-options.md), such as `wal_level=logical,max_connections=300`.",
        default="",
    )
    triton_postgres_timeout: Seconds = setting(
        Role.TIMEOUT, "Seconds from a container's start until PostgreSQL has to be ready.", default=120
    )
