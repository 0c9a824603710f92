"""SQL text for PostgreSQL taken apart: its statements, where each of them is, and the `:name` in it.

The server is sent one statement at a time, so that each is a transaction of its own, as in psql: sent together they
would be one.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
"""

import re
from collections.abc import Iterator

from triton_env.services.statements import Parameter, Statement

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_TOKEN = re.compile(
    r"""
      (?P<blank> \s++ | --[^\n]*+ )
    | (?P<comment> /\* )
    | (?P<string> [eE]'(?:[^'\\]|\\.|'')*+' | '(?:[^']|'')*+' )
    | (?P<quoted> "(?:[^"]|"")*+" )
    | (?P<heredoc> \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$ )
    | (?P<cast> :: | := )
    | (?P<name> :(?P<named>[^\W\d]\w*) )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK = re.compile(r"/\*|\*/")


def postgres_statements(text: str) -> list[Statement]:
    """The statements of a text for PostgreSQL."""
    return list(_statements(text))


def _statements(text: str) -> Iterator[Statement]:
    collected = _Collected()
    for token in _tokens(text):
        if token.group() == ";" and collected.depth <= 0 and not collected.blocks:
            yield from collected.statement(text)
            collected = _Collected()
        else:
            collected.add(token)
    yield from collected.statement(text)


def _tokens(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        if match.lastgroup == "comment":
            position = _comment_end(text, match.start())
        elif match.lastgroup != "blank":
            yield match


def _comment_end(text: str, start: int) -> int:
    """Comments nest."""
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


class _Collected:
    """The tokens of a statement so far."""

    def __init__(self) -> None:
        self.depth = 0
        """Of parentheses, in which a semicolon ends nothing (CREATE RULE)."""
        self.blocks = 0
        """Of BEGIN ATOMIC and CASE in the body of a function, where a semicolon ends a part of it."""
        self._brackets = 0
        self._words: list[str] = []
        self._parameters: list[Parameter] = []
        self._start = self._end = -1

    def add(self, token: re.Match[str]) -> None:
        if self._start < 0:
            self._start = token.start()
        self._end = token.end()
        if token.lastgroup == "word":
            self._add_word(token.group().upper())
        elif token.lastgroup == "sign":
            sign = token.group()
            self.depth += (sign == "(") - (sign == ")")
            self._brackets += (sign == "[") - (sign == "]")
        # In brackets it is the end of an array's slice: [1:last].
        elif token.lastgroup == "name" and self._brackets <= 0:
            place = (token.start() - self._start, token.end() - self._start)
            self._parameters.append(Parameter(token.group("named"), *place))

    def statement(self, text: str) -> Iterator[Statement]:
        if self._start >= 0:
            words = self._words
            body = text[self._start : self._end]
            verb = words[0] if words and re.match(r"[\s(]*" + re.escape(words[0]), body, re.IGNORECASE) else ""
            yield Statement(body, self._start, verb, tuple(self._parameters))

    def _add_word(self, word: str) -> None:
        self._words.append(word)
        head = [word for word in self._words[:4] if word not in ("OR", "REPLACE")]
        if head[0] != "CREATE" or head[1:2] not in (["FUNCTION"], ["PROCEDURE"]):
            return
        if word == "BEGIN" or (word == "CASE" and self.blocks):
            self.blocks += 1
        elif word == "END" and self.blocks:
            self.blocks -= 1
