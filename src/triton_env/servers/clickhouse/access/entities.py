"""What SQL makes: users, roles, settings profiles and row policies."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from triton_env.servers.clickhouse import sql
from triton_env.servers.clickhouse.errors import (
    ACCESS_ENTITY_ALREADY_EXISTS,
    ACCESS_STORAGE_READONLY,
    THERE_IS_NO_PROFILE,
    UNKNOWN_ROLE,
    UNKNOWN_ROW_POLICY,
    UNKNOWN_USER,
    ServerError,
)

from .login import Authentication
from .reader import plain
from .rights import Rights

STORAGE: Final = "local_directory"
"""The name of the storage for what SQL makes on a server."""
FIXED_STORAGE: Final = "users_xml"
"""The name of the storage for what the configuration has."""
_NUMBER: Final = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a user, role or profile with its limits, or a profile to take settings from.

    Attributes:
        name: of the setting or profile.
        is_profile: whether it is a profile.
        value, minimum, maximum: as text, None where the statement has none.
        writability: CONST, WRITABLE, CHANGEABLE_IN_READONLY or empty.
    """

    name: str
    is_profile: bool = False
    value: str | None = None
    minimum: str | None = None
    maximum: str | None = None
    writability: str = ""

    def text(self, word: str = "PROFILE") -> str:
        """As a statement has it."""
        if self.is_profile:
            return f"{word} {sql.identifier(self.name)}"
        parts = [self.name + ("" if self.value is None else f" = {_value(self.value)}")]
        parts += [f"MIN {_value(self.minimum)}"] if self.minimum is not None else []
        parts += [f"MAX {_value(self.maximum)}"] if self.maximum is not None else []
        return " ".join([*parts, self.writability]).strip()


def _value(text: str) -> str:
    return text if _NUMBER.fullmatch(text) else sql.quote(text)


@dataclass(frozen=True, slots=True)
class Names:
    """Some users and roles: those of a list, or all with exceptions."""

    is_all: bool = False
    names: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return (name not in self.names) if self.is_all else (name in self.names)

    def text(self) -> str:
        """As a statement has it."""
        listed = ", ".join(plain(name) for name in sorted(self.names))
        if self.is_all:
            return f"ALL EXCEPT {listed}" if listed else "ALL"
        return listed or "NONE"

    def renamed(self, old: str, new: str | None) -> Names:
        """The same after `old` was renamed to `new`, or dropped."""
        if old not in self.names:
            return self
        return Names(self.is_all, (self.names - {old}) | ({new} if new is not None else set()))


ALL: Final = Names(is_all=True)
NONE: Final = Names()


@dataclass(slots=True)
class Role:
    """A role, and what a user has as well; `roles` are those granted to it, with whether it may grant them."""

    name: str
    settings: tuple[Setting, ...] = ()
    rights: Rights = field(default_factory=Rights)
    roles: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class User(Role):
    """A user. `hosts` are pairs of kind and pattern; empty: from everywhere."""

    authentications: tuple[Authentication, ...] = (Authentication("no_password"),)
    hosts: tuple[tuple[str, str], ...] = (("ANY", ""),)
    default_roles: Names = ALL
    default_database: str = ""


@dataclass(slots=True)
class Profile:
    """A settings profile."""

    name: str
    settings: tuple[Setting, ...] = ()
    to: Names = NONE


@dataclass(slots=True)
class Policy:
    """A row policy. Its name has the table in it, which is empty for all tables of the database."""

    name: str
    short_name: str = ""
    database: str = ""
    table: str = ""
    condition: str = ""
    is_restrictive: bool = False
    to: Names = NONE


Entity = TypeVar("Entity", Role, User, Profile, Policy)


class Entities(Generic[Entity]):
    """All of one kind, by name."""

    def __init__(self, kind: str, unknown: tuple[int, str], fixed: Collection[str] = ()) -> None:
        """`fixed` are the names that the configuration has."""
        self.kind, self._unknown, self._fixed = kind, unknown, fixed
        self._by_name: dict[str, Entity] = {}

    def __iter__(self) -> Iterator[Entity]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name or name in self._fixed

    def find(self, name: str) -> Entity | None:
        """The one of that name, None where it is missing."""
        return self._by_name.get(name)

    def get(self, name: str, purpose: str = "update") -> Entity:
        """The one of that name, which is there and SQL's own."""
        if name in self._fixed:
            raise ServerError(
                ACCESS_STORAGE_READONLY,
                f"Cannot {purpose} {self._called(name)} in {FIXED_STORAGE} because this storage is readonly",
            )
        if name not in self._by_name:
            raise self.missing(name)
        return self._by_name[name]

    def missing(self, name: str) -> ServerError:
        """The error for a name that is not there."""
        return ServerError(self._unknown, f"There is no {self._called(name)} in user directories")

    def add(self, entity: Entity, *, replace: bool = False) -> None:
        """Add one, whose name must be free unless it is to be replaced."""
        if entity.name in self and (not replace or entity.name in self._fixed):
            storage = FIXED_STORAGE if entity.name in self._fixed else STORAGE
            called = self._called(entity.name)
            raise ServerError(
                ACCESS_ENTITY_ALREADY_EXISTS,
                f"{called}: cannot insert because {called} already exists in {storage}",
            )
        self._by_name[entity.name] = entity

    def remove(self, name: str) -> None:
        """Remove one that is there."""
        self.get(name, "remove")
        del self._by_name[name]

    def _called(self, name: str) -> str:
        return f"{self.kind} {sql.identifier(name)}"


class State:
    """All entities of a server."""

    def __init__(self, config_users: Collection[str]) -> None:
        """`config_users` are the users of the configuration, who are not SQL's to change."""
        self.config_users = frozenset(config_users)
        self.users: Entities[User] = Entities("user", UNKNOWN_USER, self.config_users)
        self.roles: Entities[Role] = Entities("role", UNKNOWN_ROLE)
        self.profiles: Entities[Profile] = Entities("settings profile", THERE_IS_NO_PROFILE, BUILT_IN)
        self.policies: Entities[Policy] = Entities("row policy", UNKNOWN_ROW_POLICY)

    def grantee(self, name: str) -> Role:
        """The user or role of that name."""
        if name in self.users or self.roles.find(name) is None:
            return self.users.get(name)
        return self.roles.get(name)

    def rename(self, old: str, new: str | None) -> None:
        """Bring what names a user or role to its new name; None: it was dropped."""
        holders: list[Role] = [*self.users, *self.roles]
        for holder in holders:
            if old in holder.roles:
                has_option = holder.roles.pop(old)
                if new is not None:
                    holder.roles[new] = has_option
        for user in self.users:
            user.default_roles = user.default_roles.renamed(old, new)
        for entity in [*self.profiles, *self.policies]:
            entity.to = entity.to.renamed(old, new)

    def roles_of(self, holder: Role, chosen: Collection[str] | None = None) -> list[Role]:
        """The roles that `holder` has by those in `chosen`, or by all its roles, and by the roles of these."""
        found: dict[str, Role] = {}
        waiting = [name for name in holder.roles if chosen is None or name in chosen]
        while waiting:
            role = self.roles.find(waiting.pop(0))
            if role is not None and role.name not in found:
                found[role.name] = role
                waiting += role.roles
        return list(found.values())


BUILT_IN: Final = {"default": (), "readonly": (Setting("readonly", value="1"),)}
"""The profiles of a server's configuration."""


def identity(kind: str, name: str) -> str:
    """The id of an entity."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {name}"))
