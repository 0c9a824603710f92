"""The form of what a backup says of a ClickHouse server, and what its statements are: each is read into tokens before
it goes to a server, and has to be the one statement that its entry claims."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from triton_env.backup.clickhouse.schema import SYSTEM

_Name = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=1000)]
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
_Pair = Annotated[tuple[_Name, ...], Field(min_length=2, max_length=2)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Database(_Data):
    """A database."""

    name: _Name
    engine: _Text
    comment: _Text


class Function(_Data):
    """A function that is defined in SQL."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=1000)]
    statement: _Text


class Entry(_Data):
    """A table, dictionary or view; see `schema.objects`."""

    database: _Name
    name: _Name
    kind: Literal["TABLE", "DICTIONARY", "VIEW", "MATERIALIZED VIEW"]
    engine: _Text
    definition: _Text
    columns: tuple[_Name, ...]
    rows: int | None
    after: tuple[_Pair, ...]
    source: _Pair | None
    member: _Text = ""


class Index(_Data):
    """All that is saved beside the rows."""

    databases: tuple[Database, ...]
    functions: tuple[Function, ...]
    objects: tuple[Entry, ...]


_TOKEN = re.compile(
    r"""\s+ | (?P<name>`(?:[^`\\]|\\.|``)+`|"(?:[^"\\]|\\.|"")+") | (?P<literal>'(?:[^'\\]|\\.|'')*')"""
    r"""| (?P<word>[A-Za-z_][A-Za-z0-9_]*) | (?P<number>[0-9][A-Za-z0-9_.]*)"""
    r"""| (?P<sign>->|--|/\*|\#|[-+*/%(){}\[\],.:=<>!?|&^~@])""",
    re.VERBOSE | re.DOTALL,
)
"""No semicolon, no comment and no heredoc: the server writes none into its statements."""
_COMMENTS = ("--", "/*", "#")
_BEGINNINGS = {
    "TABLE": ("(",),
    "DICTIONARY": ("(",),
    "VIEW": ("(", "AS", "DEFINER", "SQL"),
    "MATERIALIZED VIEW": ("(", "AS", "DEFINER", "SQL", "REFRESH", "TO", "ENGINE"),
}
_NEVER = (["INTO", "OUTFILE"], ["CLONE", "AS"], ["POPULATE", "AS"])
"""What writes files, or fills a table when it is made, where it stands in no parentheses."""
_INSIDE = re.compile(
    r".*MergeTree|(Tiny|Stripe)?Log|Memory|Buffer|Null|Set|Join|Merge|GenerateRandom|EmbeddedRocksDB|KeeperMap"
    r"|Dictionary|Loop|Alias|Distributed|TimeSeries|Fuzz\w*"
)
"""Engines whose tables hold their rows in the server, or have them from other tables of it or of its own cluster."""
_FUNCTIONS_INSIDE = re.compile(
    r"sqlstandardvalues|cluster(allreplicas)?|dictionary|format|fuzz\w+|generate\w+|input|loop|merge|mergetree\w+|null"
    r"|numbers(_mt)?|primes|timeseries\w+|values|view|viewifpermitted|zeros(_mt)?"
)
"""Table functions that have their rows from the server itself or from its own cluster."""
_SOURCES_INSIDE = frozenset({"CLICKHOUSE", "NULL"})

Token = tuple[str, str]
"""Its kind (a name of a group in `_TOKEN`) and its text."""


class NotAllowed(ValueError):
    """A statement is not what its entry claims; the message says what it is instead."""


def check_function(function: Function) -> None:
    """See that a statement makes this function from an expression, and does nothing else.

    Raises:
        NotAllowed: it does something else.
    """
    tokens = list(_tokens(function.statement))
    words = [text for _, text in tokens[:4]]
    head = [word.upper() for word in words[:2]]
    if head != ["CREATE", "FUNCTION"] or words[2:3] not in ([function.name], [f"`{function.name}`"]):
        raise NotAllowed(f"the statement of the function {function.name} does something else")
    if words[3:4] != ["AS"] or ("sign", "->") not in tokens or _has(tokens, ("SELECT",)):
        raise NotAllowed(f"the function {function.name} is not an expression")


