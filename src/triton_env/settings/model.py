"""The one settings model, which reads the process environment and `.env`.

Precedence, highest first: arguments, the process environment, `.env` of the project, the default.
A field's name in upper case is its variable; `.env.example` documents each of them.

Names such as POSTGRES_PORT and API_PORT belong to the application as well, and Kubernetes sets some of them. So what is
wrong with one of these is reported where its value is used, and stops nothing else.
"""

import copy
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

from triton_env.core.packaged_files import packaged_file
from triton_env.core.settings_group import Field, Role, SettingsGroup, note_fields
from triton_env.errors import InvalidSetting
from triton_env.services.clickhouse.settings import ClickHouseSettings
from triton_env.services.postgres.settings import PostgresSettings
from triton_env.services.redis.settings import RedisSettings
from triton_env.services.s3.settings import S3Settings
from triton_env.settings import dotenv_file, variables
from triton_env.settings.own import ApplicationSettings, OwnSettings
from triton_env.settings.process import from_hub
from triton_env.settings.project_folders import current_folder

_Group = TypeVar("_Group", bound=SettingsGroup)
_Kind = TypeVar("_Kind", bound="type[Settings]")


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, and where, in words."""

    value: object
    origin: str


# Not frozen for type checkers, which would forget which attributes of the groups are descriptors. These are frozen.
@dataclass_transform(kw_only_default=True)
def _collected(kind: _Kind) -> _Kind:
    note_fields(kind)
    return kind


@_collected
class Settings(  # type: ignore[misc]
    PostgresSettings, ClickHouseSettings, RedisSettings, S3Settings, OwnSettings, ApplicationSettings
):
    """Every setting of triton-env.

    Those of a service that another distribution brings are added by `with_group`, where that service is used.

    Args:
        **values: by field. What is not among them comes from the process environment, `.env`, or is the default.

    Raises:
        InvalidSetting: naming the variable, its value unless it is a secret, and what is allowed.
    """

    service = ""
    groups: ClassVar[tuple[type[SettingsGroup], ...]] = (
        PostgresSettings,
        ClickHouseSettings,
        RedisSettings,
        S3Settings,
    )
    """The groups of the services."""
    _folder: ClassVar[Path | None] = None
    """The folder whose `.env` was read, where it is not the current one."""
    _reads: ClassVar[bool] = False
    """Whether variables and `.env` were looked at."""

    if not TYPE_CHECKING:  # which make one with the fields as its keywords

        def __init__(self, /, **values: Any) -> None:
            folder = _start.get()
            attributes = _attributes(self.model_fields, _given(self.model_fields, folder), values)
            vars(self).update(attributes, _folder=folder, _reads=True)

    def __init_subclass__(cls) -> None:
        if changed := sorted(inspect.get_annotations(cls).keys() | (vars(cls).keys() & Settings.model_fields.keys())):
            raise TypeError(
                f"{cls.__name__}: the fields of Settings are not extended or changed ({', '.join(changed)})"
            )

    @classmethod
    def model_construct(cls, **values: Any) -> Self:
        """Settings with these values, taken as they are, and defaults; neither variables nor `.env` are looked at."""
        made = cls.__new__(cls)
        vars(made).update({name: values.get(name, field.default) for name, field in cls.model_fields.items()})
        vars(made).update(model_fields_set=frozenset(values))
        return made

    def with_group(self, kind: type[SettingsGroup], **values: Any) -> Self:
        """These settings and those of a group, read from where these were.

        Args:
            kind: the group. Nothing is changed where its settings are among these.
            **values: by field.

        Raises:
            InvalidSetting: as the constructor does.
        """
        if kind.model_fields.keys() <= self.model_fields.keys():
            return self.updated(**values) if values else self
        given = _given(kind.model_fields, self._folder) if self._reads else {}
        attributes = _attributes(kind.model_fields, given, values)
        extended = copy.copy(self)
        for name in ("_problems", "_origins"):
            attributes[name] = {**getattr(self, name), **attributes[name]}
        attributes["model_fields_set"] |= self.model_fields_set
        fields = {**self.model_fields, **kind.model_fields}
        vars(extended).update(attributes, model_fields=fields, groups=(*self.groups, kind))
        return extended

    def group(self, kind: type[_Group]) -> _Group:
        """The settings of a group, as an object of its own type; read now where they are not among these."""
        if isinstance(self, kind):
            return self
        whole = self.with_group(kind)
        made = kind.__new__(kind)
        names = vars(whole).keys() & kind.model_fields.keys()
        vars(made).update({name: vars(whole)[name] for name in names})
        vars(made).update(
            model_fields_set=whole.model_fields_set & kind.model_fields.keys(),
            _problems=whole._problems,
            _origins=whole._origins,
        )
        return made

    def check_values(self, **values: Any) -> None:
        """See that fields may have these values.

        Raises:
            InvalidSetting: one may not.
        """
        _attributes({name: self.model_fields[name] for name in values}, {}, values)

    def names_in(self, *roles: Role, services: Iterable[str] | None = None) -> tuple[str, ...]:
        """The names of the fields of services with one of these roles, service by service.

        Args:
            *roles: in the order of which those of a service are named.
            services: whose settings are meant; all by default.
        """
        return tuple(name for group in self.groups_of(services) for name in group.names_of(*roles))

    def groups_of(self, services: Iterable[str] | None = None) -> tuple[type[SettingsGroup], ...]:
        """The groups of some services; of all by default."""
        wanted = None if services is None else frozenset(services)
        return tuple(group for group in self.groups if wanted is None or group.service in wanted)

    @property
    def groups_of_others(self) -> tuple[type[SettingsGroup], ...]:
        """The groups of services that other distributions bring."""
        return self.groups[len(Settings.groups) :]

    def fixed_port(self, field: str) -> int:
        """A port of `.env`, for a description that holds it whether it is used or not.

        Raises:
            InvalidSetting: the ports of a session are fixed, and this one cannot be used.
        """
        return int(getattr(self, field) if self.triton_ports == "fixed" else self.or_default(field))

    @property
    def problems(self) -> tuple[InvalidSetting, ...]:
        """What is wrong with variables of services; they are checked where they are used."""
        fields = self.model_fields
        return tuple(each for name, each in self._problems.items() if fields[name].role is not Role.APPLICATION)


_ARGUMENT = "an argument"
_OF_KUBERNETES = "Kubernetes sets it for a service of that name: unset it, or give the pod enableServiceLinks: false"
_PASSWORD = re.compile(r"(?<=//)\S*(?=@)|(?<=:)(?!//)\S*(?=@)")
"""Of a URL, or of what was meant as one."""

_start: ContextVar[Path | None] = ContextVar("_start", default=None)
"""The folder whose `.env` is read, where it is not the current one."""


def settings_in(folder: Path) -> Settings:
    """The settings with the `.env` of a folder, or of the project that it is in, instead of the current folder's."""
    token = _start.set(folder)
    try:
        return Settings()
    finally:
        _start.reset(token)


