"""The one settings model, which reads the process environment and `.env`.

Precedence, highest first: arguments, the process environment, `.env` of the project, the default.
A field's name in upper case is its variable; `.env.example` documents each of them.

Names such as POSTGRES_PORT and API_PORT belong to the application as well, and Kubernetes sets some of them. So what is
wrong with one of these is said where its value is used, and stops nothing else.
"""

import copy
import inspect
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
)
from urllib.parse import urlsplit

from triton_env.core.packaged_files import packaged_file
from triton_env.core.setting_types import Field, Number, Secret, SecretStr, StorageName, Text, fields_of
from triton_env.errors import InvalidSetting
from triton_env.settings import dotenv_file, variables
from triton_env.settings.process import HUB_PREFIX
from triton_env.settings.project_folders import current_folder


def _is_address_or_empty(text: str) -> str:
    if text:
        ip_address(text)  # its ValueError says what is wrong
    return text


def _is_http_url(text: str) -> str:
    parts = urlsplit(text)
    # Reading the port raises ValueError where it is none.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it has to be a URL such as http://localhost:4566")
    return text


def problem_of_text(text: str) -> str:
    """Why a text cannot be a setting; empty where it can.

    Servers get settings in lines: of configuration, of a password file, of HTTP headers.
    """
    if text.isascii() and text.isprintable():
        return ""
    categories = {unicodedata.category(character) for character in text}
    if "Cc" in categories or not categories.isdisjoint(("Zl", "Zp")):
        return "it may not hold line breaks and other control characters"
    return "it has to be text in UTF-8" if "Cs" in categories else ""


def _from_hub(image: str) -> str:
    """An image's name with Testcontainers' prefix for those of Docker Hub: one name for all that use it."""
    prefix = os.environ.get(HUB_PREFIX, "")
    registry, slash, _ = image.partition("/")
    elsewhere = slash and registry != "docker.io" and (set(registry) & set(".:") or registry == "localhost")
    if not prefix or elsewhere or image.startswith(prefix):
        return image
    return prefix + image.removeprefix("docker.io/")


