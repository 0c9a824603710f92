"""PostgreSQL."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from triton_env.model import ContainerRecipe, Endpoint, Port, ServiceRecipe, Storage
from triton_env.services.base import (
    CONNECT_TIMEOUT,
    Service,
    random_password,
    url_quoted,
)
from triton_env.settings import Settings

if TYPE_CHECKING:
    import psycopg

_THROWAWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""Durability that data on tmpfs cannot have anyway.
https://www.postgresql.org/docs/current/non-durability.html"""


class Postgres(Service):
    """PostgreSQL where it runs.

    >>> env.postgres.connect().execute("select 1").fetchone()  # doctest: +SKIP
    (1,)
    """

    name = "postgres"
    title = "PostgreSQL"

    @staticmethod
    def fresh_credentials() -> Mapping[str, Any]:
        return {"postgres_password": SecretStr(random_password())}

    @staticmethod
    def recipe(settings: Settings) -> ServiceRecipe:
        password = settings.postgres_password.get_secret_value()
        environment = {
            "POSTGRES_USER": settings.postgres_user,
            "POSTGRES_PASSWORD": password,
            "POSTGRES_DB": settings.postgres_db,
        }
        command: tuple[str, ...] = ()
        if settings.triton_storage is Storage.MEMORY:
            environment["POSTGRES_INITDB_ARGS"] = "--no-sync"
            command = (
                "postgres",
                *(word for option in _THROWAWAY for word in ("-c", option)),
            )
        return ServiceRecipe(
            name=Postgres.name,
            title=Postgres.title,
            ports=(Port("postgres", 5432, fixed=settings.postgres_port),),
            timeout=settings.triton_postgres_timeout,
            secrets=frozenset({password}),
            container=ContainerRecipe(
                image=settings.postgres_image,
                image_variable="POSTGRES_IMAGE",
                alias="postgres",
                environment=environment,
                command=command,
                storage=settings.triton_storage,
            ),
        )

    @property
    def user(self) -> str:
        """The user, who is a superuser."""
        return self._settings.postgres_user

    @property
    def password(self) -> str:
        """The user's password."""
        return self._settings.postgres_password.get_secret_value()

    @property
    def database(self) -> str:
        """The target database."""
        return self._settings.postgres_db

    def connect(self, **options: Any) -> "psycopg.Connection[Any]":
        """A new connection to the target database.

        Args:
            **options: keyword arguments of `psycopg.connect`; they win over those worked out here.

        Raises:
            psycopg.OperationalError: the server cannot be reached.
        """
        import psycopg

        return psycopg.connect(**(self._connection() | options))

    async def aconnect(self, **options: Any) -> "psycopg.AsyncConnection[Any]":
        """A new asynchronous connection; see `connect`."""
        import psycopg

        return await psycopg.AsyncConnection.connect(**(self._connection() | options))

    def ensure_ready(self) -> None:
        with self.connect(connect_timeout=CONNECT_TIMEOUT, autocommit=True) as connection:
            connection.execute("select 1")

    def _connection(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }

    def _url(self, endpoint: Endpoint) -> str:
        return f"postgresql://{url_quoted(self.user)}:{url_quoted(self.password)}@{endpoint}/{self.database}"

    def _variables(self, endpoints: Mapping[str, Endpoint], url: str) -> dict[str, str]:
        endpoint = endpoints["postgres"]
        return {
            "POSTGRES_HOST": endpoint.host,
            "POSTGRES_PORT": str(endpoint.port),
            "POSTGRES_USER": self.user,
            "POSTGRES_PASSWORD": self.password,
            "POSTGRES_DB": self.database,
            "DATABASE_URL": url,
        }