def _attributes(
    fields: Mapping[str, Field], given: Mapping[str, _Given], arguments: Mapping[str, object]
) -> dict[str, Any]:
    """The attributes of an object with these fields: none for one whose variable cannot be used.

    Raises:
        InvalidSetting: a value cannot be used that is an argument, or of a variable that is triton-env's own.
    """
    given = {**given, **{name: _Given(value, _ARGUMENT) for name, value in arguments.items()}}
    good: dict[str, Any] = {}
    bad: dict[str, str] = {}
    for name, each in given.items():
        try:
            if name not in fields:
                raise ValueError
            good[name] = _converted(fields[name], each.value)
        except ValueError as error:
            bad[name] = _described(fields.get(name), name, each.value, str(error))
    # Other variables are shared with other programs.
    if any(given[name].origin == _ARGUMENT or name.startswith("triton_") for name in bad):
        raise _invalid_setting({name: (given[name], line) for name, line in bad.items()})
    return {
        **{name: _converted(field, field.default) for name, field in fields.items() if name not in given},
        **good,
        "model_fields_set": frozenset(good),
        "_problems": {name: _invalid_setting({name: (given[name], line)}) for name, line in bad.items()},
        "_origins": {name: each.origin for name, each in given.items()},
    }


def _given(fields: Mapping[str, Field], folder: Path | None) -> dict[str, _Given]:
    """What is given, by field: by the process environment, `.env`, and the project's pyproject.toml."""
    given: dict[str, _Given] = {}
    if "triton_variables" in fields and (table := variables.in_project(folder or current_folder())):
        given["triton_variables"] = _Given(table[0], str(table[1]))
    # `.env` belongs to the whole project: unrelated variables are ignored.
    if path := dotenv_file.find(folder):
        for name, entry in dotenv_file.read(path).items():
            if entry.value and name.lower() in fields:
                given[name.lower()] = _Given(entry.value, f"line {entry.line} of {path}")
    for name, value in os.environ.items():
        if value and name.lower() in fields:
            given[name.lower()] = _Given(value, "the process environment")
    return given


def _converted(field: Field, value: object) -> Any:
    """A value as what a field holds.

    Raises:
        ValueError: it cannot be that, with words about what is allowed.
    """
    value = field.converted(value)
    return from_hub(str(value)) if field.role is Role.IMAGE else value


def _invalid_setting(bad: Mapping[str, tuple[_Given, str]]) -> InvalidSetting:
    lines = [line for _, line in bad.values()]
    return InvalidSetting(
        lines[0] if len(lines) == 1 else f"{len(lines)} settings cannot be used:\n  " + "\n  ".join(lines),
        where=", ".join(f"{name.upper()} comes from {given.origin}" for name, (given, _) in bad.items()),
        hint=_OF_KUBERNETES
        if any(str(given.value).startswith("tcp://") for given, _ in bad.values())
        else f"what each variable means and takes: cat {packaged_file('.env.example')}",
    )


def _described(field: Field | None, name: str, value: object, words: str) -> str:
    if field is None:
        return f"There is no setting {name!r}."
    if field.is_secret:
        shown = "its value (a secret)"
    elif name == "triton_variables":
        shown = "its value (not shown)"  # templates, beside which an application may have written a password
    else:
        shown = _shown(value)
    return f"{field.variable} cannot be {shown}: {words}."


def _shown(value: object) -> str:
    text = _PASSWORD.sub("***", repr(value))
    return text if len(text) <= 60 else text[:59] + "…"