PortNumber = Annotated[int, Number(ge=1, le=65535)]
Seconds = Annotated[float, Number(gt=0)]
Name = Annotated[str, Text(1)]
Image = Annotated[str, Text(1), _from_hub]
Identifier = Annotated[
    str,
    Text(most=63, pattern=r"[A-Za-z_][A-Za-z0-9_]*", allowed="letters, digits and _, without a digit at the beginning"),
]
"""A name that PostgreSQL and ClickHouse take unquoted; the ClickHouse image pastes it unquoted into SQL and XML."""
IpAddress = Annotated[str, _is_address_or_empty]
HttpUrl = Annotated[str, _is_http_url]
LogLevel = Annotated[str, Text(1), str.upper]
"""Any word, in upper case: which levels there are is for the application to say."""
ProjectName = Annotated[str, Text(2, 40, r"[a-z0-9][a-z0-9_-]*", "lower-case letters, digits, _ and -")]
"""What Compose takes as a project name. Of one letter it would make volume names that are drives on Windows."""
BucketName = Annotated[
    str, Text(pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", allowed="3 to 63 lower-case letters, digits, . and -")
]

Region = Annotated[
    str, Text(pattern=r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", allowed="at most 63 letters, digits and -")
]
"""What boto3 takes for one. It goes into XML and HTTP headers as it is."""

RuntimeName = Literal["auto", "docker", "embedded", "external"]
RUNTIME_NAMES: tuple[str, ...] = get_args(RuntimeName)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, and where, in words."""

    value: object
    origin: str


_Kind = TypeVar("_Kind", bound="type[Settings]")


# Type checkers see a constructor with the fields as its keywords.
@dataclass_transform(frozen_default=True, kw_only_default=True)
def _with_fields(kind: _Kind) -> _Kind:
    """Note the fields that the class declares. None is an attribute of it: one that has a problem is to be missing."""
    kind.model_fields = fields_of(kind)
    for name in kind.model_fields:
        delattr(kind, name)
    return kind


@_with_fields
class Settings:
    """Every setting of triton-env.

    Args:
        **values: by field. What is not among them comes from the process environment, `.env`, or is the default.

    Raises:
        InvalidSetting: naming the variable, its value unless it is a secret, and what is allowed.
    """

    # PostgreSQL
    postgres_user: Identifier = "triton_user"
    postgres_password: Secret = Secret("development_password_change_in_prod")
    postgres_db: Identifier = "triton"
    postgres_host: Name = "localhost"
    postgres_port: PortNumber = 5432
    database_url: Secret = Secret("postgresql://triton_user:development_password_change_in_prod@localhost:5432/triton")

    # ClickHouse
    clickhouse_host: Name = "localhost"
    clickhouse_port: PortNumber = 9000
    clickhouse_http_port: PortNumber = 8123
    clickhouse_user: Identifier = "default"
    clickhouse_password: Secret = Secret("development_password_change_in_prod")
    clickhouse_db: Identifier = "triton"
    clickhouse_nofile: Annotated[int, Number(ge=1024)] = 20_000

    # Redis
    redis_url: Secret = Secret("redis://localhost:6379/0")
    redis_host: Name = "localhost"
    redis_port: PortNumber = 6379
    redis_password: Secret = Secret("")

    # S3 (LocalStack)
    aws_endpoint_url: HttpUrl = "http://localhost:4566"
    localstack_port: PortNumber = 4566
    aws_access_key_id: Name = "test"
    aws_secret_access_key: Secret = Secret("test")
    aws_default_region: Region = "us-east-1"
    s3_bucket: BucketName = "triton-documents"
    localstack_auth_token: Secret = Secret("")
    localstack_host: str = ""
    extra_cors_allowed_origins: str = ""

    # Images
    postgres_image: Image = "postgres:14-alpine"
    clickhouse_image: Image = "clickhouse/clickhouse-server:latest"
    redis_image: Image = "redis:7-alpine"
    localstack_image: Image = "localstack/localstack:4.14.0"

    # triton-env
    triton_runtime: RuntimeName = "auto"
    triton_project: ProjectName = "triton"
    triton_bind_address: IpAddress = ""
    triton_ports: Literal["random", "fixed"] = "random"
    triton_passwords: Literal["random", "fixed"] = "random"
    triton_variables: Annotated[str, variables.checked] = ""
    triton_storage: StorageName = StorageName("memory")
    triton_pull: Literal["missing", "never"] = "missing"
    triton_pull_timeout: Seconds = 600
    triton_poll_interval: Seconds = 0.03
    triton_postgres_timeout: Seconds = 120
    triton_clickhouse_timeout: Seconds = 120
    triton_redis_timeout: Seconds = 120
    triton_s3_timeout: Seconds = 120
    triton_progress: Literal["auto", "live", "plain", "off"] = "auto"
    triton_state_dir: str = ""
    triton_session: str = ""
    triton_linger: Annotated[float, Number(ge=0)] = 10
    triton_namespaces: Literal["session", "everywhere"] = "session"
    triton_pool_size: Annotated[int, Number(ge=0, le=64)] = 4

    # The application
    environment: Name = "development"
    log_level: LogLevel = "INFO"
    debug_mode: bool = False
    api_host: Name = "127.0.0.1"
    api_port: PortNumber = 8000

    # As class variables, which are not arguments of the constructor that type checkers see.
    model_fields: ClassVar[Mapping[str, Field]]
    """All of them by name, in this order."""
    model_fields_set: ClassVar[frozenset[str]]
    """Those that do not just have their defaults."""
    _problems: ClassVar[Mapping[str, InvalidSetting]]
    """What is wrong with variables that are checked where they are used, by fields; these have no value here."""
    _origins: ClassVar[Mapping[str, str]]
    """Where the values come from that do not just have their defaults, by fields."""

    if not TYPE_CHECKING:  # which make one with the fields as its keywords

        def __init__(self, /, **values: Any) -> None:
            given = _given(values)
            good: dict[str, Any] = {}
            bad: dict[str, str] = {}
            for name, each in given.items():
                try:
                    good[name] = _converted(name, each.value)
                except ValueError as error:
                    bad[name] = str(error)
            if any(not _is_shared(name) or given[name].origin == _ARGUMENT for name in bad):
                raise _invalid_setting({name: (given[name], words) for name, words in bad.items()})
            defaults = {name: _converted(name, each.default) for name, each in _FIELDS.items() if name not in given}
            problems = {name: _invalid_setting({name: (given[name], words)}) for name, words in bad.items()}
            origins = {name: each.origin for name, each in given.items()}
            vars(self).update(defaults, **good, model_fields_set=frozenset(good), _problems=problems, _origins=origins)

    def __init_subclass__(cls) -> None:
        if fields := sorted(inspect.get_annotations(cls).keys() | (vars(cls).keys() & _FIELDS.keys())):
            raise TypeError(f"{cls.__name__}: the fields of Settings are not extended or changed ({', '.join(fields)})")

    @classmethod
    def model_construct(cls, **values: Any) -> Self:
        """Settings with these values, taken as they are, and defaults; neither variables nor `.env` are looked at."""
        made = cls.__new__(cls)
        vars(made).update({name: values.get(name, field.default) for name, field in _FIELDS.items()})
        vars(made).update(model_fields_set=frozenset(values), _problems={}, _origins={})
        return made

    def updated(self, **values: Any) -> Self:
        """A copy with other values for some fields, which are taken as they are."""
        copied = copy.copy(self)
        problems = {name: problem for name, problem in self._problems.items() if name not in values}
        origins = {name: origin for name, origin in self._origins.items() if name not in values}
        fields_set = self.model_fields_set | set(values)
        vars(copied).update(values, model_fields_set=fields_set, _problems=problems, _origins=origins)
        return copied

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Names and values; of variables that cannot be used, the defaults."""
        return ((name, self.or_default(name)) for name in _FIELDS)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings are frozen: make a copy with settings.updated({name}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        # One that cannot be used is not the default.
        return tuple(self) == tuple(other) and self._problems.keys() == other._problems.keys()

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self)})"

    if not TYPE_CHECKING:  # with it, type checkers would take every attribute for one that exists

        def __getattr__(self, name: str) -> Any:
            _raise_problem(self, (name,))
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def check(self, *variables: str) -> None:
        """See that these variables, named in upper case, can be used.

        Raises:
            InvalidSetting: one cannot.
        """
        _raise_problem(self, [variable.lower() for variable in variables])

    def or_default(self, field: str) -> Any:
        """A field's value, and its default where the variable cannot be used: for what may not be used at all."""
        return vars(self)[field] if field in vars(self) else _converted(field, _FIELDS[field].default)

    def origin(self, field: str) -> str:
        """Where a field's value comes from, such as "line 3 of /work/.env"; empty where that is not known."""
        return self._origins.get(field, "")

    def fixed_port(self, field: str) -> int:
        """A port of `.env`, for a description that holds it whether it is used or not.

        Raises:
            InvalidSetting: the ports of a session are fixed, and this one cannot be used.
        """
        return int(getattr(self, field) if self.triton_ports == "fixed" else self.or_default(field))

    @property
    def problems(self) -> tuple[InvalidSetting, ...]:
        """What is wrong with variables of services; they are checked where they are used."""
        return tuple(problem for name, problem in self._problems.items() if name not in _OF_APPLICATION)


