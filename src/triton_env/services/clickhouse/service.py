"""ClickHouse."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triton_env.core.model import (
    Additions,
    ContainerRecipe,
    DataCompatibility,
    DataRecipe,
    Endpoint,
    ProcessRecipe,
    ServiceRecipe,
    Storage,
    Unprivileged,
)
from triton_env.core.packaged_files import packaged_file
from triton_env.core.server_options import parsed
from triton_env.errors import InvalidSetting, RestoreUnfinished
from triton_env.services.base import (
    Service,
    WithLogin,
    url_quoted,
)
from triton_env.services.clickhouse import programs
from triton_env.services.clickhouse.requests import ask
from triton_env.services.clickhouse.settings import ClickHouseSettings
from triton_env.services.parts import Parts
from triton_env.settings import Settings, without_variables

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient
    from clickhouse_connect.driver.client import Client


_ALWAYS_THERE = "system"
"""The database that every server has. `default` is missing for a moment where a restore replaces it."""
_SET_ASIDE = """
SELECT name FROM system.databases
WHERE name = '%(name)s' OR (startsWith(name, 'triton_restore_') AND endsWith(name, '_old_%(name)s')) FORMAT TSVRaw
"""
"""The target database, and what restores call it while they replace it; see `ClickHouseRestorer`."""

_START_FOLDER = "/etc/triton-env"
_START = {
    f"{_START_FOLDER}/start.sh": "docker/clickhouse/start.sh",
    f"{_START_FOLDER}/options.sh": "docker/options/options.sh",
}
"""What starts the server with options, by its path in the container."""

_USER = 101
"""Of the user clickhouse in the official image: https://github.com/ClickHouse/ClickHouse/tree/master/docker/server"""
_SCHEMES = {
    "connect": ("clickhousedb", "http"),
    "http": ("clickhouse+http", "http"),
    "native": ("clickhouse+native", "native"),
    "asynch": ("clickhouse+asynch", "native"),
}
"""URLs of clickhouse-connect, and of clickhouse-sqlalchemy with its three drivers."""

_REFUSAL = re.compile("HTTP (401|403|516)")
"""How ClickHouse answers a client whose user or password it does not know, or whose rights do not suffice."""


