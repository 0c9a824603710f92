"""Reads statements as `formatQuerySingleLine` writes them: one form for each meaning, without comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from triton_env.servers.clickhouse import sql
from triton_env.servers.clickhouse.errors import SYNTAX_ERROR, UNKNOWN_QUERY_PARAMETER, ServerError

_ESCAPED: Final = re.compile(r"\\(.)|''|``", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}


class Reader:
    """A place in the text of a statement."""

    def __init__(self, text: bytes, parameters: Mapping[str, str] | None = None) -> None:
        """`parameters` are values for `{name:Type}`."""
        self._text, self._parameters = text, parameters or {}
        self._tokens = list(sql.tokens_of(text))
        self.at = 0
        """The number of the next token; put back where a reading turns out to be another."""

    @property
    def next(self) -> str:
        """The next token: a word in upper case, anything else as it is, empty at the end."""
        return self._ahead(0)

    def _ahead(self, count: int) -> str:
        if self.at + count >= len(self._tokens):
            return ""
        token = self._tokens[self.at + count]
        text = token.group().decode("utf-8", "surrogateescape")
        return text.upper() if token.lastgroup == "word" else text

    def accept(self, words: str) -> bool:
        """Go past these words if they come next."""
        expected = words.split()
        found = [self._ahead(count) for count in range(len(expected))] == expected
        self.at += len(expected) if found else 0
        return found

    def expect(self, words: str) -> None:
        """Go past these words, which must come next."""
        if not self.accept(words):
            raise ServerError(SYNTAX_ERROR, f"Syntax error: expected {words} before '{self.next or 'end of query'}'")

    def one_of(self, *alternatives: str) -> str:
        """Go past those of the alternatives that come next; empty if none does."""
        return next((words for words in alternatives if self.accept(words)), "")

    def name(self) -> str:
        """A name or a string, without its quotes."""
        if self.at >= len(self._tokens):
            raise ServerError(SYNTAX_ERROR, "Syntax error: a name is missing at the end of the query")
        token = self._tokens[self.at]
        self.at += 1
        text = token.group().decode("utf-8", "surrogateescape")
        if text == "{":
            return self._parameter()
        if token.lastgroup in ("string", "quoted"):
            return _ESCAPED.sub(_unescaped, text[1:-1])
        return text

    def _parameter(self) -> str:
        name = self.name()
        while self.next not in ("}", ""):
            self.at += 1
        self.expect("}")
        if name not in self._parameters:
            raise ServerError(UNKNOWN_QUERY_PARAMETER, f"Substitution `{name}` is not set")
        return self._parameters[name]

    def user(self) -> str:
        """The name of a user, who may be restricted to a host in it."""
        name = self.name()
        if self.accept("@"):
            host = self.name()
            return name if host == "%" else f"{name}@{host}"
        return name

    def names(self) -> list[str]:
        """One or more names with commas between them."""
        found = [self.user()]
        while self.accept(","):
            found.append(self.user())
        return found

    def table(self, database: str) -> tuple[str, str]:
        """The name of a table, in `database` where it names none; an empty table stands for all (`*`)."""
        first = self._part()
        if self.accept("."):
            return first, self._part()
        return database, first

    def _part(self) -> str:
        return "" if self.accept("*") else self.name()

    def literal(self) -> str:
        """A number, a string or a word, as what SET takes between quotes."""
        sign = "-" if self.accept("-") else ""
        return sign + self.name()

    def text_before(self, *words: str) -> str:
        """The text up to one of these words outside of parentheses, or to the end."""
        start, depth = self.at, 0
        while self.at < len(self._tokens) and (depth or self.next not in words):
            depth += (self.next == "(") - (self.next == ")")
            self.at += 1
        if start == self.at:
            return ""
        span = self._text[self._tokens[start].start() : self._tokens[self.at - 1].end()]
        return span.decode("utf-8", "surrogateescape")

    def end(self) -> None:
        """Nothing may follow."""
        if self.next:
            raise ServerError(SYNTAX_ERROR, f"Syntax error: '{self.next}' is not expected here")


def _unescaped(found: re.Match[str]) -> str:
    letter = found[1]
    return found[0][0] if letter is None else _ESCAPES.get(letter, letter)


_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_RESERVED: Final = frozenset({"ALL", "NONE", "EXCEPT", "ANY", "CURRENT_USER", "TO", "ON"})


def plain(name: str) -> str:
    """`name`, quoted where it has to be."""
    return name if _PLAIN.fullmatch(name) and name.upper() not in _RESERVED else sql.identifier(name)
