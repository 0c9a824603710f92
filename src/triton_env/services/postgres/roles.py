"""PostgreSQL's roles that templates make. They are the server's, so they are there when a template is built again.

Where a build stops because a role exists already, that role gets another name and the build is tried again. Afterwards
the new role is a member of the old one, so that it has what the old one was granted in copies of earlier templates.
"""

import re
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from secrets import token_hex
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from triton_env.errors import TemplateFailed
from triton_env.services.base_isolation import PREFIX, Beside

if TYPE_CHECKING:
    from triton_env.services.postgres.isolation import Admin, PostgresIsolation

MARK = "made by a template of triton-env"
"""The comment on such a role: it belongs to templates alone."""
ASIDE = f"{PREFIX}role_"
"""Begins the names of those that made way. They go once nothing depends on them."""
_TRIES = 20
_EXISTS = re.compile(r'role "(.+)" already exists')
_QUOTED = re.compile(r"[\"'»«„“]([^\"'»«„“”]+)[\"'»«“”]")
_DUPLICATE_OBJECT = "42710"

_MOVABLE = """
select rolname, coalesce(shobj_description(oid, 'pg_authid'), '') from pg_roles
 where oid >= 16384 and rolname not in (current_user, %s)
"""


class Roles(Beside):
    """The roles that one build makes. Use it in a `with` block around all its tries.

    Args:
        lasting: whether the server holds data of others, whose roles are not touched.
        alone: whether no other process uses the server, so that new roles are of this build.
    """

    def __init__(self, isolation: "PostgresIsolation", *, lasting: bool, alone: bool) -> None:
        self._isolation = isolation
        self._lasting = lasting
        self._alone = alone
        self._before: dict[str, str] = {}
        self._aside: dict[str, str] = {}  # the names from before by those of today
        self._tries = 0

    def __enter__(self) -> Self:
        self._before = self._movable()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._isolation.administration() as admin:
            if error is not None and self._alone:
                for name in self._made(self._of(admin)):
                    self._is_dropped(admin, name)
            there = self._of(admin)
            for aside, name in self._aside.items():
                if name in there:
                    _execute(admin, f"grant {{}} to {{}}{_inheriting(admin)}", aside, name)
                else:
                    _execute(admin, "alter role {} rename to {}", aside, name)
            for name in self._made(there):
                self._mark(admin, name)
            for name in self._of(admin):
                if name.startswith(ASIDE):
                    self._is_dropped(admin, name)

    def made(self) -> tuple[str, ...]:
        return tuple(sorted(self._made(self._movable())))

    def are_there(self, names: Collection[str]) -> bool:
        return not names or set(names) <= self._movable().keys()

    def make_way(self, error: TemplateFailed) -> bool:
        from psycopg import Error

        self._tries += 1
        wanted = _existing(error)
        if not wanted or self._tries > _TRIES:
            return False
        with self._isolation.administration() as admin:
            there = self._of(admin)
            # On servers with data of others, only those that templates have made, here or earlier.
            free = {name for name, words in there.items() if not self._lasting or words == MARK} | self._made(there)
            if not wanted & free:
                return False
            try:
                # What this try has made itself would be in the way of the next one.
                for name in sorted((wanted & free) | self._made(there)):
                    if name in self._before or not self._is_dropped(admin, name):
                        aside = ASIDE + token_hex(6)
                        _execute(admin, "alter role {} rename to {}", name, aside)
                        self._aside[aside] = name
            except Error:
                return False
        return True

    def _made(self, there: dict[str, str]) -> set[str]:
        moved = set(self._aside.values())
        return {name for name in there if name not in self._aside and (name not in self._before or name in moved)}

    def _movable(self) -> dict[str, str]:
        return self._isolation.administered(self._of)

    def _of(self, admin: "Admin") -> dict[str, str]:
        """The roles that are not the server's own nor the environment's, with the comments on them."""
        return dict(admin.execute(_MOVABLE, [self._isolation.user]).fetchall())

    def _is_dropped(self, admin: "Admin", name: str) -> bool:
        from psycopg import errors

        try:
            _execute(admin, "drop role {}", name)
        except (errors.DependentObjectsStillExist, errors.InsufficientPrivilege, errors.UndefinedObject):
            return False
        return True

    def _mark(self, admin: "Admin", name: str) -> None:
        from psycopg import errors, sql

        with suppress(errors.InsufficientPrivilege, errors.UndefinedObject):
            admin.execute(sql.SQL("comment on role {} is {}").format(sql.Identifier(name), sql.Literal(MARK)))


def is_of_template(name: str, comment: str | None) -> bool:
    """Whether a role belongs to templates alone, by its name and comment."""
    return name.startswith(ASIDE) or comment == MARK


def _inheriting(admin: "Admin") -> str:
    """Also where the new role was made with NOINHERIT, as far as the server can say that."""
    return " with inherit true" if admin.info.server_version >= 160_000 else ""


def _existing(error: BaseException) -> set[str]:
    """The roles that exist already, found in the messages of an error, of those that led to it, and of programs."""
    found: set[str] = set()
    for each in _chain(error):
        words = [str(each), str(getattr(each, "cause", "") or "")]
        if isinstance(each, subprocess.CalledProcessError):
            words += [
                text.decode(errors="replace") if isinstance(text, bytes) else text or "" for text in _outputs(each)
            ]
        for text in words:
            found |= set(_EXISTS.findall(text))
        if getattr(each, "sqlstate", None) == _DUPLICATE_OBJECT:  # whatever language the server speaks
            found |= set(_QUOTED.findall(str(each)))
    return found


def _outputs(error: subprocess.CalledProcessError) -> tuple[Any, Any]:
    return error.stderr, error.stdout


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _execute(admin: "Admin", statement: str, *names: str) -> None:
    from psycopg import sql

    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
