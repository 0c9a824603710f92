"""Users, roles and the like as statements, and as the tables of `system`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triton_env.servers.clickhouse import sql

from .entities import (
    ALL,
    BUILT_IN,
    FIXED_STORAGE,
    NONE,
    STORAGE,
    Names,
    Policy,
    Profile,
    Role,
    Setting,
    State,
    User,
    identity,
)
from .login import Authentication
from .reader import plain
from .rights import Privileges


def creation(entity: User | Role | Profile | Policy, *, with_secrets: bool = False) -> str:
    """The statement that makes an entity, with the hashes of passwords if they are wanted."""
    if isinstance(entity, Policy):
        return _policy(entity)
    if isinstance(entity, Profile):
        to = "" if entity.to == NONE else f" TO {entity.to.text()}"
        return f"CREATE SETTINGS PROFILE {sql.identifier(entity.name)}{_settings(entity.settings, 'INHERIT')}{to}"
    if not isinstance(entity, User):
        return f"CREATE ROLE {plain(entity.name)}{_settings(entity.settings)}"
    methods = ", ".join(_authentication(each, with_secrets) for each in entity.authentications)
    parts = [f"CREATE USER {plain(entity.name)} IDENTIFIED WITH {methods}"]
    if entity.hosts != (("ANY", ""),):
        hosts = (f"{kind} {sql.quote(pattern)}" if pattern else kind for kind, pattern in entity.hosts)
        parts.append(f"HOST {', '.join(hosts) or 'NONE'}")
    if entity.default_database:
        parts.append(f"DEFAULT DATABASE {plain(entity.default_database)}")
    if entity.default_roles != ALL:
        parts.append(f"DEFAULT ROLE {entity.default_roles.text()}")
    return " ".join(parts) + _settings(entity.settings)


def _authentication(method: Authentication, with_secrets: bool) -> str:
    kind = method.kind if with_secrets else method.shown_kind
    text = f"{kind} BY {sql.quote(method.value)}" if with_secrets and method.value else kind
    text += f" SALT {sql.quote(method.salt)}" if with_secrets and method.salt else ""
    return text + (f" VALID UNTIL {sql.quote(method.valid_until)}" if method.valid_until else "")


def _settings(settings: tuple[Setting, ...], word: str = "PROFILE") -> str:
    return f" SETTINGS {', '.join(each.text(word) for each in settings)}" if settings else ""


def _policy(policy: Policy) -> str:
    kind = " AS RESTRICTIVE" if policy.is_restrictive else " AS PERMISSIVE"
    using = f" USING {policy.condition}" if policy.condition else ""
    to = "" if policy.to == NONE else f" TO {policy.to.text()}"
    return f"CREATE ROW POLICY {policy.name}{kind} FOR SELECT{using}{to}"


def grants(holder: Role, privileges: Privileges) -> Iterator[str]:
    """The statements that grant what a user or role has."""
    name = plain(holder.name)
    yield from holder.rights.statements(privileges, name)
    for has_option in (False, True):
        if roles := sorted(plain(role) for role, with_option in holder.roles.items() if with_option == has_option):
            yield f"GRANT {', '.join(roles)} TO {name}{' WITH ADMIN OPTION' if has_option else ''}"


def dump(state: State, privileges: Privileges) -> list[str]:
    """The statements that make all of a state, in an order in which they can be executed."""
    profiles = _in_order(state)
    # A profile names users, and they name profiles.
    bare = [creation(Profile(each.name, each.settings)) for each in profiles]
    lines = bare + [creation(role) for role in state.roles]
    lines += [creation(user, with_secrets=True) for user in state.users]
    for holder in [*state.roles, *state.users]:
        lines += grants(holder, privileges)
    lines += [
        f"ALTER SETTINGS PROFILE {sql.identifier(each.name)} TO {each.to.text()}"
        for each in profiles
        if each.to != NONE
    ]
    return lines + [creation(policy) for policy in state.policies]


def _in_order(state: State) -> list[Profile]:
    """The profiles, each after those that it inherits from."""
    found: list[Profile] = []

    def add(profile: Profile | None, above: tuple[str, ...] = ()) -> None:
        if profile is not None and profile not in found and profile.name not in above:
            for each in profile.settings:
                if each.is_profile:
                    add(state.profiles.find(each.name), (*above, profile.name))
            found.append(profile)

    for profile in state.profiles:
        add(profile)
    return found


def tables(state: State) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the tables of `system` that show these entities."""
    holders: list[Role] = [*state.users, *state.roles]
    return {
        "users": [_fixed_user(name) for name in sorted(state.config_users)] + [_user(user) for user in state.users],
        "roles": [(role.name, identity("role", role.name), STORAGE) for role in state.roles],
        "role_grants": [
            (*_whose(holder), role, identity("role", role), int(_is_default(holder, role)), int(with_option))
            for holder in holders
            for role, with_option in holder.roles.items()
        ],
        "grants": [
            (*_whose(holder), flag, "", *(*scope, None, None)[:2], None, is_revoked, int(with_option), 0)
            for holder in holders
            for scope, is_revoked, flag, with_option in holder.rights.rows()
        ],
        "settings_profiles": [
            (name, identity("profile", name), FIXED_STORAGE, len(settings), 0, [], [])
            for name, settings in BUILT_IN.items()
        ]
        + [
            (each.name, identity("profile", each.name), STORAGE, len(each.settings), *_applies(each.to))
            for each in state.profiles
        ],
        "settings_profile_elements": _elements(state),
        "row_policies": [
            (
                each.name, each.short_name, each.database, each.table, identity("policy", each.name), STORAGE,
                each.condition or None, int(each.is_restrictive), *_applies(each.to),
            )
            for each in state.policies
        ],
        "quotas": [],
    }  # fmt: skip


def _whose(holder: Role | Profile) -> tuple[str | None, str | None]:
    return (holder.name, None) if isinstance(holder, User) else (None, holder.name)


def _is_default(holder: Role, role: str) -> bool:
    return role in holder.default_roles if isinstance(holder, User) else True


def _applies(names: Names) -> tuple[int, list[str], list[str]]:
    listed = sorted(names.names)
    return (1, [], listed) if names.is_all else (0, listed, [])


def _elements(state: State) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    holders: list[Role | Profile] = [*state.profiles, *state.users, *state.roles]
    for holder in holders:
        whose = (holder.name, None, None) if isinstance(holder, Profile) else (None, *_whose(holder))
        for index, each in enumerate(holder.settings):
            own = (None,) * 5 if each.is_profile else (
                each.name, each.value, each.minimum, each.maximum, each.writability or None
            )  # fmt: skip
            rows.append((*whose, index, *own, each.name if each.is_profile else None))
    return rows


def _fixed_user(name: str) -> tuple[Any, ...]:
    return (
        name, identity("user", name), FIXED_STORAGE, ["plaintext_password"], ["{}"], [], [], ["::/0"], [], [], [],
        1, [], [], 1, [], [], "",
    )  # fmt: skip


def _user(user: User) -> tuple[Any, ...]:
    networks = [pattern for kind, pattern in user.hosts if kind == "IP"]
    networks += ["::/0"] if ("ANY", "") in user.hosts else []
    return (
        user.name, identity("user", user.name), STORAGE, [each.shown_kind for each in user.authentications],
        ["{}"] * len(user.authentications), [], [], networks,
        ["localhost"] if ("LOCAL", "") in user.hosts else [], [],
        [pattern for kind, pattern in user.hosts if kind == "LIKE"], *_applies(user.default_roles), 1, [], [],
        user.default_database,
    )  # fmt: skip
