"""Frozen data as what JSON can hold, and back, by the types that its dataclasses declare.

Pydantic does this too. Loading it takes longer than most of the commands that read such data take altogether.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_Kind = TypeVar("_Kind")


def to_data(value: Any) -> Any:
    """A value as what JSON can hold: dataclasses, mappings, sequences, enumerations, paths and what JSON has itself."""
    if is_dataclass(value):
        return {each.name: to_data(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: to_data(each) for name, each in value.items()}
    return [to_data(each) for each in value] if isinstance(value, (tuple, list)) else value


def from_data(kind: type[_Kind], data: Any) -> _Kind:
    """The value that `to_data` wrote.

    Args:
        kind: its type. Sequences may be longer or shorter than they were; unknown fields are an error.
        data: what JSON held.

    Raises:
        ValueError: it is something else. The words hold no value, which may be secret.
    """
    return cast(_Kind, _read(kind, data, ""))


def _read(kind: Any, data: Any, where: str) -> Any:
    base, inner = get_origin(kind) or kind, get_args(kind)
    if base is Any or (base is Literal and data in inner):
        return data
    if base in (Union, UnionType):
        if data is None and NoneType in inner:
            return None
        (other,) = (each for each in inner if each is not NoneType)
        return _read(other, data, where)
    if isinstance(base, type):
        if is_dataclass(base) and isinstance(data, dict):
            return _dataclass(base, data, where)
        if issubclass(base, Mapping) and isinstance(data, dict):
            return {name: _read(inner[1], each, f"{where}.{name}") for name, each in data.items()}
        if issubclass(base, Sequence) and base is not str and isinstance(data, list):
            return _sequence(inner, data, where)
        if issubclass(base, (Enum, Path)) and isinstance(data, str):
            return base(data)
        if type(data) is base or (base is float and type(data) is int):
            return data
    raise ValueError(f"{where.lstrip('.') or 'the whole'}: not of the kind {getattr(kind, '__name__', kind)}")


def _dataclass(kind: type, data: dict[str, Any], where: str) -> Any:
    known, hints = _declared(kind)
    if unknown := data.keys() - known.keys():
        raise ValueError(f"{where}.{min(unknown)}: unknown".lstrip("."))
    if missing := [name for name, each in known.items() if name not in data and not _has_default(each)]:
        raise ValueError(f"{where}.{missing[0]}: missing".lstrip("."))
    return kind(**{name: _read(hints[name], each, f"{where}.{name}") for name, each in data.items()})


def _sequence(inner: tuple[Any, ...], data: list[Any], where: str) -> tuple[Any, ...]:
    kinds = inner if len(inner) > 1 and inner[1] is not ... else inner[:1] * len(data)
    if len(kinds) != len(data):
        raise ValueError(f"{where.lstrip('.')}: {len(data)} parts, not {len(kinds)}")
    return tuple(_read(each, part, f"{where}.{n}") for n, (each, part) in enumerate(zip(kinds, data, strict=True)))


@cache
def _declared(kind: type) -> tuple[dict[str, "Field[Any]"], dict[str, Any]]:
    return {each.name: each for each in fields(kind)}, get_type_hints(kind)


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
