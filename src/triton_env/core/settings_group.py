"""Settings come in groups: each field is declared once, with its role, type, default and meaning.

What the fields of a service lead to, and what they are to be kept from, follows from their roles.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NoReturn,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)
from urllib.parse import SplitResult

from triton_env.core.setting_types import SecretStr, converted, problem_of_text
from triton_env.errors import InvalidSetting

_T = TypeVar("_T")
_Kind = TypeVar("_Kind", bound="type[SettingsGroup]")


class Role(Enum):
    """What a setting is for."""

    URL = auto()
    """Says the same as others of the group: host, port, user, password and database, as far as there are such."""
    HOST = auto()
    PORT = auto()
    """Of one protocol; its default is the one inside a container. The first one of a group is the main one."""
    USER = auto()
    PASSWORD = auto()
    DATABASE = auto()
    ACCESS_KEY = auto()
    SECRET_KEY = auto()
    """Its default is a word that logs are full of, and not a secret."""
    BUCKET = auto()
    REGION = auto()
    IMAGE = auto()
    OPTIONS = auto()
    """That its server gets besides those of triton-env, however it runs."""
    PROGRAM = auto()
    """Of this machine, which runs as a process."""
    TOKEN = auto()
    """Without which an image does not start."""
    SERVER_NAME = auto()
    """The host name by which others reach the server, where it has to know that."""
    TIMEOUT = auto()
    """For the start of a service."""
    PERSISTENT = auto()
    """Of persistent services alone."""
    HANDLING = auto()
    """How sessions are started, shown and shared. What runs is the same."""
    CLUSTER = auto()
    """Of services in a cluster alone."""
    APPLICATION = auto()
    """Of the application that uses the services."""
    OTHER = auto()


LOGIN = (Role.PASSWORD, Role.ACCESS_KEY, Role.SECRET_KEY)
"""What is fresh in each session."""
CONNECTION = (
    *(Role.URL, Role.HOST, Role.PORT, Role.USER, Role.PASSWORD, Role.DATABASE),
    *(Role.ACCESS_KEY, Role.SECRET_KEY, Role.BUCKET, Role.REGION),
)
"""What leads to a server, and to the place on it."""


def _nothing(url: SplitResult) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class UrlForm:
    """The form of a URL that leads to a server.

    Attributes:
        schemes: those that it may have.
        example: one, with words in upper case for its parts.
        port: that a URL without one means; None where it says nothing about it.
        lost: what of a URL clients would not do that are made of its parts, as the end of a sentence; empty where all
            is done.
    """

    schemes: tuple[str, ...]
    example: str
    port: int | None = None
    lost: Callable[[SplitResult], str] = _nothing


@dataclass(frozen=True, slots=True)
class Field:
    """A setting.

    Attributes:
        name: of the attribute; in upper case, its variable.
        annotation: its type.
        default: its value where none is given, which is a secret's value too.
        role: what it is for.
        doc: what it means, in Markdown.
        limits: of its values.
        protocol: of a port, as endpoints are named.
        form: of a URL.
    """

    name: str
    annotation: Any
    default: Any = field(repr=False)
    role: Role
    doc: str
    limits: tuple[Callable[[Any], Any], ...] = ()
    protocol: str = ""
    form: UrlForm | None = None

    @property
    def variable(self) -> str:
        """The name of its variable."""
        return self.name.upper()

    @property
    def is_secret(self) -> bool:
        """Whether its value is not shown."""
        return self.annotation is SecretStr

    def converted(self, value: object) -> Any:
        """A value, or the text of a variable, as one of this setting.

        Raises:
            ValueError: it is none, with words that say what is allowed.
        """
        value = converted(value, self.annotation)
        for limit in self.limits:
            value = limit(value)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and (problem := problem_of_text(text)):
            raise ValueError(problem)
        return value


def setting(role: Role, doc: str, *, default: _T, protocol: str = "", form: UrlForm | None = None) -> _T:
    """Declare a field of a group.

    Args:
        role: what it is for.
        doc: what it means, in Markdown, for the reference and `.env.example`.
        default: its value where none is given.
        protocol: of a port, as endpoints are named.
        form: of a URL.
    """
    declared: Any = Field("", None, default, role, doc, (), protocol, form)
    return declared  # type: ignore[no-any-return]


class SettingsGroup:
    """Settings that belong together, such as those of a service; they are frozen.

    A subclass declares its fields with `setting`, and is decorated by `with_fields`. `Settings.group` makes objects of
    it.
    """

    # As class variables, which are not arguments of the constructor that type checkers see.
    service: ClassVar[str] = ""
    """The name of the service that they are of; empty for others."""
    model_fields: ClassVar[Mapping[str, Field]] = {}
    """All of them by name."""
    model_fields_set: ClassVar[frozenset[str]] = frozenset()
    """Those that do not just have their defaults."""
    _problems: ClassVar[Mapping[str, InvalidSetting]] = {}
    """What is wrong with variables that are checked where they are used, by fields; these have no value here."""
    _origins: ClassVar[Mapping[str, str]] = {}
    """Where the values come from that do not just have their defaults, by fields."""

    @classmethod
    def names_of(cls, *roles: Role) -> tuple[str, ...]:
        """The names of the fields with one of these roles, in the order of the roles."""
        return names_of(cls.model_fields.values(), *roles)

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
        return ((name, self.or_default(name)) for name in self.model_fields)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings are frozen: make a copy with settings.updated({name}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SettingsGroup):
            return NotImplemented
        # One that cannot be used is not the default.
        return tuple(self) == tuple(other) and self._problems.keys() == other._problems.keys()

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self)})"

    if not TYPE_CHECKING:  # with it, type checkers would take every attribute for one that exists

        def __getattr__(self, name: str) -> Any:
            self._raise_problem((name,))
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def check(self, *variables: str) -> None:
        """See that these variables, named in upper case, can be used.

        Raises:
            InvalidSetting: one cannot.
        """
        self._raise_problem(variable.lower() for variable in variables)

    def _raise_problem(self, fields: Iterable[str]) -> None:
        for name in fields:
            if problem := self._problems.get(name):
                # A new one, each time with its own traceback.
                raise copy.copy(problem)

    def or_default(self, name: str) -> Any:
        """A field's value, and its default where the variable cannot be used: for what may not be used at all."""
        return vars(self)[name] if name in vars(self) else self.model_fields[name].default

    def origin(self, name: str) -> str:
        """Where a field's value comes from, such as "line 3 of /work/.env"; empty where that is not known."""
        return self._origins.get(name, "")

    def secrets(self, fields: Iterable[str] | None = None) -> frozenset[str]:
        """What may not appear in messages.

        Args:
            fields: the names of those that count; all by default.
        """
        secrets: set[str] = set()
        for name in self.model_fields if fields is None else fields:
            field, value = self.model_fields[name], self.or_default(name)
            if not field.is_secret or (field.role is Role.SECRET_KEY and value == field.default):
                continue
            if field.role is not Role.URL:
                secrets.add(value.get_secret_value())
            elif name in self.model_fields_set:
                # The rest says where, and people are to see that.
                secrets.add(_password_in(value.get_secret_value()))
        return frozenset(secrets - {""})


