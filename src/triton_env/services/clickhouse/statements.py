"""The form of what a backup says of a ClickHouse server, and what its statements are: each is read into tokens before
it goes to a server, and has to be the one statement that its entry claims."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from triton_env.services.clickhouse.http import quoted
from triton_env.services.clickhouse.schema import SYSTEM

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

    name: _Name
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
_PROPERTIES = frozenset({"DB", "PASSWORD", "PORT", "SECURE", "TABLE", "UPDATE_LAG", "USER"})
_CONDITIONS = ("UPDATE_FIELD", "WHERE")
"""Properties of a dictionary's source of which the text becomes part of a query."""
_CLAUSES = frozenset(
    {
        *("AS", "COMMENT", "DEFINER", "EMPTY", "ORDER", "PARTITION", "POPULATE", "PRIMARY", "SAMPLE", "SETTINGS"),
        *("SQL", "TTL", "UNIQUE"),
    }
)
"""What may follow a column: a word ENGINE before it is one."""

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
    if head != ["CREATE", "FUNCTION"] or words[2:3] not in ([function.name], [quoted(function.name)]):
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
    outermost = [text.upper() for kind, text in map(tokens.__getitem__, _outermost(tokens)) if kind in ("word", "sign")]
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
    """Those of a server's functions that read files, run programs or queries, or connect to other servers."""
    return frozenset(name for name in map(str.lower, functions) if not _FUNCTIONS_INSIDE.fullmatch(name))


def outside(entry: Entry, functions: Collection[str]) -> str:
    """What an object reads, runs or connects to beyond its server; empty where there is nothing.

    Args:
        functions: what `reaching_out` gave.
    """
    tokens = list(_tokens(entry.definition))
    if entry.kind == "DICTIONARY":
        return _asked(tokens, functions) or _called(tokens, functions)
    storage = _storage(entry.kind, tokens)
    return _stored(tokens, storage) or _called(tokens, functions, _named(entry.kind, tokens, storage))


def called_outside(function: Function, functions: Collection[str]) -> str:
    """As `outside`, for what a function calls."""
    return _called(list(_tokens(function.statement)), functions)


def _storage(kind: str, tokens: Sequence[Token]) -> list[int]:
    """Where the outermost tokens are that say how an object holds its rows: not those of the query of a view."""
    places = list(_outermost(tokens))
    if kind == "TABLE":
        return places
    words = [_word(tokens[place]) for place in places]
    queries = (number for number, pair in enumerate(pairwise(words)) if pair in (("AS", "SELECT"), ("AS", "WITH")))
    return places[: next(queries, len(places))] if kind == "MATERIALIZED VIEW" else []


def _stored(tokens: Sequence[Token], storage: Sequence[int]) -> str:
    """What an engine or a disk reads or connects to."""
    for place in storage:
        kind, text = tokens[place]
        follow = tokens[place + 1 : place + 3]
        if (kind, text.upper()) == ("word", "ENGINE"):
            engine = _engine(tokens, place)
            if engine and not _is_inside(tokens, engine):
                return f"the engine {tokens[engine][1]}"
        is_disk = _word((kind, text)) == "DISK" or (kind == "name" and "\\" in text)
        if is_disk and follow[:1] == [("sign", "=")] and follow[1:] and follow[1][0] != "literal":
            return "a disk of its own"
    return ""


def _engine(tokens: Sequence[Token], place: int) -> int:
    """Where the name of the engine stands behind the word ENGINE; 0 where that word is a column."""
    at = place + 2 if tokens[place + 1 : place + 2] == [("sign", "=")] else place + 1
    if at < len(tokens) and tokens[at][0] in ("word", "name") and tokens[at][1].upper() not in _CLAUSES:
        return at
    return 0


