"""Just enough of ClickHouse's lexer to see where a statement ends and its data begins.

The engine parses; this only finds what the engine does not report to an HTTP server: the kind of a statement,
its FORMAT clause, and the place in an INSERT where the data starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

_TOKEN: Final = re.compile(
    rb"""
      (?P<blank> \s++ | --[^\n]*+ | \#[!\ ][^\n]*+ | /\*.*?\*/
               # Blanks of Unicode, as text has them that was copied from a page or a document.
               | \xc2[\x85\xa0] | \xe1\xa0\x8e | \xe2\x80[\x80-\x8d\xa8\xa9\xaf] | \xe2\x81[\x9f\xa0]
               | \xe3\x80\x80 | \xef\xbb\xbf )
    | (?P<string> '(?: [^'\\]++ | \\. | '' )*+' | \xe2\x80\x98.*?\xe2\x80\x99 )
    | (?P<quoted> `(?: [^`\\]++ | \\. | `` )*+` | "(?: [^"\\]++ | \\. | "" )*+" | \xe2\x80\x9c.*?\xe2\x80\x9d )
    | (?P<heredoc> \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<word> [A-Za-z_][A-Za-z_0-9$]*+ )
    | (?P<number> [0-9][A-Za-z_0-9.]*+ )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED_BYTE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})")
_DATA_START: Final = re.compile(rb"[ \t\f\v]*+;?\r?\n?")
_CURLY: Final = "\u201c".encode()
_COMMENT: Final = re.compile(rb"--|/\*|#[! ]")
_END: Final = b"; \t\r\n\f\v"
BEFORE_NAME: Final = frozenset({b"INSERT", b"INTO", b"TABLE", b"FUNCTION"})
_AFTER_SETTINGS: Final = frozenset({b"SELECT", b"WITH", b"FROM", b"VALUES"})
OPENING, CLOSING = frozenset(b"([{"), frozenset(b")]}")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the text, from `start` up to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class InsertData:
    """An INSERT that brings data along.

    The data starts at `data_start`; the text before `head_end` is the statement without its FORMAT
    clause. `input` and `structure` are set where the data is read through ``input('structure')``: the
    whole call, and the literal in it.
    """

    head_end: int
    data_start: int
    format: str
    input: Span | None = None
    structure: Span | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What was found out about one statement.

    `verb` is its first keyword in upper case, empty if there is none. `format` is what its FORMAT clause
    names, None without one, and `format_clause` where that clause is. `insert` is set for an INSERT
    followed by data. `settled` says that more text cannot change the answer.
    """

    verb: str
    format: str | None = None
    insert: InsertData | None = None
    settled: bool = False
    format_clause: Span | None = None


Token = re.Match[bytes]


def tokens_of(sql: bytes, start: int = 0) -> Iterator[Token]:
    """The tokens from `start` on, without blanks and comments."""
    return (token for token in _TOKEN.finditer(sql, start) if token.lastgroup != "blank")


def keywords(sql: bytes, count: int) -> list[str]:
    """The first `count` words in upper case, up to the first token that is none."""
    found: list[str] = []
    for token in tokens_of(sql):
        if token.lastgroup != "word" or len(found) == count:
            break
        found.append(token.group().decode().upper())
    return found


def verb_of(sql: bytes) -> str:
    """The first keyword in upper case, empty if there is none (yet)."""
    for token in tokens_of(sql):
        if token.lastgroup == "word":
            return token.group().decode().upper()
        if token.group() != b"(":
            break
    return ""


def examine(sql: bytes) -> Statement:
    """Look at an INSERT up to where its data begins, at any other statement to its end."""
    verb = verb_of(sql)
    if verb == "INSERT":
        return _examine_insert(sql)
    clause = _trailing_format(sql)
    return Statement(verb) if clause is None else Statement(verb, clause[0], format_clause=clause[1])


class _Walk:
    """Goes through tokens and knows, at each, what came before and how deep in parentheses it is."""

    def __init__(self, tokens: Iterator[Token]) -> None:
        self._tokens = tokens
        self.depth = 0
        self.previous = b""
        self.previous_keyword = b""

    def __iter__(self) -> Iterator[tuple[Token, bytes]]:
        """Each token, and its keyword: empty for what is none, or is a name after a dot."""
        for token in self._tokens:
            is_word = token.lastgroup == "word" and self.previous != b"."
            keyword = token.group().upper() if is_word else b""
            if token.lastgroup == "sign":
                sign = token.group()[0]
                self.depth += (sign in OPENING) - (sign in CLOSING)
            yield token, keyword
            self.previous, self.previous_keyword = token.group(), keyword


def _examine_insert(sql: bytes) -> Statement:
    walk = _Walk(tokens_of(sql))
    named = False
    for token, keyword in walk:
        if not named:
            # After INSERT [INTO] [TABLE] [FUNCTION] comes a name, whatever it looks like.
            named = keyword not in BEFORE_NAME
            continue
        opened = walk.depth == 1 and walk.previous == b"("
        if keyword in (b"SELECT", b"WITH", b"FROM") and (walk.depth == 0 or (opened and keyword != b"FROM")):
            return _examine_insert_select(sql, token.start())
        if walk.depth > 0:
            continue
        if keyword == b"VALUES":
            return Statement("INSERT", "Values", InsertData(token.start(), token.end(), "Values"), settled=True)
        if keyword == b"FORMAT":
            found = _data_after_format(sql, token.start())
            if found is not None:
                return Statement("INSERT", found.format, found, settled=found.data_start < len(sql))
    return Statement("INSERT")


def _examine_insert_select(sql: bytes, start: int) -> Statement:
    """An INSERT from a query brings data only if that query reads ``input()``."""
    call = _find_input(sql, start)
    if call is None:
        return Statement("INSERT")
    walk = _Walk(tokens_of(sql, call[0].end))
    for token, keyword in walk:
        if keyword == b"FORMAT" and walk.depth <= 0:
            found = _data_after_format(sql, token.start())
            if found is not None:
                insert = InsertData(found.head_end, found.data_start, found.format, *call)
                return Statement("INSERT", found.format, insert, settled=found.data_start < len(sql))
    return Statement("INSERT")


def _find_input(sql: bytes, start: int) -> tuple[Span, Span] | None:
    window: list[Token] = []
    for token in tokens_of(sql, start):
        window = [*window[-3:], token]
        if len(window) == 4:
            name, opening, literal, closing = window
            signs = opening.group() == b"(" and closing.group() == b")"
            if name.group().lower() == b"input" and signs and literal.lastgroup == "string":
                return Span(name.start(), closing.end()), Span(literal.start(), literal.end())
    return None


def _data_after_format(sql: bytes, head_end: int) -> InsertData | None:
    tokens = tokens_of(sql, head_end)
    next(tokens)
    name = next(tokens, None)
    if name is None or name.lastgroup != "word":
        return None
    start = name.end()
    if name.group().upper() != b"VALUES":
        # A line break right after the name belongs to the query; data may begin with blank characters.
        found = _DATA_START.match(sql, start)
        start = found.end() if found is not None else start
    return InsertData(head_end, start, name.group().decode())


def _trailing_format(sql: bytes) -> tuple[str, Span] | None:
    """The name in the FORMAT clause, which has only settings behind it, and where the clause is."""
    if b"format" not in sql.lower():
        return None
    walk, start, found, complete = _Walk(tokens_of(sql)), 0, None, False
    for token, keyword in walk:
        if found is not None and not complete and token.group() != b";":
            complete = keyword == b"SETTINGS"
            found = found if complete else None
        if found is None and keyword and walk.depth == 0 and walk.previous_keyword == b"FORMAT":
            found = token.group().decode(), Span(start, token.end())
        start = token.start()
    return found


def created(sql: bytes) -> bytes | None:
    """The name of the table that a CREATE makes, as it is written; None where it may replace one or is temporary."""
    head = [token.group() for token in islice(tokens_of(sql), 12)]
    words = [word.upper() for word in head]
    kind = 2 if words[1:2] == [b"MATERIALIZED"] else 1
    if words[:1] != [b"CREATE"] or words[kind : kind + 1] not in ([b"TABLE"], [b"VIEW"]):
        return None
    start = kind + (4 if words[kind + 1 : kind + 4] == [b"IF", b"NOT", b"EXISTS"] else 1)
    return _name(head[start:])


def insert_target(sql: bytes) -> tuple[bytes, bytes] | None:
    """The table of an INSERT and its columns, as they are written; None for a table function."""
    tokens = [token for token in tokens_of(sql) if token.group().upper() not in (b"INSERT", b"INTO", b"TABLE")]
    words = [token.group() for token in tokens[:4]]
    if not words or words[0].upper() == b"FUNCTION" or (name := _name(words)) is None:
        return None
    rest = tokens[3 if words[1:2] == [b"."] else 1 :]
    if not rest or rest[0].group() != b"(":
        return name, b"*"
    depth = 0
    for token in rest:
        depth += (token.group() == b"(") - (token.group() == b")")
        if depth == 0:
            return name, sql[rest[0].end() : token.start()]
    return name, b"*"


def _name(words: list[bytes]) -> bytes | None:
    """The name at the beginning, with that of its database."""
    name = b"".join(words[:3] if words[1:2] == [b"."] else words[:1])
    return None if name[:1] in (b"", b"{", b"(") else name


def value_of(sql: bytes, setting: bytes) -> bytes | None:
    """What a query sets a setting to, as it is written."""
    if setting not in sql:
        return None
    tokens = list(tokens_of(sql))
    for index, token in enumerate(tokens[:-2]):
        if token.group() == setting and tokens[index + 1].group() == b"=":
            depth = 0
            for last in tokens[index + 2 :]:
                sign = last.group()[0]
                depth += (sign in OPENING) - (sign in CLOSING)
                if depth == 0:
                    return sql[tokens[index + 2].start() : last.end()]
    return None


def replace_setting(sql: bytes, setting: bytes, replacement: Callable[[bytes], bytes]) -> bytes:
    """The text with what `replacement` makes of each value to which SET or SETTINGS sets it."""
    if setting not in sql:
        return sql
    tokens, parts, end, depth = list(tokens_of(sql)), [], 0, -1
    for index, (token, sign, value) in enumerate(zip(tokens, tokens[1:], tokens[2:], strict=False)):
        word = token.group().upper()
        if (word == b"SETTINGS" and value.group() == b"=") or (word == b"SET" and index == 0):
            depth = 0  # in the list; below it ends
        elif word in _AFTER_SETTINGS:
            depth = -1
        elif depth >= 0 and token.lastgroup == "sign":
            depth += (word[0] in OPENING) - (word[0] in CLOSING)
        is_name = tokens[index - 1].group().upper() in (b"SETTINGS", b"SET", b",") and sign.group() == b"="
        if depth == 0 and is_name and _unquoted(token.group()) == setting:
            last = next((each for each in tokens[index + 2 :] if value.group() != b"{" or each.group() == b"}"), value)
            parts += [sql[end : value.start()], replacement(sql[value.start() : last.end()])]
            end = last.end()
    return b"".join([*parts, sql[end:]])


def writes_file(sql: bytes) -> bool:
    """Whether it has ``INTO OUTFILE``, which any statement with a result may have; a table may be called so."""
    words = [token.group().upper() for token in tokens_of(sql)] if b"outfile" in sql.lower() else []
    places = [index for index, word in enumerate(words) if word == b"OUTFILE" and words[index - 1] == b"INTO"]
    return any(words[: index - 1] != [b"INSERT"] for index in places)


def has_settings(sql: bytes) -> bool:
    """Whether a statement sets settings for itself."""
    words = [token.group().upper() for token in tokens_of(sql)] if b"settings" in sql.lower() else []
    return any(word == b"SETTINGS" and words[index + 2 : index + 3] == [b"="] for index, word in enumerate(words))


def with_output(sql: bytes, statement: Statement, path: str, output_format: str) -> bytes:
    """A query that writes its result to the file `path`, in `output_format` where it names none."""
    output = f"\nINTO OUTFILE {quote(path)} TRUNCATE".encode()
    if (clause := statement.format_clause) is None:
        return b"%b%b\nFORMAT %b" % (_without_end(sql), output, output_format.encode())
    return b"%b%b %b" % (sql[: clause.start], output, sql[clause.start :])


def without_format(sql: bytes, statement: Statement) -> bytes:
    """A query as it stands inside of another one: without its FORMAT clause, semicolon and last comments."""
    clause = statement.format_clause
    return _without_end(sql if clause is None else sql[: clause.start] + sql[clause.end :])


def _without_end(sql: bytes) -> bytes:
    """The text up to its last token that is not a semicolon."""
    stripped = sql.rstrip(_END)
    if stripped[-1:].isascii() and not _COMMENT.search(sql):
        return stripped
    ends = [token.end() for token in tokens_of(sql) if token.group() != b";"]
    return sql[: max(ends, default=0)]


def called_functions(sql: bytes, names: Collection[bytes]) -> set[bytes]:
    """Those of the functions (in lower case) that the text calls, quoted or not."""
    lower = sql.lower()
    if not any(name in lower for name in names) and not _ESCAPED_BYTE.search(sql):
        return set()
    called, previous = set(), b""
    for token in tokens_of(sql):
        if token.group() == b"(":
            called.add(_unquoted(previous).lower())
        previous = token.group()
    return called & set(names)


def _unquoted(name: bytes) -> bytes:
    if name.startswith(_CURLY):
        return name[len(_CURLY) : -len(_CURLY)]
    if not name.startswith((b"`", b'"')):
        return name
    return _ESCAPED_BYTE.sub(lambda found: bytes.fromhex(found[1].decode()), name[1:-1])


def replace_strings(sql: bytes, replacement: Callable[[bytes], bytes]) -> bytes:
    """The text with what `replacement` makes of the inside of each string literal."""
    parts, end = [], 0
    for token in tokens_of(sql):
        if token.lastgroup == "string":
            parts += [sql[end : token.start() + 1], replacement(token.group()[1:-1])]
            end = token.end() - 1
    return b"".join([*parts, sql[end:]])


def split_list(text: str) -> list[str]:
    """The items of a list with commas, which may have parentheses of their own (types do)."""
    encoded = text.encode()
    walk, items, start = _Walk(tokens_of(encoded)), [], 0
    for token, _ in walk:
        if token.group() == b"," and walk.depth == 0:
            items.append(encoded[start : token.start()])
            start = token.end()
    items.append(encoded[start:])
    return [item.decode().strip() for item in items]


def quote(text: str) -> str:
    """`text` as a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
