"""What the native protocol asks of a statement beside what HTTP does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..sql import BEFORE_NAME, CLOSING, OPENING, Token, tokens_of

_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}


def has_totals(text: bytes) -> bool:
    """Whether it asks for totals beside the rows, or one of its subqueries does."""
    if b"totals" not in text.lower():
        return False
    previous = b""
    for token in tokens_of(text):
        if token.group().upper() == b"TOTALS" and previous == b"WITH":
            return True
        previous = token.group().upper()
    return False


@dataclass(frozen=True, slots=True)
class InsertTarget:
    """Where an INSERT goes.

    `table` is the text of the table, or of the table function where `is_function`; `columns` is what stands
    between the parentheses after it, None without these.
    """

    table: bytes
    is_function: bool
    columns: bytes | None


def insert_target(head: bytes) -> InsertTarget | None:
    """Find the table in the text of an INSERT up to its data; None where there is none."""
    tokens = list(tokens_of(head))
    place, is_function = 0, False
    while place < len(tokens) and tokens[place].group().upper() in BEFORE_NAME:
        is_function = is_function or tokens[place].group().upper() == b"FUNCTION"
        place += 1
    if place == len(tokens):
        return None
    first = place
    place = _closing(tokens, place) + 1  # of a parameter in braces, else the name itself
    while place + 1 < len(tokens) and tokens[place].group() == b".":
        place = _closing(tokens, place + 1) + 1
    if is_function and place < len(tokens):
        place = _closing(tokens, place) + 1
    table = head[tokens[first].start() : tokens[place - 1].end()]
    columns = None
    if place < len(tokens) and tokens[place].group() == b"(":
        columns = head[tokens[place].end() : tokens[_closing(tokens, place)].start()]
    return InsertTarget(table, is_function, columns)


def _closing(tokens: list[Token], place: int) -> int:
    """The place of the token that closes what the one at `place` opens: itself, where that opens nothing."""
    depth = 0
    for number in range(place, len(tokens)):
        sign = tokens[number].group()
        if len(sign) == 1:
            depth += (sign[0] in OPENING) - (sign[0] in CLOSING)
        if depth <= 0:
            return number
    return len(tokens) - 1


def name_of(text: str) -> str | None:
    """The name that a text is, without its quotes; None where it is more than a name. Of a column, with its dots."""
    parts = []
    for number, token in enumerate(tokens_of(text.encode("utf-8", "surrogateescape"))):
        if number % 2:
            if token.group() != b".":
                return None
        elif token.lastgroup in ("word", "quoted"):
            parts.append(_unquoted(token.group().decode("utf-8", "surrogateescape")))
        else:
            return None
    return ".".join(parts) or None


def _unquoted(name: str) -> str:
    quote = name[0]
    return unescaped(name[1:-1].replace(2 * quote, quote)) if quote in '`"' else name


def unescaped(text: str) -> str:
    """The text with what its backslashes stand for."""

    def plain(escape: re.Match[str]) -> str:
        letter = escape[1]
        return chr(int(letter[1:], 16)) if len(letter) == 3 else _LETTERS.get(letter, letter)

    return _ESCAPE.sub(plain, text)
