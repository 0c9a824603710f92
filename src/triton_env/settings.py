"""The one settings model, and the only reader of the process environment and of `.env`.

Precedence, highest first: arguments, the process environment, `.env` of the project, the default.
A field's name in upper case is its variable; `.env.example` documents each of them.

Names such as POSTGRES_PORT and API_PORT belong to the application as well, and Kubernetes sets some of them. So what is
wrong with one of these is said where its value is used, and stops nothing else.
"""

import copy
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from triton_env import dotenv_file
from triton_env.errors import InvalidSetting
from triton_env.model import Storage

HUB_PREFIX = "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX"
"""The registry that has the images of Docker Hub: https://java.testcontainers.org/features/image_name_substitution/"""


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


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


PortNumber = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Image = Annotated[str, Field(min_length=1), AfterValidator(_from_hub)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=63)]
"""A name that PostgreSQL and ClickHouse take unquoted; the ClickHouse image pastes it unquoted into SQL and XML."""
IpAddress = Annotated[str, AfterValidator(_is_address_or_empty)]
HttpUrl = Annotated[str, AfterValidator(_is_http_url)]
LogLevel = Annotated[str, Field(min_length=1), BeforeValidator(_upper)]
"""Any word, in upper case: which levels there are is for the application to say."""
ProjectName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", min_length=2, max_length=40)]
"""What Compose takes as a project name. Of one letter it would make volume names that are drives on Windows."""
BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]

Region = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")]
"""What boto3 takes for one. It goes into XML and HTTP headers as it is."""

RuntimeName = Literal["auto", "docker", "embedded", "external"]
RUNTIME_NAMES: tuple[str, ...] = get_args(RuntimeName)


