"""Whose statements run: users of the configuration, who may do everything, and those that SQL made."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import sql
from .errors import UNKNOWN_TYPE_OF_QUERY, ServerError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .access.control import Control
    from .engine import Engine
    from .request import QueryRequest
    from .sessions import Lease

DEFAULT: Final = "default"
"""The user that the engine takes everything for."""
_ENTITIES: Final = frozenset({"USER", "ROLE", "QUOTA", "POLICY", "PROFILE", "USERS", "ROLES", "POLICIES", "PROFILES"})
_SHOWN: Final = _ENTITIES | {"GRANTS", "ACCESS", "QUOTAS"}
_TABLES: Final = re.compile(
    rb"""system[`"]?\s*\.\s*[`"]?(users|roles|role_grants|grants|settings_profile|row_policies|quotas)""", re.IGNORECASE
)
_CURRENT_USER: Final = frozenset({b"currentuser", b"current_user", b"user"})


class Access:
    """What SQL makes of users, loaded when it is needed: most servers never see a CREATE USER."""

    def __init__(self, engine: Engine, path: Path, config_users: Collection[str]) -> None:
        """`path` is the data directory. Users that were made before are there from the beginning."""
        self._engine, self._config_users = engine, config_users
        self._file = path / "access" / "entities.sql"
        self._lock = threading.Lock()
        self._control: Control | None = None

    @property
    def is_used(self) -> bool:
        """Whether SQL made anything."""
        return self._control is not None or self._file.exists()

    @property
    def has_policies(self) -> bool:
        """Whether there may be row policies."""
        return self._file.exists() if self._control is None else self._control.has_policies

    def control(self) -> Control:
        """Everything about it. Blocks."""
        with self._lock:
            if self._control is None:
                from .access.control import Control

                self._control = Control(self._engine, self._file, self._config_users)
            return self._control

    def close(self) -> None:
        """Close its connection to the engine."""
        if self._control is not None:
            self._control.close()


@dataclass(frozen=True, slots=True)
class Account:
    """A user who has logged in.

    Attributes:
        name: of the user.
        access: what SQL made of users; None where it is not to be asked.
        is_limited: whether SQL made the user, so that rights and limits count.
    """

    name: str = DEFAULT
    access: Access | None = None
    is_limited: bool = False

    def is_subject(self, request: QueryRequest) -> bool:
        """Whether what SQL made of users changes what a request means."""
        return self.access is not None and bool(self.is_limited or request.roles or self.access.has_policies)

    def prepared(self, request: QueryRequest) -> QueryRequest:
        """A request with the settings and limits of the user; see `Control.prepared`. May block."""
        if self.access is None or not self.is_subject(request):
            return request
        return self.access.control().prepared(self.name, request, is_limited=self.is_limited)

    def admit(self, lease: Lease, request: QueryRequest, text: bytes, statement: sql.Statement) -> bytes | None:
        """What the engine is to execute for a statement, None where it is done; see `Control.admit`. Blocks."""
        _refuse_infile(text)
        admitted: bytes | None = text
        if self.access is not None and (self.is_limited or is_of_access(text) or names_tables(text, request.database)):
            admitted = self.access.control().admit(self.name, lease, request, text, is_limited=self.is_limited)
            if admitted not in (None, text) and statement.format:
                admitted += b" FORMAT " + statement.format.encode()
        if admitted is None or self.name == DEFAULT or statement.verb == "CREATE":
            return admitted
        is_named = statement.verb not in ("ALTER", "DELETE", "UPDATE")
        if self.access is not None and self.is_limited and b"roles" in admitted.lower():
            roles = self.access.control().roles(self.name, lease, request)
            admitted = replace_calls(admitted, {name: _array(each) for name, each in roles.items()}, is_named=is_named)
        return as_user(admitted, self.name, is_named=is_named)

    def guarded(self, request: QueryRequest, text: bytes, insert: sql.InsertData, *, is_whole: bool) -> QueryRequest:
        """A request for an INSERT whose data cannot be a way around its check; see `Control.guarded`. Blocks."""
        if self.access is None or not self.is_limited:
            return request
        return self.access.control().guarded(request, text, insert, is_whole=is_whole)

    def check_insert(self, lease: Lease, request: QueryRequest, text: bytes, insert: sql.InsertData) -> None:
        """Check an INSERT that brings data. Blocks."""
        _refuse_infile(text[: insert.head_end])
        if self.access is not None and self.is_limited:
            self.access.control().check_insert(self.name, lease, request, text, insert)


