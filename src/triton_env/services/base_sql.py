"""Statements of a notebook and of agents: the part `sql` of a service."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from triton_env.errors import QueryFailed, ServiceDied, UsageError
from triton_env.services.base import Service
from triton_env.services.base_insight import CHARACTERS, ROWS, Cell, Column, Row, Table, cut, readable, room, table_of
from triton_env.services.statements import Statement


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell.

    Attributes:
        result: the rows of the last statement that has any; None where none has.
        notices: what the server said besides.
        done: what became of the statements without rows.
    """

    result: Any
    notices: tuple[str, ...]
    done: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sql:
    """How statements are run on a service.

    Attributes:
        run: runs them, with the service, their text and the user's variables.
        parameter: what stands for the value of the variable `name` in a statement.
        read: runs one statement that is to change nothing, with the service, its text, and the seconds that it may
            take. The server refuses what would by mistake. None where that is not offered.
    """

    run: Callable[[Any, str, Mapping[str, Any]], Outcome]
    parameter: str
    read: Callable[[Any, str, float], Table] | None = None


def checked(service: Service, statements: list[Statement]) -> list[Statement]:
    """The statements of a cell.

    Raises:
        UsageError: there is none.
    """
    if not statements:
        raise UsageError(
            f"The statement for {service.title} is missing.",
            hint=f"%sql {service.name} select 1, or %%sql {service.name} and the statements in the lines below it",
        )
    return statements


def the_one(service: Service, statements: list[Statement], verbs: Sequence[str]) -> Statement:
    """The only statement of a text, which begins as one that reads.

    Raises:
        UsageError: there is none, there are several, or it begins with another word.
    """
    first, *others = checked(service, statements)
    if others:
        raise UsageError(f"There are {len(others) + 1} statements.", hint="give them one by one")
    if first.verb not in verbs:
        raise UsageError(
            f"A statement that reads does not begin with {first.verb or 'a sign'}.",
            hint=f"use one of {', '.join(verbs)}",
        )
    return first


def some_of(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """The first rows of a result, with values that are numbers or texts of some length."""
    length = room(len(names))
    most = max(1, min(ROWS, CHARACTERS // (length * max(1, len(names)))))
    found = [Row(tuple(_cell(value, length) for value in row)) for row in islice(rows, most + 1)]
    return table_of([Column(cut(name)) for name in names], found[:most], is_cut=len(found) > most)


def _cell(value: Any, length: int) -> Cell:
    match value:
        case None | bool() | int():
            return value if value is None or abs(value) < 1 << 53 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | memoryview():
            return cut(readable(bytes(value)), length)
        case dict() | list():
            value = json.dumps(value, default=str, ensure_ascii=False)
    # What is not UTF-8, as `surrogateescape` has it, is shown as `\xff`.
    return cut(str(value).encode(errors="surrogateescape").decode(errors="backslashreplace"), length)


def value_of(variables: Mapping[str, Any], name: str) -> Any:
    """The value of the user's variable of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in variables:
        raise UsageError(f"The statement uses the variable {name!r}, which is not defined.", hint=f"{name} = ...")
    return variables[name]


@contextmanager
def reachable(service: Service, kind: type[Exception]) -> Iterator[None]:
    """Explain a server that cannot be reached, or that has died over a statement."""
    try:
        yield
    except ServiceDied:
        raise
    except (QueryFailed, kind) as error:
        if died := service._died():
            raise died from error
        if isinstance(error, QueryFailed):
            raise
        raise QueryFailed(
            f"{service.title} does not answer.",
            where=f"{service.host}:{service.port}",
            cause=str(error),
            hint=f"print(env.logs({service.name!r})) may say why, where env is the environment",
        ) from error


def in_words(text: str, place: int) -> str:
    """Where in a cell that is, for people."""
    line = text.count("\n", 0, place) + 1
    return f"line {line} of the cell, column {place - (text.rfind(chr(10), 0, place) + 1) + 1}"


def marked(text: str, place: int) -> str:
    """The line in which `place` is, and a mark below it."""
    begin = text.rfind("\n", 0, place) + 1
    line = text[begin:].partition("\n")[0].expandtabs(1)
    cut = max(0, place - begin - 60)
    return f"{line[cut : cut + 100]}\n{' ' * (place - begin - cut)}^"
