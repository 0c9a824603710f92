"""Privileges, and which of them a user or role has on what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from triton_env.servers.clickhouse.access.reader import plain
from triton_env.servers.clickhouse.errors import BAD_ARGUMENTS, ServerError

Scope = tuple[str, ...]
"""Where: everywhere (empty), a database, or a database and a table."""

_OF_DATABASE: Final = frozenset({"DATABASE", "TABLE", "VIEW", "DICTIONARY", "COLUMN"})
_LEVELS: Final = (None, _OF_DATABASE, _OF_DATABASE - {"DATABASE"})
"""What can be granted everywhere (all), on a database, on a table."""
_IMPLIED: Final = {
    "CREATE VIEW": "CREATE TABLE",
    "DROP VIEW": "DROP TABLE",
    "ALTER VIEW MODIFY QUERY": "ALTER ADD COLUMN",
}
"""What comes with another privilege, see https://clickhouse.com/docs/sql-reference/statements/grant."""
_WITH_ANY: Final = frozenset({"SHOW DATABASES", "SHOW TABLES", "SHOW COLUMNS", "SHOW DICTIONARIES"})
"""What comes with any privilege there."""


def scope_text(scope: Scope) -> str:
    """`scope` as GRANT has it."""
    parts = [plain(part) for part in scope]
    return ".".join(parts + ["*"] * (2 - len(parts)))


class Privileges:
    """The tree of all privileges."""

    def __init__(self, rows: Iterable[tuple[str, str | None, str | None]]) -> None:
        """`rows` are name, group and level of each, as `system.privileges` has them."""
        self._level: dict[str, str | None] = {}
        self._children: dict[str, list[str]] = {}
        self._sources: list[str] = []
        for name, parent, level in rows:
            self._level[name] = level
            if (parent, level) == ("ALL", "GLOBAL") and " " not in name:
                self._sources.append(name)
            self._children.setdefault(parent or "", []).append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._level

    def source_of(self, function: str) -> str:
        """The privilege for a table function that reads from elsewhere, such as FILE; empty for others."""
        return next((name for name in self._sources if function.upper().startswith(name)), "")

    def within(self, name: str, scope: Scope = ()) -> set[str]:
        """The privileges of a group, or the one of that name, as far as they can be granted on `scope`."""
        if name not in self._level:
            raise ServerError(BAD_ARGUMENTS, f"Unknown privilege {name}")
        allowed = _LEVELS[len(scope)]
        return {each for each in self._flags(name) if allowed is None or self._level[each] in allowed}

    def _flags(self, name: str) -> Iterator[str]:
        if self._level[name] is not None:
            yield name
        for child in self._children.get(name, ()):
            yield from self._flags(child)

    def folded(self, flags: Collection[str], name: str = "ALL") -> Iterator[str]:
        """The shortest list of names for `flags`."""
        every = set(self._flags(name))
        if every and every <= set(flags):
            yield name
            return
        if self._level[name] is not None and name in flags:
            yield name
        for child in self._children.get(name, ()):
            yield from self.folded(flags, child)


Marks = dict[Scope, bool]


def _mark(marks: Marks, scope: Scope) -> bool:
    """What holds on `scope`: the nearest mark."""
    return next((marks[scope[:count]] for count in range(len(scope), -1, -1) if scope[:count] in marks), False)


def _set(marks: Marks, scope: Scope, value: bool) -> None:
    for each in [each for each in marks if each[: len(scope)] == scope]:
        del marks[each]
    if _mark(marks, scope) != value:
        marks[scope] = value


@dataclass(slots=True)
class Rights:
    """What was granted, and taken back in part: by privilege the places where it begins and ends to hold."""

    _granted: dict[str, Marks] = field(default_factory=dict)
    _options: dict[str, Marks] = field(default_factory=dict)

    def grant(self, flags: Iterable[str], scope: Scope, with_option: bool) -> None:
        """Grant privileges on `scope`."""
        for flag in flags:
            _set(self._granted.setdefault(flag, {}), scope, True)
            if with_option:
                _set(self._options.setdefault(flag, {}), scope, True)

    def revoke(self, flags: Iterable[str], scope: Scope, option_only: bool = False) -> None:
        """Take privileges back on `scope`, or just the option to grant them."""
        for flag in flags:
            _set(self._options.setdefault(flag, {}), scope, False)
            if not option_only:
                _set(self._granted.setdefault(flag, {}), scope, False)

    def allow(self, flag: str, scope: Scope, with_option: bool = False) -> bool:
        """Whether a privilege holds on all of `scope`."""
        marks = (self._options if with_option else self._granted).get(flag, {})
        below = (value for each, value in marks.items() if len(each) > len(scope) and each[: len(scope)] == scope)
        if _mark(marks, scope) and all(below):
            return True
        if with_option:
            return False
        if flag in _WITH_ANY:
            return self.see(scope)
        if flag == "CREATE TEMPORARY TABLE":
            return any(self._granted.get("CREATE TABLE", {}).values())
        return flag in _IMPLIED and self.allow(_IMPLIED[flag], scope)

    def hold(self, scope: Scope) -> bool:
        """Whether any privilege holds on `scope`, but for parts of it."""
        return any(_mark(marks, scope) for flag, marks in self._granted.items() if flag in _SHOWN)

    def see(self, scope: Scope) -> bool:
        """Whether any privilege holds on `scope` or on something within it."""
        return self.hold(scope) or any(place[: len(scope)] == scope and self.hold(place) for place in self.places())

    def places(self) -> set[Scope]:
        """Where privileges for databases and tables begin or end to hold."""
        return {scope for flag, marks in self._granted.items() if flag in _SHOWN for scope in marks}

    def rows(self) -> list[tuple[Scope, int, str, bool]]:
        """Each mark: where, 0 for a grant or 1 for what takes it back, which privilege, whether it may be granted."""
        found = []
        for flag, marks in self._granted.items():
            options = self._options.get(flag, {})
            found += [(scope, int(not value), flag, value and _mark(options, scope)) for scope, value in marks.items()]
            found += [(scope, int(not value), flag, True) for scope, value in options.items() if scope not in marks]
        return sorted(found)

    def statements(self, privileges: Privileges, grantee: str) -> Iterator[str]:
        """The statements that grant all of this to `grantee`, whose name is quoted already."""
        groups: dict[tuple[Scope, int, bool], list[str]] = {}
        for scope, is_revoked, flag, with_option in self.rows():
            groups.setdefault((scope, is_revoked, with_option), []).append(flag)
        for (scope, is_revoked, with_option), flags in sorted(groups.items()):
            where = f"{', '.join(privileges.folded(flags))} ON {scope_text(scope)}"
            if is_revoked:
                yield f"REVOKE {'GRANT OPTION FOR ' if with_option else ''}{where} FROM {grantee}"
            else:
                yield f"GRANT {where} TO {grantee}{' WITH GRANT OPTION' if with_option else ''}"


_SHOWN: Final = frozenset(
    {
        "SHOW DATABASES", "SHOW TABLES", "SHOW COLUMNS", "SHOW DICTIONARIES", "SELECT", "INSERT", "ALTER UPDATE",
        "ALTER DELETE", "ALTER ADD COLUMN", "ALTER MODIFY COLUMN", "ALTER DROP COLUMN", "CREATE DATABASE",
        "CREATE TABLE", "CREATE VIEW", "CREATE DICTIONARY", "DROP DATABASE", "DROP TABLE", "DROP VIEW",
        "DROP DICTIONARY", "TRUNCATE", "OPTIMIZE", "dictGet",
    }
)  # fmt: skip
"""With which a database or table is seen."""