class _DotenvFile(PydanticBaseSettingsSource):
    """`.env` belongs to the whole project: names that are not ours are none of our business."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path | None) -> None:
        super().__init__(settings_cls)
        self._path = path

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("all fields are read at once")

    def __call__(self) -> dict[str, Any]:
        return {
            name.lower(): entry.value
            for name, entry in (dotenv_file.read(self._path) if self._path else {}).items()
            if entry.value and name.lower() in self.settings_cls.model_fields
        }


class Settings(BaseSettings):
    """Every setting of triton-env.

    Raises:
        InvalidSetting: naming the variable, its value unless it is a secret, and what is allowed.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    # PostgreSQL
    postgres_user: Identifier = "triton_user"
    postgres_password: SecretStr = SecretStr("development_password_change_in_prod")
    postgres_db: Identifier = "triton"
    postgres_host: Name = "localhost"
    postgres_port: PortNumber = 5432
    database_url: SecretStr = SecretStr(
        "postgresql://triton_user:development_password_change_in_prod@localhost:5432/triton"
    )

    # ClickHouse
    clickhouse_host: Name = "localhost"
    clickhouse_port: PortNumber = 9000
    clickhouse_http_port: PortNumber = 8123
    clickhouse_user: Identifier = "default"
    clickhouse_password: SecretStr = SecretStr("development_password_change_in_prod")
    clickhouse_db: Identifier = "triton"
    clickhouse_nofile: Annotated[int, Field(ge=1024)] = 20_000

    # Redis
    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    redis_host: Name = "localhost"
    redis_port: PortNumber = 6379
    redis_password: SecretStr = SecretStr("")

    # S3 (LocalStack)
    aws_endpoint_url: HttpUrl = "http://localhost:4566"
    localstack_port: PortNumber = 4566
    aws_access_key_id: Name = "test"
    aws_secret_access_key: SecretStr = SecretStr("test")
    aws_default_region: Region = "us-east-1"
    s3_bucket: BucketName = "triton-documents"
    localstack_auth_token: SecretStr = SecretStr("")
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
    triton_storage: Storage = Storage.MEMORY
    triton_pull: Literal["missing", "never"] = "missing"
    triton_pull_timeout: Seconds = 600
    triton_poll_interval: Seconds = 0.03
    triton_postgres_timeout: Seconds = 120
    triton_clickhouse_timeout: Seconds = 120
    triton_redis_timeout: Seconds = 120
    triton_s3_timeout: Seconds = 120
    triton_progress: Literal["auto", "live", "plain", "off"] = "auto"
    triton_state_dir: str = ""
    triton_linger: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10
    triton_namespaces: Literal["session", "everywhere"] = "session"
    triton_pool_size: Annotated[int, Field(ge=0, le=64)] = 4

    # The application
    environment: Name = "development"
    log_level: LogLevel = "INFO"
    debug_mode: bool = False
    api_host: Name = "127.0.0.1"
    api_port: PortNumber = 8000

    @field_validator("*", mode="after")
    @classmethod
    def _has_no_control_characters(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and (problem := problem_of_text(text)):
            raise ValueError(problem)
        return value

    _problems: dict[str, InvalidSetting] = PrivateAttr(default_factory=dict)
    """What is wrong with variables that are checked where they are used, by fields; these have their defaults."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, handler: Any) -> Self:
        try:
            return handler(values)  # type: ignore[no-any-return]
        except ValidationError as error:
            details = error.errors()
        problems = {
            name: _invalid_setting(cls, [detail])
            for detail in details
            if detail["loc"] and _is_shared(name := str(detail["loc"][0])) and _origin(detail) != _ARGUMENT
        }
        if len(problems) < len(details):
            raise _invalid_setting(cls, details)
        settings: Self = handler({name: value for name, value in values.items() if name not in problems})
        settings._problems.update(problems)
        return settings

    if not TYPE_CHECKING:  # with it, type checkers would take every attribute for one that exists

        def __getattribute__(self, name: str) -> Any:
            if _is_shared(name):
                _raise_problem(self, (name,))
            return super().__getattribute__(name)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the process environment, then `.env`."""
        # Not pydantic's own source: it names neither the file nor the line that it does not understand.
        return (init_settings, env_settings, _DotenvFile(settings_cls, dotenv_file.find(_start.get())))

    def updated(self, **values: Any) -> Self:
        """A copy with other values for some fields, which are taken as they are."""
        copied = self.model_copy(update=values)
        copied._problems = {name: problem for name, problem in self._problems.items() if name not in values}
        return copied

    def check(self, *variables: str) -> None:
        """See that these variables, named in upper case, can be used.

        Raises:
            InvalidSetting: one cannot.
        """
        _raise_problem(self, [variable.lower() for variable in variables])

    def or_default(self, field: str) -> Any:
        """A field's value, and its default where the variable cannot be used: for what may not be used at all."""
        return dict(self)[field]

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


_ARGUMENT = "an argument"
_OF_KUBERNETES = "Kubernetes sets it for a service of that name: unset it, or give the pod enableServiceLinks: false"
_OF_APPLICATION = frozenset({"environment", "log_level", "debug_mode", "api_host", "api_port"})


def _is_shared(field: str) -> bool:
    """Whether a setting's variable is shared with other programs."""
    return field in Settings.__pydantic_fields__ and not field.startswith("triton_")


def _raise_problem(settings: Settings, fields: Iterable[str]) -> None:
    # Not there while the settings are being made.
    private = getattr(settings, "__pydantic_private__", None) or {}
    for field in fields:
        if problem := private.get("_problems", {}).get(field):
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


def _invalid_setting(model: type[Settings], details: Sequence[ErrorDetails]) -> InvalidSetting:
    lines = [_describe(model, detail) for detail in details]
    origins = {str(detail["loc"][0]).upper(): _origin(detail) for detail in details if detail["loc"]}
    return InvalidSetting(
        lines[0] if len(lines) == 1 else f"{len(lines)} settings cannot be used:\n  " + "\n  ".join(lines),
        where=", ".join(f"{name} comes from {origin}" for name, origin in origins.items()),
        hint=_OF_KUBERNETES
        if any(str(detail["input"]).startswith("tcp://") for detail in details)
        else "see .env.example for what each variable means and takes",
    )


def _describe(model: type[Settings], detail: ErrorDetails) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        return f"There is no setting {name!r}."
    annotation = str(model.model_fields[name].annotation)
    value = "its value (a secret)" if "Secret" in annotation else _shown(detail["input"])
    return f"{name.upper()} cannot be {value}: {detail['msg'].removeprefix('Value error, ')}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _origin(detail: ErrorDetails) -> str:
    """Where a bad value was found: pydantic does not tell, so by where it stands."""
    variable = str(detail["loc"][0]).upper()
    bad = str(detail["input"]).upper()
    if any(value.upper() == bad for name, value in os.environ.items() if value and name.upper() == variable):
        return "the process environment"
    if path := dotenv_file.find(_start.get()):
        for name, entry in dotenv_file.read(path).items():
            if name.upper() == variable and entry.value.upper() == bad:
                return f"line {entry.line} of {path}"
    return _ARGUMENT


def process_environment() -> dict[str, str]:
    """A copy of this process's environment variables, for child processes."""
    return dict(os.environ)


def docker_host() -> str:
    """The value of DOCKER_HOST, or an empty string."""
    return os.environ.get("DOCKER_HOST", "")


_hidden_lock = threading.Lock()
_hidden: dict[str, tuple[int, str]] = {}
"""Variables that are out of the process environment: how often that was asked for, and their values."""


@contextmanager
def without_variables(names: Iterable[str]) -> Iterator[None]:
    """Have variables out of the process environment until the block ends.

    For libraries that obey a variable in any case. Other threads miss it as well, so the block is short, and
    nothing is changed where the variable is not set.
    """
    taken: list[str] = []
    with _hidden_lock:
        for name in names:
            if name in _hidden:
                _hidden[name] = (_hidden[name][0] + 1, _hidden[name][1])
            elif name in os.environ:
                _hidden[name] = (1, os.environ.pop(name))
            else:
                continue
            taken.append(name)
    try:
        yield
    finally:
        with _hidden_lock:
            for name in taken:
                count, value = _hidden.pop(name)
                if count > 1:
                    _hidden[name] = (count - 1, value)
                else:
                    # Unless the program has set another one by now.
                    os.environ.setdefault(name, value)
