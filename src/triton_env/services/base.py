"""What every service is: a recipe, a readiness probe, connection properties and clients."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from secrets import token_urlsafe
from typing import Any, ClassVar, Self
from urllib.parse import quote

from triton_env.core.model import (
    ContainerRecipe,
    DataRecipe,
    Endpoint,
    ExternalRecipe,
    Placement,
    Port,
    ProcessRecipe,
    ServiceRecipe,
    TakesOver,
)
from triton_env.core.setting_types import SecretStr, plain_text
from triton_env.core.settings_group import CONNECTION, LOGIN, Role, SettingsGroup
from triton_env.errors import NoSharedNetwork, ServiceDied, UsageError
from triton_env.services.parts import Parts
from triton_env.settings import Settings
from triton_env.settings.external import host_of, leading_variables

_SECRET = ("PASSWORD", "SECRET", "TOKEN")
"""In the names of variables whose values are secret."""

CONNECT_TIMEOUT = 2
"""Seconds that one try of a readiness probe may take to connect or to get an answer."""

_TIMEOUT = 120.0
"""Seconds for the start of a service without a setting for that."""


class Service(ABC):
    """One backing service at the place where it runs. Holds no connection; each client is the caller's own.

    Args:
        settings: names and credentials that the running server was given.
        placement: where it answers.
    """

    name: ClassVar[str]
    """Its name in the API, in labels and on the command line."""
    title: ClassVar[str]
    """Its name for people."""
    driver: ClassVar[str] = ""
    """The distribution that its clients come from."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """What it is called elsewhere, such as in what Docker lists; the command line takes these words too."""
    settings_group: ClassVar[type[SettingsGroup]] = SettingsGroup
    """The settings that are its own."""
    misleading: ClassVar[frozenset[str]] = frozenset()
    """Variables by which an application's client would not reach this service, whatever URL it is given."""

    boot_rank: ClassVar[int] = 0
    """How long it takes to boot compared with others: the highest is started first, since all wait for that one."""
    starting: ClassVar[str] = ""
    """A regular expression for the words with which it refuses clients while it starts; empty for none."""
    parts: ClassVar[Parts] = Parts()
    """What it offers beyond its clients."""
    takes_over: ClassVar[TakesOver] = TakesOver.IN_TURN
    """When a restore has it hold what was loaded. At most one service of an environment takes over for good."""

    attributes: ClassVar[tuple[str, ...]] = ("host", "port", "url")
    """The properties that variables of an application can be made of; see `triton_env.settings.variables`."""

    def __init__(self, settings: Settings, placement: Placement) -> None:
        self._settings = settings
        self.placement = placement
        self._died: Callable[[], ServiceDied | None] = _not_known

    def _watched_by(self, died: Callable[[], ServiceDied | None]) -> Self:
        """Have it ask, where a client cannot connect, whether the server has died; returns itself."""
        self._died = died
        return self

    def _like(self, other: "Service") -> Self:
        """Watched as another service of the same server; returns itself."""
        return self._watched_by(other._died)

    @contextmanager
    def _death_told(self) -> Iterator[None]:
        """In its block, an error of a client says that the server has died, where it has."""
        try:
            yield
        except Exception as error:
            if died := self._died():
                raise died.beside(error) from error
            raise

    def with_settings(self, **values: Any) -> Self:
        """This service as clients with other values for some settings see it, watched as this one.

        Args:
            **values: by field, taken as they are.
        """
        other = copy.copy(self)
        other._settings = self._settings.updated(**values)
        return other

    @classmethod
    def fresh_credentials(cls) -> Mapping[str, Any]:
        """Random credentials for a session, as values for `Settings.updated`."""
        return {name: SecretStr(random_password()) for name in cls.settings_group.names_of(*LOGIN)}

    @classmethod
    @abstractmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        """How to run this service with these settings."""

    @classmethod
    def _recipe(
        cls, settings: Settings, container: ContainerRecipe, process: ProcessRecipe, data: DataRecipe | None = None
    ) -> ServiceRecipe:
        """The recipe with what follows from the roles of the settings.

        Args:
            data: what it needs to know of data that stays.
        """
        group = cls.settings_group
        settings = settings.with_group(group)
        own = settings.group(group)
        ports = [group.model_fields[name] for name in group.names_of(Role.PORT)]
        return ServiceRecipe(
            name=cls.name,
            title=cls.title,
            ports=tuple(
                Port(each.protocol, each.default, fixed=cls._fixed_port(settings, each.name), variable=each.variable)
                for each in ports
            ),
            timeout=next((getattr(own, name) for name in group.names_of(Role.TIMEOUT)), _TIMEOUT),
            external=ExternalRecipe(host_of(settings, group), leading_variables(group), cls.starting),
            secrets=own.secrets(group.model_fields),
            known_password=known_password(group, own),
            options=next((name.upper() for name in group.names_of(Role.OPTIONS) if getattr(own, name)), ""),
            data=data,
            container=container,
            process=process,
        )

    @classmethod
    def _fixed_port(cls, settings: Settings, name: str) -> int:
        """The port of a field, where ports are fixed."""
        return settings.fixed_port(name)

    def prepare(self) -> None:  # noqa: B027 - most services need nothing of the kind
        """Do what is to be done once, when the server is up and before any client comes.

        It raises whatever a client raises while the server is not up, and is then called again.
        """

    @abstractmethod
    def server_version(self) -> str:
        """Ask the server which one it is: its version, with its name where that is not the service's own.

        Raises:
            Exception: whatever the client raises where the server does not answer.
        """

    @abstractmethod
    def ensure_ready(self) -> None:
        """Do real work as a client, creating the database or bucket that the settings name where it is missing.

        This is the readiness probe: it raises whatever the client raises while the service is not ready.
        """

    def check_ready(self) -> None:
        """Do real work as a client, creating nothing: the readiness probe for external servers.

        It raises whatever the client raises while the service is not ready, or lacks the database or bucket.
        """
        self.ensure_ready()

    def missing(self) -> str:
        """What clients look for on the server and do not find, such as its database; empty where nothing is missing.

        Raises:
            Exception: whatever the client raises where the server does not answer.
        """
        return ""

    def check_data(self) -> None:  # noqa: B027 - most services have nothing to see to
        """See that the data is where clients look for it.

        Raises:
            RestoreUnfinished: a restore that was interrupted has set it aside, and nothing is known of that here.
        """

    def refuses(self, error: Exception) -> bool:
        """Whether a probe's error means that this client is refused, which waiting does not change."""
        return False

    @abstractmethod
    def _url(self, endpoint: Endpoint) -> str: ...

    def _variables(self, endpoints: Mapping[str, Endpoint], url: str) -> dict[str, str]:
        own = self._settings.group(self.settings_group)
        variables: dict[str, str] = {}
        for name, field in self.settings_group.model_fields.items():
            match field.role:
                case Role.URL:
                    variables[field.variable] = url
                case Role.HOST:
                    variables[field.variable] = next(iter(endpoints.values())).host
                case Role.PORT if endpoint := endpoints.get(field.protocol):
                    variables[field.variable] = str(endpoint.port)
                case Role.PORT:
                    pass  # of a protocol that this runtime does not have
                case role if role in CONNECTION:
                    variables[field.variable] = plain_text(getattr(own, name))
        return variables

    def _value(self, role: Role) -> Any:
        """The value of its setting with this role."""
        (name, *_) = self.settings_group.names_of(role)
        return getattr(self._settings.group(self.settings_group), name)

    @property
    def _main(self) -> Endpoint:
        return next(iter(self.placement.endpoints.values()))

    @property
    def host(self) -> str:
        """The host at which this process reaches the service."""
        return self._main.host

    @property
    def port(self) -> int:
        """The main port, as this process reaches it."""
        return self._main.port

    @property
    def url(self) -> str:
        """The URL for clients on this machine, with credentials."""
        return self._url(self._main)

    @property
    def address(self) -> str:
        """Where clients on this machine find what is theirs, for people. It holds credentials."""
        return f"{self.url} {self.beside_url}".rstrip()

    def url_for(self, driver: str) -> str:
        """The URL as a driver or a dialect of SQLAlchemy has it, such as `SCHEME+asyncpg://...` for "asyncpg".

        Args:
            driver: its name in such URLs.

        Raises:
            UsageError: this service has no URL for it, or not on this runtime.
        """
        found = self.scheme_for(driver)
        if found is None:
            raise UsageError(f"{self.title} has no URL for {driver!r}.", hint=f"take env.{self.name}.url")
        scheme, protocol = found
        endpoint = self.placement.endpoints.get(protocol)
        if endpoint is None:
            raise UsageError(
                f"{self.title} has no {protocol} protocol here, which {driver!r} needs.",
                hint="set TRITON_RUNTIME=docker, or take a driver for another protocol",
            )
        return f"{scheme}://{self._url(endpoint).partition('://')[2]}"

    @property
    def beside_url(self) -> str:
        """What its clients are in that the URL does not name, in words; empty where the URL names all."""
        return ""

    def details(self) -> tuple[str, ...]:
        """What a client needs besides the URL and the ports, in lines for people. They hold secrets."""
        return ()

    def snippets(self) -> Mapping[str, str]:
        """Ready lines that connect to it, by what they are, the URL first. They hold secrets."""
        return {"URL": self.url}

    @property
    def secrets(self) -> frozenset[str]:
        """Its passwords and keys, as they are and as they stand in URLs: what must not be shown."""
        named = {value for name, value in self.environ().items() if value and any(word in name for word in _SECRET)}
        return frozenset(named | {url_quoted(value) for value in named})

    @classmethod
    def scheme_for(cls, driver: str) -> tuple[str, str] | None:
        """The scheme of URLs for a driver, and the protocol that it speaks; None where there are no such URLs."""
        return None

    def inside(self) -> Self:
        """This service as other containers on the shared network see it.

        Raises:
            NoSharedNetwork: the runtime has no such network.
        """
        if self.placement.internal is None:
            raise NoSharedNetwork(self.title)
        inside = copy.copy(self)
        inside.placement = replace(self.placement, endpoints=self.placement.internal)
        return inside

    @property
    def internal_url(self) -> str | None:
        """The URL for other containers on the shared network; None where the runtime has no such network."""
        if self.placement.internal is None:
            return None
        return self._url(next(iter(self.placement.internal.values())))

    def environ(self, *, internal: bool = False) -> dict[str, str]:
        """The connection variables of this service, by the names of `.env.example`.

        Args:
            internal: the values for other containers on the shared network instead of this machine.

        Raises:
            NoSharedNetwork: `internal` where there is none.
        """
        if not internal:
            return self._variables(self.placement.endpoints, self.url)
        if self.placement.internal is None or self.internal_url is None:
            raise NoSharedNetwork(self.title)
        return self._variables(self.placement.internal, self.internal_url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._main}>"


def _not_known() -> ServiceDied | None:
    return None


class WithLogin(Service):
    """A service whose clients log in to a database."""

    @property
    def user(self) -> str:
        """The user that clients log in as, who may manage access."""
        return str(self._value(Role.USER))

    @property
    def password(self) -> str:
        """The user's password."""
        return plain_text(self._value(Role.PASSWORD))

    @property
    def database(self) -> str:
        """The target database."""
        return str(self._value(Role.DATABASE))


def known_password(group: type[SettingsGroup], own: SettingsGroup, *others: Role) -> str:
    """The variable of a password that is empty or public; empty where it is neither.

    Args:
        others: roles of settings that are passwords too.
    """
    for name in group.names_of(Role.PASSWORD, *others):
        if plain_text(getattr(own, name)) in ("", plain_text(group.model_fields[name].default)):
            return name.upper()
    return ""


def random_password() -> str:
    """A password of 24 URL-safe characters (about 143 bits) that needs no quoting in URLs, SQL, XML or a shell."""
    return token_urlsafe(18).replace("-", "a").replace("_", "b")


def url_quoted(text: str) -> str:
    """`text` for the user or password part of a URL."""
    return quote(text, safe="")
