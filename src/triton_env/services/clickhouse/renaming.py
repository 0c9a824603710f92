"""The name of a database within the statements of its tables and views, found by tokens.

ClickHouse shows statements with the name of the database before every table, and takes no other name for it. A plain
replacement of text would also change string literals, aliases and columns of that name.

Where names of tables are expected follows from the grammar: https://clickhouse.com/docs/sql-reference/statements/select/from,
https://clickhouse.com/docs/sql-reference/statements/create/view and the pages of the functions and engines below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from triton_env.servers.clickhouse.sql import Token, tokens_of
from triton_env.services.clickhouse.http import literal, quoted

HIDDEN: Final = "'[HIDDEN]'"
"""What the server shows in the place of a password."""

_BEFORE_TABLE: Final = frozenset({"FROM", "JOIN", "TO", "INTO", "IN", "TABLE", "VIEW", "DICTIONARY"})
_END_OF_FROM: Final = frozenset(
    {
        *("SELECT", "WHERE", "PREWHERE", "GROUP", "ORDER", "HAVING", "QUALIFY", "WINDOW", "LIMIT", "OFFSET"),
        *("SETTINGS", "UNION", "INTERSECT", "EXCEPT", "ENGINE"),
    }
)
_DATABASE_ARGUMENT: Final = {
    **dict.fromkeys(("buffer", "merge", "alias", "loop", "hascolumnintable"), 0),
    **dict.fromkeys(("mergetreeindex", "mergetreeprojection", "mergetreeanalyzeindexes"), 0),
    **dict.fromkeys(("distributed", "cluster", "clusterallreplicas", "remote", "remotesecure"), 1),
}
"""Engines and functions that take a database: the number of that argument."""
_TABLE_ARGUMENT: Final = {
    **dict.fromkeys(("alias", "dictionary", "joinget", "joingetornull", "loop"), 0),
    **dict.fromkeys(("cluster", "clusterallreplicas", "remote", "remotesecure"), 1),
}
"""Those that take a table with its database in one argument. The functions for dictionaries are added to them."""
_DICTIONARY_FUNCTION: Final = re.compile(r"dict(get|has|isin)")
_IN: Final = frozenset({"in", "notin", "globalin", "globalnotin"})
_REMOTE: Final = frozenset({"remote", "remotesecure"})
_LOCAL: Final = re.compile(r"(localhost|127\.[\d.]+|\[?::1\]?)(:\d+)?")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "a": "\a", "v": "\v"}


@dataclass(frozen=True, slots=True)
class RewrittenStatement:
    """A statement with another database in it.

    Attributes:
        statement: the text.
        names: the tables of that database that it names.
    """

    statement: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Account:
    """A user, whose password can be put in where a dictionary has it and the server does not show it."""

    user: str
    password: str


def rename_database(
    statement: str, before: str, after: str, tables: frozenset[str], account: Account | None = None
) -> RewrittenStatement:
    """The statement for the database `after` instead of `before`.

    A name of three parts, `before.table.column`, is taken for one with a database where the statement reads that
    table; one of two parts in the place of a column is left alone: it is an alias, or a column of a tuple.

    Args:
        statement: as the server shows it.
        before, after: names of databases.
        tables: the names of what is in `before`.
        account: for dictionaries that read from this very server.
    """
    return _Rewriting(statement, before, after, tables, account).done()


def with_empty(statement: str) -> str:
    """A statement of a materialized view that refreshes itself, so that it is not filled when it is made.

    https://clickhouse.com/docs/sql-reference/statements/create/view#refreshable-materialized-view
    """
    sql = statement.encode()
    depth, refreshes = 0, False
    for token in tokens_of(sql):
        depth += (token.group() in (b"(", b"[", b"{")) - (token.group() in (b")", b"]", b"}"))
        if depth == 0 and token.lastgroup == "word":
            refreshes = refreshes or token.group() == b"REFRESH"
            if token.group() == b"AS":
                return (sql[: token.start()] + b"EMPTY " + sql[token.start() :]).decode() if refreshes else statement
    return statement


def without_columns(statement: str) -> str:
    """A statement without its list of columns, which the server shows for an Alias table and does not take."""
    sql = statement.encode()
    depth, start = 0, -1
    for token in tokens_of(sql):
        if token.group() == b"(":
            start = token.start() if depth == 0 else start
            depth += 1
        elif token.group() == b")":
            depth -= 1
            if depth == 0:
                return (sql[:start] + sql[token.end() :].lstrip()).decode()
    return statement


@dataclass(slots=True)
class _Frame:
    """A pair of parentheses that is open: whose arguments it holds, in lower case, and which one this is."""

    function: str = ""
    argument: int = 0
    first: str = ""
    lists_tables: bool = False


@dataclass(slots=True)
class _Column:
    """`database.table.column`, if the statement reads that table."""

    token: Token
    table: str


@dataclass(slots=True)
class _Rewriting:
    statement: str
    before: str
    after: str
    tables: frozenset[str]
    account: Account | None
    sql: bytes = b""
    tokens: list[Token] = field(default_factory=list)
    frames: list[_Frame] = field(default_factory=lambda: [_Frame()])
    edits: dict[tuple[int, int], str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    columns: list[_Column] = field(default_factory=list)

    def done(self) -> RewrittenStatement:
        self.sql = self.statement.encode()
        self.tokens = list(tokens_of(self.sql))
        for index, token in enumerate(self.tokens):
            if token.lastgroup == "sign":
                self._sign(index, token.group())
            elif token.lastgroup == "string":
                self._string(index)
            elif token.lastgroup in ("word", "quoted") and self._text(index - 1) != ".":
                self._keyword(index)
                if _value(token) == self.before:
                    self._name(index)
        for column in self.columns:
            if column.table in self.names:
                self._edit(column.token, quoted(self.after))
        parts, end = [], 0
        for (start, stop), text in sorted(self.edits.items()):
            parts += [self.sql[end:start], text.encode()]
            end = stop
        return RewrittenStatement(b"".join([*parts, self.sql[end:]]).decode(), frozenset(self.names))

    def _text(self, index: int) -> str:
        """The token of that number, in upper case where it is a bare word."""
        if not 0 <= index < len(self.tokens):
            return ""
        text = self.tokens[index].group().decode()
        return text.upper() if self.tokens[index].lastgroup == "word" else text

    def _is_name(self, index: int) -> bool:
        return index < len(self.tokens) and self.tokens[index].lastgroup in ("word", "quoted")

    def _edit(self, token: Token, text: str) -> None:
        self.edits[token.start(), token.end()] = text

    def _sign(self, index: int, sign: bytes) -> None:
        top = self.frames[-1]
        if sign in (b"(", b"[", b"{"):
            is_call = sign == b"(" and index > 0 and self.tokens[index - 1].lastgroup == "word"
            function = self._text(index - 1).lower() if is_call else ""
            if function == "clickhouse" and top.function == "source":
                self._source(index + 1)
            self.frames.append(_Frame(function))
        elif sign in (b")", b"]", b"}"):
            if len(self.frames) > 1:
                self.frames.pop()
        elif sign == b",":
            top.argument += 1

    def _keyword(self, index: int) -> None:
        """Whether commas from here on stand between tables."""
        word, top = self._text(index), self.frames[-1]
        if self.tokens[index].lastgroup != "word":
            return
        if word in _END_OF_FROM:
            top.lists_tables = False
        elif word == "JOIN":
            top.lists_tables = self._text(index - 1) != "ARRAY"
        elif word == "FROM" or (word == "ON" and self._text(index - 1) == "DEPENDS"):
            top.lists_tables = self._text(index - 1) != "DISTINCT"

    def _starts_argument(self, index: int) -> bool:
        return self._text(index - 1) in ("(", ",")

    def _takes_table(self) -> bool:
        top = self.frames[-1]
        if top.function in _REMOTE and not _LOCAL.fullmatch(top.first):
            return False
        number = 0 if _DICTIONARY_FUNCTION.match(top.function) else _TABLE_ARGUMENT.get(top.function)
        return number == top.argument

    def _takes_database(self) -> bool:
        top = self.frames[-1]
        if top.function in _REMOTE and not _LOCAL.fullmatch(top.first):
            return False
        return _DATABASE_ARGUMENT.get(top.function) == top.argument

    def _name(self, index: int) -> None:
        """The name of the database, which may also be one of something else."""
        token = self.tokens[index]
        if self._text(index + 1) != ".":
            if self._starts_argument(index) and self._takes_database() and self._text(index + 1) == ",":
                self._edit(token, quoted(self.after))
                self._note(index + 2)
            return
        if not self._is_name(index + 2):
            return
        table, previous, following = _value(self.tokens[index + 2]), self._text(index - 1), self._text(index + 3)
        before = (self._text(index - 2), previous)
        named = (
            (previous in _BEFORE_TABLE and before not in (("DISTINCT", "FROM"), ("ARRAY", "JOIN")))
            or before == ("DEPENDS", "ON")
            or (previous == "," and self.frames[-1].lists_tables)
        )
        is_argument = self._starts_argument(index) and following in (",", ")")
        in_list = self.frames[-1].function in _IN and table in self.tables
        if named or (is_argument and (in_list or self._takes_table())):
            self._edit(token, quoted(self.after))
            self.names.add(table)
        elif following == "." and table in self.tables:
            self.columns.append(_Column(token, table))

    def _string(self, index: int) -> None:
        """A literal that may be the name of the database, or of a table with it."""
        if not self._starts_argument(index):
            return
        token, top = self.tokens[index], self.frames[-1]
        value = _unescaped(token.group().decode())
        if top.argument == 0:
            top.first = value
        if value == self.before and self._takes_database() and self._text(index + 1) == ",":
            self._edit(token, literal(self.after))
            self._note(index + 2)
        elif self._takes_table():
            database, _, table = value.rpartition(".")
            if database in (self.before, quoted(self.before)):
                self._edit(token, literal(f"{self.after}.{table}"))
            if database in ("", self.before, quoted(self.before)):
                self.names.add(table.strip("`"))

    def _note(self, index: int) -> None:
        """A table that follows its database as an argument of its own."""
        if index < len(self.tokens):
            token = self.tokens[index]
            self.names.add(_unescaped(token.group().decode()) if token.lastgroup == "string" else _value(token))

    def _source(self, start: int) -> None:
        """The words of SOURCE(CLICKHOUSE(...)) of a dictionary, each with its value.

        https://clickhouse.com/docs/sql-reference/statements/create/dictionary/sources/clickhouse
        """
        found: dict[str, Token] = {}
        for index in range(start, len(self.tokens) - 1, 2):
            if self.tokens[index].lastgroup != "word":
                break
            found[self._text(index)] = self.tokens[index + 1]
        values = {
            key: _unescaped(token.group().decode()) for key, token in found.items() if token.lastgroup == "string"
        }
        if not _LOCAL.fullmatch(values.get("HOST", "localhost")):
            return
        if "DB" in values and values["DB"] == self.before:
            self._edit(found["DB"], literal(self.after))
        if "TABLE" in values and values.get("DB", self.before) == self.before:
            self.names.add(values["TABLE"])
        for key in ("QUERY", "WHERE", "INVALIDATE_QUERY"):
            if key in values:
                inner = rename_database(values[key], self.before, self.after, self.tables)
                self._edit(found[key], literal(inner.statement))
                self.names |= inner.names
        is_own = self.account is not None and values.get("USER", "default") == self.account.user
        if self.account is not None and is_own and "PASSWORD" in found and found["PASSWORD"].group() == HIDDEN.encode():
            self._edit(found["PASSWORD"], literal(self.account.password))


def _value(token: Token) -> str:
    text = token.group().decode()
    return _unescaped(text) if token.lastgroup == "quoted" else text


def _unescaped(text: str) -> str:
    """What a literal or a quoted name stands for."""
    mark, inside = text[0], text[1:-1]
    return re.sub(
        rf"\\(.)|{mark}{mark}",
        lambda found: _ESCAPES.get(found[1], found[1]) if found[1] else mark,
        inside,
        flags=re.DOTALL,
    )
