"""Answers to SHOW and CHECK GRANT, as queries that the engine formats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from triton_env.servers.clickhouse import sql

from . import showing
from .entities import BUILT_IN, State
from .granting import refused
from .member import Anyone, Member
from .needs import Need
from .reader import Reader
from .rights import Privileges


class Answers:
    """What one user is shown."""

    def __init__(self, state: State, privileges: Privileges, actor: Anyone | Member) -> None:
        self._state, self._privileges, self._actor = state, privileges, actor

    def show(self, reader: Reader, database: str) -> bytes:
        """The query that answers what comes after SHOW; `database` is the current one."""
        state = self._state
        if reader.accept("GRANTS"):
            return self._show_grants(reader)
        if reader.accept("CREATE"):
            return self._show_creation(reader)
        if reader.accept("ACCESS"):
            self._actor.need("SHOW USERS")
            entities = [*state.users, *state.roles, *state.policies, *state.profiles]
            lines = [showing.creation(each) for each in entities]
            lines += [
                line for holder in [*state.users, *state.roles] for line in showing.grants(holder, self._privileges)
            ]
            return select("`ACCESS` String", [(line,) for line in lines])
        if kind := reader.one_of(
            "CURRENT ROLES", "ENABLED ROLES", "ROLES", "USERS", "SETTINGS PROFILES", "ROW POLICIES"
        ):
            table = reader.table(database) if kind == "ROW POLICIES" and reader.accept("ON") else None
            return self._show_names(kind, table)
        raise refused(f"SHOW {reader.text_before()}")

    def _show_names(self, kind: str, table: tuple[str, str] | None) -> bytes:
        state = self._state
        if kind.endswith(" ROLES"):
            roles = [] if isinstance(self._actor, Anyone) else self._actor.roles
            own = {} if isinstance(self._actor, Anyone) else self._actor.user.roles
            if kind == "CURRENT ROLES":
                rows = [(role.name, int(own[role.name]), 1) for role in roles if role.name in own]
                return select("role_name String, with_admin_option UInt8, is_default UInt8", rows)
            enabled = [(role.name, int(own.get(role.name, False)), int(role.name in own), 1) for role in roles]
            structure = "role_name String, with_admin_option UInt8, is_current UInt8, is_default UInt8"
            return select(structure, enabled)
        if kind == "USERS":
            self._actor.need("SHOW USERS")
            names = sorted({*state.config_users, *(user.name for user in state.users)})
        elif kind == "ROLES":
            self._actor.need("SHOW ROLES")
            names = sorted(role.name for role in state.roles)
        elif kind == "ROW POLICIES":
            self._actor.need("SHOW ROW POLICIES")
            names = sorted(
                policy.short_name if table else policy.name
                for policy in state.policies
                if table in (None, (policy.database, policy.table))
            )
        else:
            self._actor.need("SHOW SETTINGS PROFILES")
            names = sorted({*BUILT_IN, *(profile.name for profile in state.profiles)})
        return select("name String", [(name,) for name in names])

    def _show_grants(self, reader: Reader) -> bytes:
        names = reader.names() if reader.accept("FOR") else [self._actor.name]
        reader.accept("FINAL")
        lines: list[str] = []
        for name in names:
            if name != self._actor.name:
                self._actor.need("SHOW USERS")
            if name in self._state.config_users:
                lines.append(f"GRANT ALL ON *.* TO {name} WITH GRANT OPTION")
            else:
                lines += showing.grants(self._state.grantee(name), self._privileges)
        title = "GRANTS" if not names or len(names) > 1 or names == [self._actor.name] else f"GRANTS FOR {names[0]}"
        return select(f"{sql.identifier(title)} String", [(line,) for line in lines])

    def _show_creation(self, reader: Reader) -> bytes:
        kinds: dict[str, tuple[str, Any]] = {
            "USERS": ("USER", self._state.users), "ROLES": ("ROLE", self._state.roles),
            "SETTINGS PROFILES": ("SETTINGS PROFILE", self._state.profiles),
            "ROW POLICIES": ("ROW POLICY", self._state.policies),
        }  # fmt: skip
        for many, (one, entities) in kinds.items():
            found = reader.one_of(many, one)
            if not found:
                continue
            if found == many:
                chosen = list(entities)
            else:
                names = [reader.text_before("FORMAT", "SETTINGS", "INTO")] if one == "ROW POLICY" else []
                if not names:
                    names = [self._actor.name] if reader.next in ("", "FORMAT") else reader.names()
                chosen = [entities.get(name, "show") for name in names]
            if [each.name for each in chosen] != [self._actor.name]:
                self._actor.need(f"SHOW {many}")
            title = f"CREATE {one}" + (f" {chosen[0].name}" if found == one and len(chosen) == 1 else "")
            return select(f"{sql.identifier(title)} String", [(showing.creation(each),) for each in chosen])
        raise refused(f"SHOW CREATE {reader.text_before()}")

    def check_grant(self, reader: Reader, database: str) -> bytes:
        """The query that answers CHECK GRANT."""
        words = []
        while reader.next not in ("ON", ""):
            words.append(reader.name())
        reader.expect("ON")
        scope = tuple(part for part in reader.table(database) if part)
        flags = self._privileges.within(" ".join(words), scope) or self._privileges.within(" ".join(words))
        allowed = isinstance(self._actor, Anyone) or all(self._actor.allows(Need(flag, scope)) for flag in flags)
        return f"SELECT toUInt8({int(allowed)}) AS result".encode()


def select(structure: str, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """A query that gives `rows`."""
    listed = ", ".join("(" + ", ".join(map(_literal, row)) + ")" for row in rows)
    quoted = sql.quote(structure)
    query = f"SELECT * FROM values({quoted}, {listed})" if listed else f"SELECT * FROM null({quoted})"  # noqa: S608
    return query.encode("utf-8", "surrogateescape")


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return sql.quote(value) if isinstance(value, str) else str(value)
