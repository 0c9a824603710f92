"""What tells one function from another: its code, the values that it was made with, and the file that it is in."""

import dataclasses
import enum
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any
from uuid import UUID

from triton_env.isolation.sources import is_installed

_PLAIN = (
    *(str, bytes, int, float, complex, bool, type(None), range, type(...)),
    *(PurePath, date, time, timedelta, tzinfo, Decimal, Fraction, UUID, re.Pattern),
)
"""Types whose `repr` says all about a value, and says the same in every process."""
_DEPTH = 20


def described(build: Any) -> Iterator[str]:
    """What can be said of a callable, the same in every process."""
    if isinstance(build, functools.partial):
        yield from described(build.func)
        yield from _values([*build.args, build.keywords])
        return
    function = function_of(build)
    yield f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    # The object whose method it is, or that can be called itself.
    yield from _attributes(getattr(build, "__self__", build if function is not build else None))
    for layer in _layers(getattr(build, "__func__", build), function):
        yield from _code(layer.__code__)
        yield from _values([*(layer.__defaults__ or ()), layer.__kwdefaults__ or {}])
        yield from _values([cell.cell_contents for cell in layer.__closure__ or () if _is_filled(cell)])
        yield from _named(layer.__globals__, _names(layer.__code__), {id(layer)})
    if source := source_of(build):
        yield source.read_text("utf-8", errors="replace")


def _layers(build: Any, innermost: Any) -> Iterator[FunctionType]:
    """The function, with the decorators around it as far as they say what they wrap."""
    while build is not None and build is not innermost:
        if isinstance(build, FunctionType):
            yield build
        build = getattr(build, "__wrapped__", None)
    if isinstance(innermost, FunctionType):
        yield innermost


def function_of(build: Any) -> Any:
    """The function with the code of a callable."""
    if isinstance(build, functools.partial):
        return function_of(build.func)
    function = inspect.unwrap(getattr(build, "__func__", build))
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - its code is wanted, not whether it has one
    return function


def source_of(build: Any) -> Path | None:
    """The file that a callable's code is in; None where it was typed in, or is in an archive."""
    try:
        path = Path(inspect.getsourcefile(function_of(build)) or "").absolute()
    except TypeError:
        return None
    return path if path.is_file() else None


def _named(found: Mapping[str, Any], names: frozenset[str], seen: set[int]) -> Iterator[str]:
    """What a function finds by these names in its module, and so on in the project's modules, classes and functions.

    What a module has read when it was imported is in such values, and in nothing that the build opens.
    """
    for name in sorted(names & found.keys()):
        value = getattr(found[name], "__func__", found[name])
        if not isinstance(value, FunctionType | ModuleType | type):
            yield from (name, *_value(value, ()))
            continue
        if id(value) in seen or is_installed(_file_of(value)):
            continue
        seen.add(id(value))
        yield name
        if isinstance(value, FunctionType):
            yield from _code(value.__code__)
            yield from _named(value.__globals__, _names(value.__code__), seen)
        else:
            yield from _named(vars(value), names, seen)


def _file_of(value: FunctionType | ModuleType | type) -> str:
    if isinstance(value, FunctionType):
        return value.__code__.co_filename
    module = value if isinstance(value, ModuleType) else sys.modules.get(value.__module__)
    # One without a file is typed in, or built into Python.
    return getattr(module, "__file__", None) or ("" if getattr(module, "__name__", "") == "__main__" else "<frozen>")


def _names(code: CodeType) -> frozenset[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield from _value(constant, ())


def _values(values: list[Any]) -> Iterator[str]:
    for value in values:
        yield from _value(value, ())


def _value(value: Any, above: tuple[int, ...]) -> Iterator[str]:
    """A value as far as it is made of plain ones; of anything else, such as a client, its type: not its address."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    inside = (*above, id(value))
    if isinstance(value, enum.Enum):
        yield f"{kind} {value.name}"
    elif isinstance(value, _PLAIN):
        yield f"{kind} {value!r}"
    elif id(value) in above or len(above) > _DEPTH:
        yield "..."
    elif isinstance(value, list | tuple):
        yield f"{kind} {len(value)}"
        for each in value:
            yield from _value(each, inside)
    elif isinstance(value, set | frozenset):
        yield f"{kind} {sorted(repr(list(_value(each, inside))) for each in value)}"
    elif isinstance(value, dict):
        yield f"{kind} {len(value)}"
        for item in value.items():
            yield from _value(item, inside)
    elif isinstance(value, FunctionType):
        yield from (f"{value.__module__}.{value.__qualname__}", *_code(value.__code__))
    elif isinstance(value, type | ModuleType):
        yield value.__name__
    else:
        yield kind
        if dataclasses.is_dataclass(value):
            yield from _value(
                {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}, inside
            )


def _attributes(instance: Any) -> Iterator[str]:
    """The attributes of an object whose method fills a template. A module or a class has none that count."""
    if instance is not None and not isinstance(instance, type | ModuleType | FunctionType):
        yield from _value(dict(sorted(getattr(instance, "__dict__", {}).items())), (id(instance),))


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