def check_entry(entry: Entry) -> None:
    """See that a definition makes an object of its kind, and does nothing else.

    Raises:
        NotAllowed: it does something else.
    """
    name = f"{entry.kind.lower()} {entry.database}.{entry.name}"
    tokens = list(_tokens(entry.definition))
    if not tokens or tokens[0][1].upper() not in _BEGINNINGS[entry.kind]:
        raise NotAllowed(f"the definition of the {name} does not begin like one")
    outermost = [text.upper() for kind, text in _outermost(tokens) if kind in ("word", "sign")]
    pairs = list(map(list, pairwise(outermost)))
    if any(pair in pairs for pair in _NEVER):
        raise NotAllowed(f"the definition of the {name} does something else")
    # A projection selects too, from its own table, and so without FROM.
    selects = "SELECT" in outermost or _has(tokens, ("FROM",)) or ["AS", "("] in pairs
    if entry.kind in ("TABLE", "DICTIONARY") and selects:
        raise NotAllowed(f"the definition of the {name} selects rows")
    if entry.database in SYSTEM:
        raise NotAllowed(f"the {name} would be in a database of the server's own")


def reaching_out(functions: Iterable[str]) -> frozenset[str]:
    """Those of a server's table functions that read files, run programs or queries, or connect to other servers."""
    return frozenset(name for name in map(str.lower, functions) if not _FUNCTIONS_INSIDE.fullmatch(name))


def outside(entry: Entry, functions: Collection[str]) -> str:
    """What an object reads, runs or connects to beyond its server; empty where there is nothing.

    Args:
        entry: the object.
        functions: what `reaching_out` gave.
    """
    tokens = list(_tokens(entry.definition))
    words = [text.upper() if kind == "word" else text for kind, text in tokens]
    for index in range(len(words) - 2):
        if words[index : index + 2] == ["ENGINE", "="] and not _is_inside(words, tokens, index + 2):
            return f"the engine {tokens[index + 2][1]}"
        if words[index : index + 2] == ["SOURCE", "("] and words[index + 2] not in _SOURCES_INSIDE:
            return f"the source {tokens[index + 2][1]}"
        if words[index : index + 2] == ["DISK", "="] and words[index + 2] == "DISK":
            return "a disk of its own"
    for index, ((kind, text), (_, following)) in enumerate(pairwise(tokens)):
        is_called = (
            kind in ("word", "name") and following == "(" and words[max(0, index - 2) : index] != ["ENGINE", "="]
        )
        if is_called and (_bare(text).lower() in functions or "\\" in text):
            return f"the function {text}"
    if entry.kind == "DICTIONARY" and (words_of := _asked(tokens)):
        return words_of
    return ""


def is_refreshed(definition: str) -> bool:
    """Whether this is of a view that the server fills by itself from time to time."""
    return next(_tokens(definition), ("", ""))[1].upper() == "REFRESH"


def without_first_refresh(definition: str) -> str:
    """The definition of a view that is refreshed, so that its rows are not computed when it is made."""
    depth = 0
    for match in _TOKEN.finditer(definition):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0 and match[0].upper() == "AS":
            return f"{definition[: match.start()]}EMPTY {definition[match.start() :]}"
    return definition


def _is_inside(words: Sequence[str], tokens: Sequence[Token], index: int) -> bool:
    engine = _bare(tokens[index][1])
    if engine == "File":
        # With a format alone, the file is in the server's own folder of the table.
        return words[index + 1 : index + 2] == ["("] and words[index + 3 : index + 4] == [")"]
    return _INSIDE.fullmatch(engine) is not None


def _bare(text: str) -> str:
    return text.strip('`"')


def _asked(tokens: Sequence[Token]) -> str:
    """What a dictionary asks of another server, or by a query of its own."""
    for (kind, text), (_, value) in pairwise(tokens):
        if kind != "word":
            continue
        if text.upper() == "HOST" and value.strip("'") not in ("localhost", "127.0.0.1", "::1"):
            return f"the server {value}"
        if text.upper() in ("QUERY", "INVALIDATE_QUERY"):
            return "a query of its own"
    return ""


def _has(tokens: Sequence[Token], words: Sequence[str]) -> bool:
    return any(kind == "word" and text.upper() in words for kind, text in tokens)


def _outermost(tokens: Sequence[Token]) -> Iterator[Token]:
    """The tokens that stand in no parentheses."""
    depth = 0
    for token in tokens:
        if token == ("sign", ")"):
            depth -= 1
        if depth == 0:
            yield token
        if token == ("sign", "("):
            depth += 1


def _tokens(statement: str) -> Iterator[Token]:
    position = 0
    depth = 0
    while position < len(statement):
        match = _TOKEN.match(statement, position)
        if match is None or match[0] in _COMMENTS:
            raise NotAllowed(
                f"a statement holds {statement[position : position + 20]!r}, which the server writes in none"
            )
        position = match.end()
        if match.lastgroup is None:
            continue
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth < 0:
            break
        yield match.lastgroup, match[0]
    if depth != 0:
        raise NotAllowed("the parentheses of a statement do not match")
