"""The form of what a backup says of a PostgreSQL server. What does not fit is refused before anything is touched."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from triton_env.services.postgres.catalog import list_elements

_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1 << 20)]
_Name = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=63)]
_OrNone = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=63)]
_Verifier = Annotated[
    str, Field(pattern=r"^(SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+|md5[0-9a-f]{32})$")
]
_Setting = Annotated[str, Field(pattern=r"^[^=\x00]+=[^\x00]*$", max_length=1 << 20)]
_Limit = Annotated[int, Field(ge=-2, lt=1 << 31)]

_RUNS_CODE = re.compile(
    r"(session|local|shared)_preload_libraries|dynamic_library_path|extension_control_path|jit_provider"
    r"|allow_system_table_mods|plperlu?\..*|pltclu?\..*|plpython\w*\..*",
    re.IGNORECASE,
)
_REACHES_THE_MACHINE = frozenset({"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"})
"""Roles of PostgreSQL whose members may run programs or use files as the server's user."""
_CREATEROLE_IS_BOUNDED = 160000
"""Until then, roles that may create roles could make themselves members of the above."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Role(_Data):
    """A role; see `pg_roles`."""

    name: _Name
    superuser: bool
    inherit: bool
    createrole: bool
    createdb: bool
    login: bool
    replication: bool
    bypassrls: bool
    connection_limit: _Limit
    verifier: _Verifier | None
    valid_until: _Text | None
    comment: _Text | None


class Membership(_Data):
    """That one role is a member of another."""

    role: _Name
    member: _Name
    admin: bool
    inherit: bool | None
    set: bool | None


class Settings(_Data):
    """Settings of a role, of a database, or of both together."""

    role: _OrNone
    database: _OrNone
    settings: tuple[_Setting, ...]


class Privilege(_Data):
    """What a role, or the public, may do with a database."""

    role: _OrNone
    privilege: Literal["CONNECT", "CREATE", "TEMPORARY", "TEMP"]
    grantable: bool


class Database(_Data):
    """A database; see `pg_database`."""

    name: _Name
    owner: _Name
    encoding: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,32}$")]
    collate: _Text
    ctype: _Text
    provider: Annotated[str, Field(pattern=r"^[a-z]$")]
    locale: _Text | None = None
    rules: _Text | None = None
    connection_limit: _Limit
    comment: _Text | None
    acl: tuple[Privilege, ...] | None
    extensions: tuple[_Name, ...]
    public_may_create: bool
    member: _Text


class Index(_Data):
    """All that is saved beside the archives of pg_dump."""

    version: Annotated[int, Field(ge=90000, lt=10_000_000)]
    user: _Name
    roles: tuple[Role, ...]
    memberships: tuple[Membership, ...]
    settings: tuple[Settings, ...]
    databases: tuple[Database, ...]

    def reaching_the_machine(self, version: int, there: Mapping[str, str | None], protected: str) -> list[str]:
        """What would let a client run code as the server's own user, in words.

        Args:
            version: of the server that takes the backup.
            there: roles that are superusers there already, with the verifiers of their passwords. The user who made the
                backup never counts: it was the superuser of that environment, and becomes an ordinary role in another
                one.
            protected: the user of that server, which a restore leaves alone.
        """
        found = []
        known = {*there, self.user}
        for role in self.roles:
            if role.superuser and role.name not in known:
                found.append(f"the superuser {role.name}")
            elif role.name in there and role.name != protected and role.verifier != there[role.name]:
                found.append(f"another password of the superuser {role.name}")
            elif role.createrole and version < _CREATEROLE_IS_BOUNDED and role.name not in known:
                found.append(f"the role {role.name}, which may create roles")
        found += [
            f"the role {one.member}, a member of {one.role}"
            for one in self.memberships
            if (one.role in _REACHES_THE_MACHINE or one.role in there) and one.member not in there
        ]
        for settings in self.settings:
            for setting in settings.settings:
                name, _, value = setting.partition("=")
                if _RUNS_CODE.fullmatch(name):
                    found.append(f"the setting {name}")
                elif name.lower() == "search_path" and "pg_catalog" in list_elements(value)[1:]:
                    found.append("a search_path that puts others before the server's own functions")
        return found
