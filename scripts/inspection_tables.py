"""Write the tables of docs/reference/inspection.md from the data that an inspection is.

python scripts/inspection_tables.py [--check]

Each headline that is the name of a class of `triton_env.inspection` is followed by what the class is and by the table
of its fields. With --check nothing is written, and the status is 1 where something would be.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from inspect import getdoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from griffe import Docstring, DocstringSectionKind
from pydantic import BaseModel

from triton_env.inspection import data

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "inspection.md"
_WORDS = {bool: "true or false", str: "text", int: "whole number", float: "number", datetime: "time"}
"""The first that suits: what is true or false is a number, too."""


def rewritten(old: str) -> str:
    """The document with the tables as they have to be."""
    first, *parts = re.split(r"(?<=\n)## ", old)
    return first + "".join(f"## {_section(part)}" for part in parts)


def _section(part: str) -> str:
    headline = part.partition("\n")[0]
    kind = getattr(data, headline, None)
    return "\n".join((headline, "", *_lines(kind), "", "")) if kind else part


def _lines(kind: type[BaseModel]) -> Iterator[str]:
    words = {section.kind: section.value for section in Docstring(getdoc(kind) or "").parse("google")}
    yield _in_json(" ".join(words[DocstringSectionKind.text].split()))
    yield ""
    yield "| Field | Kind | Meaning |"
    yield "|---|---|---|"
    described = {each.name: " ".join(each.description.split()) for each in words[DocstringSectionKind.attributes]}
    for name, field in kind.model_fields.items():
        meaning = described[name][0].upper() + described[name][1:]
        yield f"| `{name}` | {_kind(field.annotation)} | {_in_json(meaning)} |"


def _in_json(words: str) -> str:
    return re.sub(r"\bNone\b", "null", words)


def _kind(annotation: Any) -> str:
    base, inner = get_origin(annotation), get_args(annotation)
    if base in (Union, UnionType):
        return " or ".join("null" if each is NoneType else _kind(each) for each in inner)
    if base is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if base is tuple:
        return f"list of {_kind(inner[0])}"
    if base is not None and issubclass(base, Mapping):
        return f"object of {_kind(inner[1])}"
    if issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return next(word for kind, word in _WORDS.items() if issubclass(annotation, kind))


def main() -> int:
    """Write them, or check them; returns the exit status."""
    old = REFERENCE.read_text("utf-8")
    new = rewritten(old)
    if new.rstrip() == old.rstrip():
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{REFERENCE} differs from the data: python scripts/inspection_tables.py", file=sys.stderr)
        return 1
    REFERENCE.write_text(f"{new.rstrip()}\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
