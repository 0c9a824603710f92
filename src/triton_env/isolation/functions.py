"""What distinguishes functions: the code, the values that it was made with, and the file that it is in."""

import dataclasses
import enum
import functools
import inspect
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType, SimpleNamespace
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
    yield from _callable(build, ())
    if source := source_of(build):
        yield source.read_text("utf-8", errors="replace")


def _callable(build: Any, above: tuple[int, ...]) -> Iterator[str]:
    if isinstance(build, functools.partial):
        yield from _callable(build.func, above)
        yield from _value([*build.args, build.keywords], above, made_with=True)
        return
    function = function_of(build)
    yield f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    # The object or class whose method it is, or that can be called itself.
    yield from _owner(getattr(build, "__self__", build if function is not build else None), above)
    for layer in _layers(getattr(build, "__func__", build), function):
        yield from _code(layer.__code__)
        cells = [cell.cell_contents for cell in layer.__closure__ or () if _is_filled(cell)]
        values = [*(layer.__defaults__ or ()), layer.__kwdefaults__ or {}, *cells]
        yield from _value(values, above, made_with=True)
        yield from _named(layer.__globals__, _names(layer.__code__), {id(layer)})


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


def _value(value: Any, above: tuple[int, ...], *, made_with: bool = False) -> Iterator[str]:
    """A value as far as it is made of plain ones; of anything else, such as a client, its type: not its address.

    Args:
        above: the ids of what it is in.
        made_with: whether the function was made with it. Then objects of the project's classes and functions count
            with what they hold. What a module holds of the kind, such as the settings of an application, may be
            another in each process, without a difference to the template.
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    inside = (*above, id(value))
    if isinstance(value, enum.Enum):
        yield f"{kind} {value.name}"
    elif isinstance(value, _PLAIN):
        yield f"{kind} {value!r}"
    elif id(value) in above or len(above) > _DEPTH:
        yield "..."
    elif isinstance(value, list | tuple | deque):
        yield f"{kind} {len(value)}"
        for each in value:
            yield from _value(each, inside, made_with=made_with)
    elif isinstance(value, set | frozenset):
        yield f"{kind} {sorted(repr(list(_value(each, inside, made_with=made_with))) for each in value)}"
    elif isinstance(value, Mapping):
        yield f"{kind} {len(value)}"
        for item in value.items():
            yield from _value(item, inside, made_with=made_with)
    elif made_with and isinstance(value, FunctionType | MethodType | functools.partial):
        yield from _callable(value, inside)
    elif isinstance(value, FunctionType):
        yield from (f"{value.__module__}.{value.__qualname__}", *_code(value.__code__))
    elif isinstance(value, type | ModuleType):
        yield value.__name__
    else:
        yield kind
        is_seen_through = made_with and not is_installed(_file_of(type(value)))
        if is_seen_through or dataclasses.is_dataclass(value) or isinstance(value, SimpleNamespace):
            yield from _value(_attributes(value), inside, made_with=made_with)


def _owner(owner: Any, above: tuple[int, ...]) -> Iterator[str]:
    """The object or class whose method fills a template. A module has nothing that counts."""
    if owner is None or isinstance(owner, ModuleType | FunctionType) or id(owner) in above:
        return
    inside = (*above, id(owner))
    kind = owner if isinstance(owner, type) else type(owner)
    for each in kind.__mro__:
        if not is_installed(_file_of(each)):
            yield each.__qualname__
            for name, value in sorted(vars(each).items()):
                # Methods and properties, which the one that is called may use.
                parts = [getattr(value, part, None) for part in ("__func__", "fget", "func")]
                function = next((part for part in (value, *parts) if isinstance(part, FunctionType)), None)
                if function:
                    yield from (name, *_code(function.__code__))
                elif not name.startswith("__"):
                    yield from (name, *_value(value, inside))
    if owner is not kind:
        yield from _value(_attributes(owner), inside, made_with=True)


def _attributes(instance: Any) -> dict[str, Any]:
    """The attributes of an object, in its dictionary or in slots."""
    found: dict[str, Any] = {}
    for kind in type(instance).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType):
                with suppress(AttributeError):  # not set
                    found[name] = member.__get__(instance)
    found |= getattr(instance, "__dict__", {})
    return dict(sorted(found.items()))


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
