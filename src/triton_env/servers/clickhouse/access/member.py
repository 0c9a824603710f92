"""Who executes a statement, and what it may do."""

from __future__ import annotations

from typing import Final

from triton_env.servers.clickhouse import sql
from triton_env.servers.clickhouse.errors import ACCESS_DENIED, ServerError

from .entities import Role, State, User
from .needs import EVERYTHING, FILTERED, Need
from .rights import Privileges, Scope, scope_text

_ALWAYS_SEEN: Final = ("", "system", "information_schema", "INFORMATION_SCHEMA")
"""Databases that everyone sees; that of temporary tables has no name."""


class Anyone:
    """A user of the configuration, who may do everything."""

    def __init__(self, name: str) -> None:
        self.name = name

    def need(self, flag: str, scope: Scope = (), *, with_option: bool = False) -> None:
        """Nothing is needed."""

    def need_admin(self, role: str) -> None:
        """Nothing is needed."""


class Member:
    """A user of SQL with the roles that are enabled."""

    def __init__(self, user: User, state: State, privileges: Privileges, chosen: tuple[str, ...] | None) -> None:
        """`chosen` are the roles of SET ROLE; None: the default ones."""
        self.name, self.user, self._privileges = user.name, user, privileges
        if chosen is None:
            chosen = tuple(role for role in user.roles if role in user.default_roles)
        self.current = chosen
        self.roles = state.roles_of(user, chosen)
        self.holders: list[Role] = [user, *self.roles]

    def allows(self, need: Need, *, with_option: bool = False) -> bool:
        """Whether it has a privilege."""
        if need.flag == EVERYTHING:
            flags = self._privileges.within(EVERYTHING)
            return all(self.allows(Need(flag), with_option=with_option) for flag in flags)
        return any(
            holder.rights.allow(flag, need.scope, with_option)
            for holder in self.holders
            for flag in (need.flag, *need.sufficient)
        )

    def need(self, flag: str, scope: Scope = (), *, with_option: bool = False) -> None:
        """Raise where it lacks a privilege."""
        # `CREATE USER` and the like are privileges; others of that form are groups.
        if not self.allows(Need(flag, scope), with_option=with_option):
            raise self.denied(f"{flag} ON {scope_text(scope)}{' WITH GRANT OPTION' if with_option else ''}")

    def need_admin(self, role: str) -> None:
        """Raise where it may not grant a role."""
        if not any(holder.roles.get(role) for holder in self.holders) and not self.allows(Need("ROLE ADMIN")):
            raise ServerError(
                ACCESS_DENIED,
                f"{self.name}: Not enough privileges. To execute this query, it's necessary to have the role "
                f"{role} granted with ADMIN option",
            )

    def denied(self, grant: str) -> ServerError:
        """The error for a grant that it lacks."""
        return ServerError(
            ACCESS_DENIED,
            f"{self.name}: Not enough privileges. To execute this query, it's necessary to have the grant {grant}",
        )

    def filters(self) -> dict[str, str]:
        """For tables of `system`, the condition for what this user sees."""
        places = {place for holder in self.holders for place in holder.rights.places() if place}
        if any(holder.rights.hold(()) for holder in self.holders):
            hidden = {place for place in places if not any(holder.rights.see(place) for holder in self.holders)}
            return _conditions(hidden, are_hidden=True)
        held = {place for place in places if any(holder.rights.hold(place) for holder in self.holders)}
        return _conditions(held | {(name,) for name in _ALWAYS_SEEN}, are_hidden=False)


def _conditions(places: set[Scope], *, are_hidden: bool) -> dict[str, str]:
    """For each table of `system` the condition that a row is of one of these places, or of none."""
    found = {}
    for table, (database, name) in FILTERED.items():
        # A database is seen where one of its tables is, and hidden where all of it is.
        names = {place[0] for place in places if len(place) == 1 or not (name or are_hidden)}
        pairs = sorted(place for place in places if len(place) == 2 and name)
        parts = [f"{database} IN ({', '.join(map(sql.quote, sorted(names)))})"] if names else []
        if pairs:
            listed = ", ".join(f"({sql.quote(place[0])}, {sql.quote(place[1])})" for place in pairs)
            parts.append(f"({database}, {name}) IN ({listed})")
        if parts:
            condition = " OR ".join(parts)
            found[f"system.{table}"] = f"NOT ({condition})" if are_hidden else condition
    return found
