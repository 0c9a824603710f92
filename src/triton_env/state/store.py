"""Files of frozen data: JSON that this user alone can read, which is there as a whole or as it was before."""

import json
from pathlib import Path
from typing import Any, TypeVar

from triton_env.core.codec import from_data, to_data
from triton_env.core.private import replace

_Kind = TypeVar("_Kind")


def write(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write a value, in the place of what a file holds; several may do so at once.

    Args:
        path: of the file, whose folder exists.
        value: see `to_data`. A number `FORMAT` of its type is noted with it.
        durable: whether it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    replace(path, text_of(value), durable=durable)


def text_of(value: Any) -> str:
    """What `write` would write."""
    data, number = to_data(value), getattr(value, "FORMAT", None)
    return json.dumps(data if number is None else {"format": number} | data)


def read(path: Path, kind: type[_Kind]) -> _Kind:
    """The value of that type that a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, or a value of another `FORMAT`.
    """
    return of_text(path.read_text("utf-8"), kind)


def of_text(text: str | bytes, kind: type[_Kind]) -> _Kind:
    """The value of that type that `text_of` wrote.

    Raises:
        ValueError: the text is something else, or a value of another `FORMAT`.
    """
    data, number = json.loads(text), getattr(kind, "FORMAT", None)
    if number is not None and (not isinstance(data, dict) or data.pop("format", None) != number):
        raise ValueError("it was written by another version of triton-env")
    return from_data(kind, data)


def found(path: Path, kind: type[_Kind]) -> _Kind | None:
    """The value of that type that a file holds; None where there is none that can be read."""
    try:
        return read(path, kind)
    except (OSError, ValueError):
        return None
