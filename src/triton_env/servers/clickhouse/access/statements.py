"""Statements that change users, roles, grants, profiles and policies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from triton_env.servers.clickhouse.errors import (
    SET_NON_GRANTED_ROLE,
    ServerError,
)

from .entities import Names, Policy, Profile, Role, Setting, State, User
from .granting import Actor, Granting, check_place, listed, read_names, refused
from .login import Authentication
from .reader import Reader, plain
from .rights import Privileges

_WRITABILITIES: Final = ("CONST", "WRITABLE", "CHANGEABLE_IN_READONLY")
_HOSTS_WITH_PATTERN: Final = ("IP", "LIKE", "NAME", "REGEXP")
_KINDS: Final = ("USER", "ROLE", "SETTINGS PROFILE", "ROW POLICY")


class Changes:
    """One statement's changes to a copy of a state."""

    def __init__(
        self,
        state: State,
        privileges: Privileges,
        actor: Actor,
        database: str = "",
        check_settings: Callable[[Iterable[str]], None] = lambda names: None,
    ) -> None:
        """`database` is the current one. `check_settings` raises for names that are not settings."""
        self.state = copy.deepcopy(state)
        self._privileges, self._actor, self._database = privileges, actor, database
        self._check_settings = check_settings

    def apply(self, text: bytes, parameters: Mapping[str, str] | None = None) -> None:
        """Execute a statement, as `formatQuerySingleLine` writes it.

        Raises:
            ServerError: it fails, or is not supported.
        """
        reader = Reader(text, parameters)
        verb = reader.one_of("CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "SET DEFAULT ROLE", "MOVE")
        if verb in ("GRANT", "REVOKE"):
            granting = Granting(self.state, self._privileges, self._actor, self._database)
            granting.apply(reader, is_revoke=verb == "REVOKE")
        elif verb == "SET DEFAULT ROLE":
            self._set_default_roles(reader)
        elif verb and verb != "MOVE" and (kind := reader.one_of(*_KINDS)):
            self._change(reader, verb, kind)
        else:
            raise refused(text.decode("utf-8", "replace").partition(" TO ")[0])
        reader.end()

    def _change(self, reader: Reader, verb: str, kind: str) -> None:
        condition = reader.one_of("IF NOT EXISTS", "IF EXISTS", "OR REPLACE")
        self._actor.need(f"{verb} {kind}")
        read: dict[str, Callable[[Reader, str, str], None]] = {
            "USER": self._user, "ROLE": self._role, "SETTINGS PROFILE": self._profile, "ROW POLICY": self._policy,
        }  # fmt: skip
        if verb == "DROP":
            self._drop(reader, kind, condition)
        else:
            read[kind](reader, verb, condition)

    def _drop(self, reader: Reader, kind: str, condition: str) -> None:
        names = self._policy_names(reader) if kind == "ROW POLICY" else reader.names()
        check_place(reader, "FROM")
        entities = self._entities(kind)
        for name in names:
            if condition == "IF EXISTS" and name not in entities:
                continue
            entities.remove(name)
            if kind in ("USER", "ROLE"):
                self.state.rename(name, None)

    def _entities(self, kind: str) -> Any:
        state = self.state
        return {"USER": state.users, "ROLE": state.roles, "SETTINGS PROFILE": state.profiles}.get(kind, state.policies)

    def _user(self, reader: Reader, verb: str, condition: str) -> None:
        names = reader.names()
        users = self._made_or_found(self.state.users, User, verb, condition, names)
        check_place(reader, "IN")
        while reader.next:
            self._user_clause(reader, users, verb)
        if verb == "CREATE":
            for user in users:
                for role in () if user.default_roles.is_all else sorted(user.default_roles.names):
                    self._actor.need_admin(role)
                    user.roles.setdefault(role, False)
                self.state.users.add(user, replace=condition == "OR REPLACE")

    def _made_or_found(self, entities: Any, kind: Any, verb: str, condition: str, names: list[str]) -> Any:
        if verb == "CREATE":
            if kind is User and any(name in self.state.roles for name in names):
                raise refused("A user with the name of a role")
            return [kind(name) for name in names if condition != "IF NOT EXISTS" or name not in entities]
        return [entities.get(name) for name in names if condition != "IF EXISTS" or name in entities]

    def _user_clause(self, reader: Reader, users: list[User], verb: str) -> None:
        if reader.accept("RENAME TO"):
            self._rename(reader.user(), users, self.state.users)
        elif reader.accept("RESET AUTHENTICATION METHODS TO NEW"):
            for user in users:
                user.authentications = user.authentications[-1:]
        elif found := reader.one_of("ADD IDENTIFIED", "IDENTIFIED"):
            methods = _authentications(reader)
            for user in users:
                user.authentications = (user.authentications if found != "IDENTIFIED" else ()) + methods
        elif reader.accept("VALID UNTIL"):
            until = reader.literal()
            for user in users:
                user.authentications = tuple(replace(each, valid_until=until) for each in user.authentications)
        elif found := reader.one_of("ADD HOST", "DROP HOST", "HOST"):
            hosts = _hosts(reader)
            for user in users:
                if found == "DROP HOST":
                    user.hosts = tuple(host for host in user.hosts if host not in hosts)
                else:
                    kept = user.hosts if found == "ADD HOST" and user.hosts != (("NONE", ""),) else ()
                    user.hosts = kept + hosts
        elif reader.accept("DEFAULT ROLE"):
            roles = self._roles(reader)
            for user in users:
                self._set_default(user, roles, is_new=verb == "CREATE")
        elif reader.accept("DEFAULT DATABASE"):
            database = "" if reader.accept("NONE") else reader.name()
            for user in users:
                user.default_database = database
        elif reader.accept("GRANTEES ANY"):
            pass
        elif reader.next == "GRANTEES":
            raise refused("GRANTEES")
        else:
            self._change_settings(reader, users)

    def _set_default(self, user: User, roles: Names, *, is_new: bool = False) -> None:
        for role in sorted(roles.names):
            if not is_new and not roles.is_all and role not in user.roles:
                raise ServerError(SET_NON_GRANTED_ROLE, f"Role {plain(role)} should be granted to set default")
        user.default_roles = roles

    def _role(self, reader: Reader, verb: str, condition: str) -> None:
        names = reader.names()
        roles = self._made_or_found(self.state.roles, Role, verb, condition, names)
        if verb == "CREATE" and any(role.name in self.state.users for role in roles):
            raise refused("A role with the name of a user")
        check_place(reader, "IN")
        if reader.accept("RENAME TO"):
            self._rename(reader.name(), roles, self.state.roles)
        self._change_settings(reader, roles)
        for role in roles if verb == "CREATE" else ():
            self.state.roles.add(role, replace=condition == "OR REPLACE")

    def _profile(self, reader: Reader, verb: str, condition: str) -> None:
        names = reader.names()
        profiles = self._made_or_found(self.state.profiles, Profile, verb, condition, names)
        check_place(reader, "IN")
        if reader.accept("RENAME TO"):
            self._rename(reader.name(), profiles, self.state.profiles)
        while reader.next and reader.next != "TO":
            self._change_settings(reader, profiles)
        if reader.accept("TO"):
            to = self._grantees(reader)
            for profile in profiles:
                profile.to = to
        for profile in profiles if verb == "CREATE" else ():
            self.state.profiles.add(profile, replace=condition == "OR REPLACE")

    def _policy_names(self, reader: Reader) -> list[str]:
        """Names with their tables: `a, b ON c.d` or `a ON b.c, d ON e.f`."""
        found: list[str] = []
        while True:
            short = reader.names()
            reader.expect("ON")
            while True:
                where = ".".join(plain(part) if part else "*" for part in reader.table(self._database))
                found += [f"{plain(name)} ON {where}" for name in short]
                if not reader.accept(","):
                    return found
                start = reader.at
                reader.table("")
                is_name = reader.next == "ON"
                reader.at = start
                if is_name:
                    break

    def _policy(self, reader: Reader, verb: str, condition: str) -> None:
        names = self._policy_names(reader)
        policies = self._made_or_found(self.state.policies, Policy, verb, condition, names)
        for policy in policies if verb == "CREATE" else ():
            own = Reader(policy.name.encode("utf-8", "surrogateescape"))
            policy.short_name = own.name()
            own.expect("ON")
            policy.database, policy.table = own.table("")
        check_place(reader, "IN")
        changes: dict[str, object] = {}
        new_name = ""
        while reader.next:
            if reader.accept("RENAME TO"):
                new_name = reader.name()
            elif kind := reader.one_of("AS RESTRICTIVE", "AS PERMISSIVE"):
                changes["is_restrictive"] = kind == "AS RESTRICTIVE"
            elif reader.accept("FOR SELECT USING") or reader.accept("USING"):
                condition_text = reader.text_before("TO", "AS")
                changes["condition"] = "" if condition_text.upper() == "NONE" else condition_text
            elif reader.accept("TO"):
                changes["to"] = self._grantees(reader)
            else:
                raise refused(f"{verb} ROW POLICY … {reader.next}")
        for policy in policies:
            for name, value in changes.items():
                setattr(policy, name, value)
            if verb == "CREATE":
                self.state.policies.add(policy, replace=condition == "OR REPLACE")
            elif new_name:
                self.state.policies.remove(policy.name)
                policy.short_name, policy.name = new_name, f"{plain(new_name)} ON {policy.name.partition(' ON ')[2]}"
                self.state.policies.add(policy)

    def _rename(self, name: str, found: list[Any], entities: Any) -> None:
        for entity in found:
            old = entity.name
            entities.remove(old)
            entity.name = name
            entities.add(entity)
            self.state.rename(old, name)

    def _change_settings(self, reader: Reader, holders: Iterable[User | Role | Profile]) -> None:
        """The SETTINGS clause, or the list of changes that ALTER has."""
        if reader.accept("SETTINGS"):
            settings = () if reader.accept("NONE") else self._settings(reader)
            for holder in holders:
                holder.settings = settings
            return
        while change := reader.one_of(
            "DROP ALL SETTINGS", "DROP ALL PROFILES", "DROP SETTING", "DROP PROFILE", "ADD PROFILE", "ADD SETTING",
            "MODIFY SETTING",
        ):  # fmt: skip
            is_profile = "PROFILE" in change
            if change.startswith("DROP ALL"):
                for holder in holders:
                    holder.settings = tuple(each for each in holder.settings if each.is_profile != is_profile)
            elif change.startswith("DROP"):
                gone = reader.names()
                for holder in holders:
                    holder.settings = tuple(
                        each for each in holder.settings if each.is_profile != is_profile or each.name not in gone
                    )
            else:
                self._add_setting(reader, change, holders)
            reader.accept(",")

    def _add_setting(self, reader: Reader, change: str, holders: Iterable[User | Role | Profile]) -> None:
        added = self._setting(reader, is_profile=change == "ADD PROFILE")
        for holder in holders:
            mine = next((each for each in holder.settings if each.name == added.name), None)
            if change == "MODIFY SETTING" and mine is not None:
                new = replace(
                    mine,
                    value=mine.value if added.value is None else added.value,
                    minimum=mine.minimum if added.minimum is None else added.minimum,
                    maximum=mine.maximum if added.maximum is None else added.maximum,
                    writability=added.writability or mine.writability,
                )
            else:
                new = added
            holder.settings = (*(each for each in holder.settings if each is not mine), new)

    def _settings(self, reader: Reader) -> tuple[Setting, ...]:
        found = []
        while True:
            found.append(self._setting(reader, is_profile=bool(reader.one_of("PROFILE", "INHERIT"))))
            if not reader.accept(","):
                return tuple(found)

    def _setting(self, reader: Reader, *, is_profile: bool) -> Setting:
        name = reader.name()
        if is_profile:
            if name not in self.state.profiles:
                raise self.state.profiles.missing(name)
            return Setting(name, is_profile=True)
        self._check_settings([name])
        value = reader.literal() if reader.accept("=") else None
        limits: dict[str, str] = {}
        while word := reader.one_of("MIN", "MAX"):
            reader.accept("=")
            limits[word] = reader.literal()
        return Setting(
            name, False, value, limits.get("MIN"), limits.get("MAX"), reader.one_of(*_WRITABILITIES)
        )  # fmt: skip

    def _grantees(self, reader: Reader) -> Names:
        found = read_names(reader, self._actor.name)
        for name in found.names:
            if name not in self.state.users and name not in self.state.roles:
                raise self.state.users.missing(name)
        return found

    def _roles(self, reader: Reader) -> Names:
        found = read_names(reader, self._actor.name)
        for name in found.names:
            if name not in self.state.roles:
                raise self.state.roles.missing(name)
        return found

    def _set_default_roles(self, reader: Reader) -> None:
        roles = self._roles(reader)
        reader.expect("TO")
        self._actor.need("ALTER USER")
        for name in listed(reader, self._actor.name):
            self._set_default(self.state.users.get(name), roles)


def _authentications(reader: Reader) -> tuple[Authentication, ...]:
    """What comes after IDENTIFIED: `[WITH kind] [BY 'x' [SALT 'y']] [VALID UNTIL 'z'], ...`."""
    found = []
    reader.accept("WITH")
    while True:
        kind = "sha256_password" if reader.next == "BY" else reader.name().lower()
        value = salt = until = ""
        if reader.accept("BY"):
            if reader.next == "KEY":
                raise refused(f"IDENTIFIED WITH {kind}")
            value = reader.name()
        if reader.accept("SALT"):
            salt = reader.name()
        if reader.accept("VALID UNTIL"):
            until = reader.literal()
        found.append(Authentication.of(kind, value, salt, until))
        if not reader.accept(","):
            return tuple(found)


def _hosts(reader: Reader) -> tuple[tuple[str, str], ...]:
    found = []
    while True:
        kind = reader.one_of("ANY", "NONE", "LOCAL", *_HOSTS_WITH_PATTERN)
        if kind in ("NAME", "REGEXP"):
            raise refused(f"HOST {kind}")
        found.append((kind, reader.name() if kind in _HOSTS_WITH_PATTERN else ""))
        if not reader.accept(","):
            return tuple(found)