_FIELDS = Settings.model_fields
_ARGUMENT = "an argument"
_OF_KUBERNETES = "Kubernetes sets it for a service of that name: unset it, or give the pod enableServiceLinks: false"
_PASSWORD = re.compile(r"(?<=//)\S*(?=@)|(?<=:)(?!//)\S*(?=@)")
"""Of a URL, or of what was meant as one."""
_OF_APPLICATION = frozenset({"environment", "log_level", "debug_mode", "api_host", "api_port"})


def _is_shared(field: str) -> bool:
    """Whether a setting's variable is shared with other programs."""
    return field in _FIELDS and not field.startswith("triton_")


def _raise_problem(settings: Settings, fields: Iterable[str]) -> None:
    # Not there in one that is being copied.
    problems = vars(settings).get("_problems", {})
    for field in fields:
        if problem := problems.get(field):
            # A new one, each time with its own traceback.
            raise copy.copy(problem)


_start: ContextVar[Path | None] = ContextVar("_start", default=None)
"""The folder whose `.env` is read, where it is not the current one."""


def settings_in(folder: Path) -> Settings:
    """The settings with the `.env` of a folder, or of the project that it is in, instead of the current folder's."""
    token = _start.set(folder)
    try:
        return Settings()
    finally:
        _start.reset(token)


def _given(arguments: Mapping[str, object]) -> dict[str, _Given]:
    """What is given, by field: by arguments, the process environment, `.env`, and the project's pyproject.toml."""
    given: dict[str, _Given] = {}
    if table := variables.in_project(_start.get() or current_folder()):
        given["triton_variables"] = _Given(table[0], str(table[1]))
    # `.env` belongs to the whole project: names that are not ours are none of our business.
    if path := dotenv_file.find(_start.get()):
        for name, entry in dotenv_file.read(path).items():
            if entry.value and name.lower() in _FIELDS:
                given[name.lower()] = _Given(entry.value, f"line {entry.line} of {path}")
    for name, value in os.environ.items():
        if value and name.lower() in _FIELDS:
            given[name.lower()] = _Given(value, "the process environment")
    return given | {name: _Given(value, _ARGUMENT) for name, value in arguments.items()}


def _converted(name: str, value: object) -> Any:
    """A value as what its field holds.

    Raises:
        ValueError: it cannot be that, with words about what is allowed; or no field has that name.
    """
    if name not in _FIELDS:
        raise ValueError
    value = _FIELDS[name].converted(value)
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str) and (problem := problem_of_text(text)):
        raise ValueError(problem)
    return value


def _invalid_setting(bad: Mapping[str, tuple[_Given, str]]) -> InvalidSetting:
    lines = [_described(name, given.value, words) for name, (given, words) in bad.items()]
    return InvalidSetting(
        lines[0] if len(lines) == 1 else f"{len(lines)} settings cannot be used:\n  " + "\n  ".join(lines),
        where=", ".join(f"{name.upper()} comes from {given.origin}" for name, (given, _) in bad.items()),
        hint=_OF_KUBERNETES
        if any(str(given.value).startswith("tcp://") for given, _ in bad.values())
        else f"what each variable means and takes: cat {packaged_file('.env.example')}",
    )


def _described(name: str, value: object, words: str) -> str:
    if name not in _FIELDS:
        return f"There is no setting {name!r}."
    if _FIELDS[name].annotation is SecretStr:
        shown = "its value (a secret)"
    elif name == "triton_variables":
        shown = "its value (not shown)"  # templates, beside which an application may have written a password
    else:
        shown = _shown(value)
    return f"{name.upper()} cannot be {shown}: {words}."


def _shown(value: object) -> str:
    text = _PASSWORD.sub("***", repr(value))
    return text if len(text) <= 60 else text[:59] + "…"