class ClickHouse(WithLogin):
    """ClickHouse where it runs.

    >>> env.clickhouse.client().command("select 1")
    1
    """

    name = "clickhouse"
    title = "ClickHouse"
    settings_group = ClickHouseSettings
    driver = "clickhouse-connect"
    boot_rank = 30
    parts = Parts(
        isolation="triton_env.services.clickhouse.isolation:ClickHouseIsolation",
        seeding="triton_env.services.clickhouse.seeding:ClickHouseSeeding",
        diagnostics="triton_env.services.clickhouse.diagnostics:ClickHouseDiagnostics",
        saver="triton_env.services.clickhouse.backup:save",
        restorer="triton_env.services.clickhouse.restore:ClickHouseRestorer",
        takeover="triton_env.services.clickhouse.takeover:takeover",
        remains="triton_env.services.clickhouse.remains:remains",
        way_in="triton_env.services.clickhouse.shell:SHELL",
        sql="triton_env.services.clickhouse.sql:SQL",
        insight="triton_env.services.clickhouse.insight:ClickHouseInsight",
    )
    attributes = (*Service.attributes, "user", "password", "database", "http_port", "native_port")

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        environment = {
            "CLICKHOUSE_USER": settings.clickhouse_user,
            "CLICKHOUSE_PASSWORD": settings.clickhouse_password.get_secret_value(),
            "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT": "1",
        }
        if settings.triton_clickhouse_options:
            environment["TRITON_CLICKHOUSE_OPTIONS"] = settings.triton_clickhouse_options
        return cls._recipe(
            settings,
            # The image sets up its user at every start, and `ensure_ready` makes the database: these may change.
            data=DataRecipe(
                volume="clickhouse_data",
                path="/var/lib/clickhouse",
                version_command=("clickhouse-server", "--version"),
                compatibility=DataCompatibility.NOT_NEWER,
            ),
            container=ContainerRecipe(
                image=settings.clickhouse_image,
                image_variable="CLICKHOUSE_IMAGE",
                alias="clickhouse",
                # No CLICKHOUSE_DB: with it the image boots a temporary server first, then stops it and boots again.
                # The database is created by `ensure_ready` instead.
                environment=environment,
                alone=Additions({"CLICKHOUSE_DB": settings.clickhouse_db}),
                command=("sh", f"{_START_FOLDER}/start.sh") if settings.triton_clickhouse_options else (),
                files={path: packaged_file(file) for path, file in _START.items()}
                if settings.triton_clickhouse_options
                else {},
                # Claims are large: they go to disk even where the small services live in memory.
                storage=Storage.DISK,
                unprivileged=Unprivileged(_USER),
            ),
            process=_process(settings),
        )

    @property
    def http_port(self) -> int:
        """The port of the HTTP protocol, as this process reaches it."""
        return self.placement.endpoints["http"].port

    @property
    def native_port(self) -> int | None:
        """The port of the native protocol, as this process reaches it; None where the runtime has none."""
        endpoint = self.placement.endpoints.get("native")
        return endpoint.port if endpoint else None

    @classmethod
    def scheme_for(cls, driver: str) -> tuple[str, str] | None:
        return _SCHEMES.get(driver)

    def client(self, **options: Any) -> "Client":
        """A new client on the target database.

        Args:
            **options: keyword arguments of `clickhouse_connect.get_client`; they win over those worked out here.

        Raises:
            ServiceDied: the server has ended.
            clickhouse_connect.driver.exceptions.Error: it cannot be reached, or turns this client down.
        """
        import clickhouse_connect
        from clickhouse_connect.driver.httputil import default_pool_manager

        connection = self._connection()
        if "http_proxy" not in options:
            # Without a pool the client obeys HTTP_PROXY, and no proxy leads here.
            connection["pool_mgr"] = default_pool_manager()
        with self._death_told():
            return clickhouse_connect.get_client(**(connection | options))

    async def aclient(self, **options: Any) -> "AsyncClient":
        """A new asynchronous client; see `client`."""
        import clickhouse_connect

        # As above. Here there is no pool to hand over.
        proxies = () if "http_proxy" in options else ("http_proxy", "HTTP_PROXY")
        with self._death_told(), without_variables(proxies):
            return await clickhouse_connect.get_async_client(**(self._connection() | options))

    def snippets(self) -> Mapping[str, str]:
        address = f"http://{self.host}:{self.http_port}/?database={url_quoted(self.database)}"
        login = f"{self.user}:{self.password}"
        return {
            **super().snippets(),
            "Python": f"import clickhouse_connect\nclient = clickhouse_connect.get_client(dsn={self.url!r})",
            "curl": shlex.join(("curl", "-u", login, address, "-d", "SELECT version()")),
        }

    def server_version(self) -> str:
        return ask(self, {_ALWAYS_THERE: "SELECT version()"})

    def ensure_ready(self) -> None:
        if self._set_aside():
            # `check_data` says so. An empty database of that name would only hide what has happened.
            return
        ask(self, {_ALWAYS_THERE: f"CREATE DATABASE IF NOT EXISTS `{self.database}`", self.database: "SELECT 1"})

    def check_ready(self) -> None:
        if not self._set_aside():
            ask(self, {self.database: "SELECT 1"})

    def missing(self) -> str:
        answer = ask(self, {_ALWAYS_THERE: f"EXISTS DATABASE `{self.database}`"})
        return "" if answer == "1" else f"database {self.database}"

    def check_data(self) -> None:
        if aside := self._set_aside():
            raise RestoreUnfinished(
                f"The ClickHouse database {self.database} was set aside by a restore that was interrupted, of which "
                "nothing is known here.",
                where=f"{self.host}:{self.http_port}",
                cause=f"its data is in {aside}",
                hint="wait until the restore has ended; where no process is restoring: "
                f"RENAME DATABASE `{aside}` TO `{self.database}`",
            )

    def _set_aside(self) -> str:
        """The name that the target database got from a restore; empty where it has its own."""
        name = self.database.replace("\\", "\\\\").replace("'", "\\'")
        answer = ask(self, {_ALWAYS_THERE: _SET_ASIDE % {"name": name}})
        names = answer.splitlines()
        return "" if self.database in names else next(iter(names), "")

    def refuses(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError) and _REFUSAL.match(str(error)) is not None

    def _connection(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.http_port,
            "username": self.user,
            "password": self.password,
            "database": self.database,
        }

    def _url(self, endpoint: Endpoint) -> str:
        return f"http://{url_quoted(self.user)}:{url_quoted(self.password)}@{endpoint}/{self.database}"


def _process(settings: Settings) -> ProcessRecipe:
    try:
        installed = programs.chosen(settings.triton_clickhouse_bin)
    except InvalidSetting as error:
        return replace(_of_package(settings), unusable=error)
    if installed is None:
        return _of_package(settings)
    from triton_env.services.clickhouse import configuration  # not on top: it reads XML, and few machines have one

    return configuration.process(installed, settings)


def _of_package(settings: Settings) -> ProcessRecipe:
    """The server over the engine of the Python package."""
    user = {"name": settings.clickhouse_user, "password": settings.clickhouse_password.get_secret_value()}
    process = ProcessRecipe(
        argv=(
            *("{python}", "-m", "triton_env.servers.clickhouse", "--host", "{host}"),
            *("--port", "{port:http}", "--native-port", "{port:native}", "--path", "{data}"),
            *("--users-file", "-"),
            *("--database", settings.clickhouse_db),
            *(f"--option={name}={value}" for name, value in parsed(settings.triton_clickhouse_options).items()),
        ),
        requires=(
            "chdb-core",
            "uvicorn",
            "httptools",
            "python-multipart",
            "lz4",
            "clickhouse-cityhash",
            "brotli",
        ),
        storage=Storage.DISK,
        # The engine takes itself for a program of its user, who may read and write any file.
        is_confined=True,
        # Not a file: the server's clients may name those that it can read.
        input=json.dumps([user]),
        # A ClickHouse keeps users in another way.
        shares_data=False,
        variable=programs.VARIABLE,
    )
    return replace(process, lasting=replace(process, stop_signal="SIGTERM", stop_timeout=60.0))


SERVICE = ClickHouse