def _is_inside(tokens: Sequence[Token], index: int) -> bool:
    engine = _bare(tokens[index][1])
    if engine == "File":
        # With a format alone, the file is in the server's own folder of the table.
        return [text for _, text in tokens[index + 1 : index + 4 : 2]] == ["(", ")"]
    return _INSIDE.fullmatch(engine) is not None


def _named(kind: str, tokens: Sequence[Token], storage: Sequence[int]) -> set[int]:
    """Where names have parentheses behind them and are not called: those of engines, indexes, targets of views."""
    found = {_engine(tokens, place) for place in storage if _word(tokens[place]) == "ENGINE"}
    words = [text.upper() if kind == "word" else text for kind, text in tokens]
    if kind == "TABLE":
        return found | {
            number for number, (word, _) in enumerate(pairwise(words), 1) if word in ("INDEX", "PROJECTION")
        }
    if len(storage) < len(list(_outermost(tokens))):
        for place in storage:
            if words[place] == "TO":
                found |= {place + 3 if words[place + 2 : place + 3] == ["."] else place + 1}
    return found


def _called(tokens: Sequence[Token], functions: Collection[str], named: Collection[int] = ()) -> str:
    for index, ((kind, text), (_, following)) in enumerate(pairwise(tokens)):
        is_called = kind in ("word", "name") and following == "(" and index not in named
        if is_called and (_bare(text).lower() in functions or "\\" in text):
            return f"the function {text}"
    return ""


def _word(token: Token) -> str:
    """A word or name as the server compares it, whether it is quoted or not."""
    return _bare(token[1]).upper() if token[0] in ("word", "name") else token[1]


def _bare(text: str) -> str:
    return text.strip('`"')


def _asked(tokens: Sequence[Token], functions: Collection[str]) -> str:
    """What a dictionary asks of another server, or by a query of its own."""
    for place in _outermost(tokens):
        if _word(tokens[place]) != "SOURCE" or tokens[place + 1 : place + 2] != [("sign", "(")]:
            continue
        source = tokens[place + 2]
        if source[1].upper() not in _SOURCES_INSIDE:
            return f"the source {source[1]}"
        about = iter(tokens[place + 4 :])
        for kind, text in about:
            if text == ")":
                break
            value = next(about, ("", ""))
            if words := _property(kind, text.upper(), value, functions):
                return words
            if value[0] == "word" and text.upper() == "PORT" and value[1].lower() == "tcpport":
                next(about, None)
                next(about, None)
    return ""


def _property(kind: str, key: str, value: Token, functions: Collection[str]) -> str:
    """What a property of a dictionary's source reaches beyond its server."""
    if kind != "word" or value[0] not in ("word", "name", "literal", "number"):
        return f"the property {key} of its source"
    if key == "HOST":
        return "" if value[1].strip("'") in ("localhost", "127.0.0.1", "::1") else f"the server {value[1]}"
    if key in _CONDITIONS:
        return "" if _is_plain(value[1], functions) else "a condition of its own"
    if key in ("QUERY", "INVALIDATE_QUERY"):
        return "a query of its own"
    return "" if key in _PROPERTIES else f"the property {key} of its source"


def _is_plain(literal: str, functions: Collection[str]) -> bool:
    """Whether a text that becomes part of a query is a condition on the columns alone."""
    text = literal[1:-1].replace("\\'", "'").replace("''", "'") if literal.startswith("'") else literal
    try:
        tokens = list(_tokens(text))
    except NotAllowed:
        return False
    return "\\" not in text and not _has(tokens, ("SELECT", "FROM", "UNION")) and not _called(tokens, functions)


def _has(tokens: Sequence[Token], words: Sequence[str]) -> bool:
    return any(kind == "word" and text.upper() in words for kind, text in tokens)


def _outermost(tokens: Sequence[Token]) -> Iterator[int]:
    """Where the tokens are that stand in no parentheses."""
    depth = 0
    for place, token in enumerate(tokens):
        if token == ("sign", ")"):
            depth -= 1
        if depth == 0:
            yield place
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