def _password_in(url: str) -> str:
    """The password of a URL, as it stands there."""
    authority = url.partition("//")[2].partition("/")[0]
    return authority.rpartition("@")[0].partition(":")[2]


def note_fields(kind: type[SettingsGroup]) -> None:
    """Note the fields that a class declares, after those that it inherits.

    None is an attribute of the class: one that has a problem is to be missing.
    """
    fields = {name: each for base in kind.__bases__ for name, each in getattr(base, "model_fields", {}).items()}
    annotations: dict[str, Any] = inspect.get_annotations(kind)
    for name, annotation in annotations.items():
        declared = vars(kind).get(name)
        if isinstance(declared, Field):
            of: tuple[Any, ...] = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
            fields[name] = replace(declared, name=name, annotation=of[0], limits=of[1:])
            delattr(kind, name)
    kind.model_fields = fields


# Type checkers see a constructor with the fields as its keywords.
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def with_fields(kind: _Kind) -> _Kind:
    """Make a subclass of `SettingsGroup` with the fields that it declares."""
    note_fields(kind)
    return kind


def names_of(fields: Iterable[Field], *roles: Role) -> tuple[str, ...]:
    """The names of those fields that have one of these roles, in the order of the roles."""
    found = [each for each in fields if each.role in roles]
    return tuple(each.name for each in sorted(found, key=lambda each: roles.index(each.role)))
