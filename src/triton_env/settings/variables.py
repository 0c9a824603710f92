"""Variables under an application's own names, made of what the services are: NAME={SERVICE.ATTRIBUTE:FORM}."""

import re
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from triton_env.errors import InvalidSetting
from triton_env.settings.dotenv_file import check_whose
from triton_env.settings.project_folders import project_folders

if TYPE_CHECKING:
    from triton_env.services import Service

_TABLE = "[tool.triton-env.variables]"
_FILE = "pyproject.toml"
_WORD = re.compile(r"[\w-]+")
_WORDS = frozenset({"tool", "triton-env", "variables"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELD = re.compile(r"\{([^{}]*)\}")
_QUOTED = "quoted"
"""The form of a text for a part of a URL."""
_PARTS = re.compile(r"([a-z0-9_]+)\.([a-z0-9_]+)(?::([A-Za-z0-9_]+))?")


def parsed(text: str) -> dict[str, str]:
    """Templates by the names of their variables, from words as a shell has them: NAME=TEMPLATE NAME=TEMPLATE.

    Raises:
        ValueError: it is not of this form, or a template has no field, or another one than SERVICE.ATTRIBUTE. Its
            words show nothing of a value, which may hold a password.
    """
    templates: dict[str, str] = {}
    for position, word in enumerate(shlex.split(text), 1):
        name, equals, template = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"word {position} is not of the form NAME=TEMPLATE")
        fields = _FIELD.findall(template)
        # Not any text: it would be one more place for all settings of an application.
        if not fields:
            raise ValueError(f"{name} has no {{SERVICE.ATTRIBUTE}}, such as {{SERVICE.url}}")
        if not all(map(_PARTS.fullmatch, fields)):
            raise ValueError(
                f"what {name} has in braces is not of the form {{SERVICE.ATTRIBUTE}}, such as {{SERVICE.url}}"
            )
        templates[name] = template
    return templates


def checked(text: str) -> str:
    """The text, if `parsed` takes it.

    Raises:
        ValueError: it does not.
    """
    parsed(text)
    return text


def check(text: str, origin: str = "") -> None:
    """See, before a start, that templates name services and attributes that exist.

    Args:
        text: as `parsed` takes it.
        origin: where it comes from, for the error; empty where that is not known.

    Raises:
        InvalidSetting: one does not.
    """
    from triton_env.services import SERVICES

    invalid = partial(_invalid, origin=origin)
    for variable, template in parsed(text).items():
        for field in _FIELD.finditer(template):
            service, attribute, form = _parts(field)
            if service not in SERVICES:
                raise invalid(variable, f"there is no service {service!r}", f"choose from {', '.join(SERVICES)}")
            kind = SERVICES[service]
            if attribute not in kind.attributes:
                known = ", ".join(f"{service}.{each}" for each in kind.attributes)
                raise invalid(variable, f"{service} has no {attribute!r}", f"choose from {known}")
            if not form or form == _QUOTED:
                continue
            if attribute == "url" and kind.scheme_for(form) is None:
                raise invalid(variable, f"{kind.title} has no URL for {form!r}", f"take {{{service}.url}}")
            if attribute != "url":
                raise invalid(variable, f"there is no form {form!r}", f"take {{{service}.{attribute}:{_QUOTED}}}")


def expanded(text: str, services: "Mapping[str, Service]", *, internal: bool = False) -> dict[str, str]:
    """The variables for these services, without those that need others as well.

    Args:
        text: as `parsed` takes it.
        services: by name.
        internal: whether they are for other containers on the shared network.

    Raises:
        InvalidSetting: a template names a service or an attribute that does not exist, or not on this runtime.
        NoSharedNetwork: `internal` where there is none.
    """
    if not text:
        return {}
    check(text)
    seen = {name: service.inside() if internal else service for name, service in services.items()}
    variables: dict[str, str] = {}
    for variable, template in parsed(text).items():
        if {_parts(field)[0] for field in _FIELD.finditer(template)} <= seen.keys():
            variables[variable] = _FIELD.sub(partial(_value, variable, seen), template)
    return variables


def of_services(services: "Mapping[str, Service]", text: str, *, internal: bool = False) -> dict[str, str]:
    """All variables of services: those by the names of `.env.example`, and the application's own, which win."""
    variables: dict[str, str] = {}
    for service in services.values():
        variables |= service.environ(internal=internal)
    return variables | expanded(text, services, internal=internal)


def in_project(start: Path) -> tuple[str, Path] | None:
    """The table of the project's pyproject.toml, in the form of `parsed`, and the file; None where there is none.

    Raises:
        InvalidSetting: the file is another user's, is not TOML, or its table is not one of texts.
    """
    for folder in project_folders(start):
        file = folder / _FILE
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        # Parsing takes a while, and most have no such table, which TOML can write in many ways.
        table = _table(file, text) if _WORDS.issubset(_WORD.findall(text)) else None
        return (table, file) if table is not None else None
    return None


def _table(file: Path, text: str) -> str | None:
    import tomllib

    try:
        table: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(
            f"{_TABLE} of {file} cannot be read.", cause=str(error), hint=f"grep -n -A3 triton-env {file}"
        ) from error
    for name in ("tool", "triton-env", "variables"):
        table = table.get(name) if isinstance(table, dict) else None
    if table is None:
        return None
    check_whose(file)
    if not isinstance(table, dict) or not all(isinstance(template, str) for template in table.values()):
        raise InvalidSetting(
            f"{_TABLE} of {file} cannot be used.",
            cause="each value has to be a text",
            hint='for example: DATABASE_URL = "{SERVICE.url:asyncpg}", with the name of a service',
        )
    return shlex.join(f"{name}={template}" for name, template in table.items())


def _parts(field: re.Match[str]) -> tuple[str, str, str]:
    """Service, attribute and form of a field; the form is empty where there is none."""
    parts = _PARTS.fullmatch(field[1])
    assert parts is not None, field[0]
    return parts[1], parts[2], parts[3] or ""


def _value(variable: str, services: "Mapping[str, Service]", field: re.Match[str]) -> str:
    name, attribute, form = _parts(field)
    service = services[name]
    if form and attribute == "url" and form != _QUOTED:
        return service.url_for(form)
    value = getattr(service, attribute)
    if value is None:
        raise _invalid(variable, f"{service.title} has no {attribute} on this runtime", "set TRITON_RUNTIME=docker")
    return quote(str(value), safe="") if form == _QUOTED else str(value)


def _invalid(variable: str, cause: str, hint: str, origin: str = "") -> InvalidSetting:
    known = f"TRITON_VARIABLES comes from {origin}"
    return InvalidSetting(
        f"The template of {variable} cannot be used: {cause}.",
        where=known if origin else f"TRITON_VARIABLES, or {_TABLE} of {_FILE}",
        hint=hint,
    )
