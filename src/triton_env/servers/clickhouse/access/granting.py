"""GRANT and REVOKE, and what statements have in common."""

from __future__ import annotations

from typing import Protocol

from triton_env.servers.clickhouse.errors import (
    ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND,
    BAD_ARGUMENTS,
    NOT_IMPLEMENTED,
    ServerError,
)

from .entities import ALL, NONE, STORAGE, Names, Role, State, User
from .reader import Reader
from .rights import Privileges, Rights, Scope


class Actor(Protocol):
    """Who executes a statement."""

    name: str

    def need(self, flag: str, scope: Scope = (), *, with_option: bool = False) -> None:
        """Raise where it lacks a privilege."""

    def need_admin(self, role: str) -> None:
        """Raise where it may not grant a role."""


def refused(what: str) -> ServerError:
    """The error for what this server does not do."""
    return ServerError(NOT_IMPLEMENTED, f"{what} is not supported by this server")


def check_place(reader: Reader, word: str) -> None:
    """The storage."""
    if word and reader.accept(word) and (storage := reader.name()) != STORAGE:
        raise ServerError(ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND, f"Access storage with name {storage} is not found")


def _options(reader: Reader) -> list[str]:
    found = []
    while option := reader.one_of("WITH GRANT OPTION", "WITH ADMIN OPTION", "WITH REPLACE OPTION"):
        found.append(option)
    return found


def read_names(reader: Reader, user: str) -> Names:
    """Users or roles: NONE, ALL, ALL EXCEPT some, or a list; `user` is CURRENT_USER."""
    if reader.accept("NONE"):
        return NONE
    if reader.accept("ALL EXCEPT"):
        return Names(True, frozenset(listed(reader, user)))
    return ALL if reader.accept("ALL") else Names(False, frozenset(listed(reader, user)))


def listed(reader: Reader, user: str) -> list[str]:
    """A list of users or roles; `user` is CURRENT_USER."""
    found = []
    while True:
        found.append(user if reader.accept("CURRENT_USER") else reader.user())
        if not reader.accept(","):
            return found


class Granting:
    """Changes what users and roles have of privileges and roles."""

    def __init__(self, state: State, privileges: Privileges, actor: Actor, database: str) -> None:
        """`state` is changed; `database` is the current one."""
        self._state, self._privileges, self._actor, self._database = state, privileges, actor, database

    def apply(self, reader: Reader, *, is_revoke: bool) -> None:
        """Execute what comes after GRANT or REVOKE."""
        check_place(reader, "")
        option = reader.one_of("GRANT OPTION FOR", "ADMIN OPTION FOR") if is_revoke else ""
        if reader.next == "CURRENT" and not is_revoke:
            raise refused("GRANT CURRENT GRANTS")
        elements = self._elements(reader)
        roles = [] if elements else self._listed_roles(reader)
        reader.expect("FROM" if is_revoke else "TO")
        names = read_names(reader, self._actor.name)
        grantees = self._all_grantees(names) if names.is_all else [self._state.grantee(each) for each in names.names]
        options = [] if is_revoke else _options(reader)
        with_option = "WITH GRANT OPTION" in options or "WITH ADMIN OPTION" in options
        for grantee in grantees:
            if "WITH REPLACE OPTION" in options and elements:
                for scope, is_revoked, flag, _ in grantee.rights.rows():
                    if not is_revoked:
                        self._actor.need(flag, scope, with_option=True)
                grantee.rights = Rights()
            elif "WITH REPLACE OPTION" in options:
                for role in sorted(grantee.roles):
                    self._change_role(grantee, role, is_revoke=True, option_only=role in roles, with_option=False)
            for names_of, scope in elements:
                self._change_rights(grantee, names_of, scope, is_revoke, bool(option), with_option)
            for role in roles:
                self._change_role(grantee, role, is_revoke, bool(option), with_option)

    def _all_grantees(self, names: Names) -> list[Role]:
        """All users and roles of SQL but the exceptions."""
        return [each for each in [*self._state.users, *self._state.roles] if each.name in names]

    def _listed_roles(self, reader: Reader) -> list[str]:
        if reader.accept("ALL"):
            return [role.name for role in self._state.roles]
        names = listed(reader, self._actor.name)
        for name in names:
            if name not in self._state.roles:
                raise self._state.roles.missing(name)
        return names

    def _elements(self, reader: Reader) -> list[tuple[list[str], Scope]]:
        """`a, b ON c.d, e ON *.*` as lists of privileges and where; empty where roles are listed."""
        start = reader.at
        found: list[tuple[list[str], Scope]] = []
        while True:
            names = [name for name in self._listed_privileges(reader) if name != "USAGE"]
            if not reader.accept("ON"):
                reader.at = start
                return []
            where = reader.table(self._database)
            if reader.next == "*":
                raise refused("A grant on names that begin alike")
            scope = tuple(part for part in where if part)
            found.append((names, scope))
            if not reader.accept(","):
                return found

    def _listed_privileges(self, reader: Reader) -> list[str]:
        found = []
        while True:
            words: list[str] = []
            while reader.next not in ("", ",", "(", "ON", "TO", "FROM"):
                words.append(reader.name())
            if reader.next == "(":
                raise refused("A grant on columns")
            found.append(" ".join(words))
            if not reader.accept(","):
                return found

    def _change_rights(
        self, grantee: Role, names: list[str], scope: Scope, is_revoke: bool, option_only: bool, with_option: bool
    ) -> None:
        for name in names:
            if name not in self._privileges:
                raise ServerError(BAD_ARGUMENTS, f"Unknown privilege {name}")
            flags = self._privileges.within(name, scope)
            if not flags and len(scope) == 1:  # `ON *`, as what is not granted on databases has it
                scope, flags = (), self._privileges.within(name)
            if not flags:
                raise refused(f"GRANT {name} on something with a name")
            for flag in sorted(flags):
                self._actor.need(flag, scope, with_option=True)
            if is_revoke:
                grantee.rights.revoke(flags, scope, option_only)
            else:
                grantee.rights.grant(flags, scope, with_option)

    def _change_role(self, grantee: Role, role: str, is_revoke: bool, option_only: bool, with_option: bool) -> None:
        self._actor.need_admin(role)
        if not is_revoke:
            grantee.roles[role] = with_option or grantee.roles.get(role, False)
        elif option_only:
            if role in grantee.roles:
                grantee.roles[role] = False
        else:
            grantee.roles.pop(role, None)
            if isinstance(grantee, User) and not grantee.default_roles.is_all:
                grantee.default_roles = grantee.default_roles.renamed(role, None)