ANYONE: Final = Account()
"""Of a request that was read, and whose credentials are looked at next."""


def _refuse_infile(text: bytes) -> None:
    """Refuse `FROM INFILE`, as a server does: a client reads such a file, the engine would read those of the server."""
    if b"infile" not in text.lower():
        return
    tokens = list(sql.tokens_of(text))
    for before, word, path in zip(tokens, tokens[1:], tokens[2:], strict=False):
        words = before.group().upper(), word.group().upper()
        if words == (b"FROM", b"INFILE") and path.lastgroup in ("string", "heredoc"):
            raise ServerError(UNKNOWN_TYPE_OF_QUERY, "Query has infile and was send directly to server")


def names_tables(text: bytes, database: str) -> bool:
    """Whether a statement in `database` may name a table of `system` that shows users, roles and the like."""
    return _TABLES.search(text) is not None or database == "system"


def is_of_access(text: bytes) -> bool:
    """Whether a statement is about users, roles, grants, policies, quotas or profiles."""
    found = [*sql.keywords(text, 5), "", "", "", ""]
    verb, words = found[0], found[1:]
    if words[:2] == ["OR", "REPLACE"]:
        words = words[2:]
    if words[0] in ("ROW", "SETTINGS", "MASKING") and words[1] in _ENTITIES:
        words = words[1:]
    if verb in ("CREATE", "ALTER", "DROP", "MOVE"):
        return words[0] in _ENTITIES
    if verb == "SHOW":
        if words[0] in ("CREATE", "CURRENT", "ENABLED"):
            return words[1] in _ENTITIES or (words[1] in ("ROW", "SETTINGS") and words[2] in _ENTITIES)
        return words[0] in _SHOWN
    if verb == "SET":
        return words[0] == "ROLE" or words[:2] == ["DEFAULT", "ROLE"]
    return verb in ("GRANT", "REVOKE") or (verb == "CHECK" and words[0] == "GRANT")


def as_user(text: bytes, name: str, *, is_named: bool = False) -> bytes:
    """The text with the name of the user where it asks for that: to the engine all are one.

    Args:
        text: a statement or an expression.
        name: the user's.
        is_named: whether a column that shows it keeps its name.
    """
    if b"user" not in text.lower():
        return text
    literal = sql.quote(name).encode("utf-8", "surrogateescape")
    return replace_calls(text, dict.fromkeys(_CURRENT_USER, literal), is_named=is_named)


def _array(names: Iterable[str]) -> bytes:
    literals = ", ".join(map(sql.quote, names))
    return f"[{literals}]".encode("utf-8", "surrogateescape") if literals else b"emptyArrayString()"


def replace_calls(text: bytes, literals: Mapping[bytes, bytes], *, is_named: bool) -> bytes:
    """The text with literals for calls of functions without arguments, by their names in lower case; see `as_user`."""
    tokens = list(sql.tokens_of(text))
    parts, end = [], 0
    for token, opening, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        literal = literals.get(token.group().lower())
        if literal is not None and (opening.group(), closing.group()) == (b"(", b")"):
            called = token.group() + b"()"
            parts += [text[end : token.start()], b"(%b AS `%b`)" % (literal, called) if is_named else literal]
            end = closing.end()
    return b"".join([*parts, text[end:]])
