"""The databases that a snapshot of PostgreSQL holds beside its first one: those that were made in the environment."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_env.services.base_isolation import SNAPSHOT, Space
from triton_env.services.names import is_users

if TYPE_CHECKING:
    import psycopg

    Admin = psycopg.Connection[Any]

_PART = "__"
"""Between the id of a snapshot and the number of a part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A database of a snapshot.

    Attributes:
        name: of it on the server.
        database: whose copy it is.
        words: the comment of that one; the part's own comment says all this.
    """

    name: str
    database: str
    words: str | None


def others(admin: "Admin", own: str) -> list[str]:
    """The databases of the environment beside its own, but for those that every server has."""
    query = (
        "select datname from pg_database where not datistemplate and datallowconn and datname not in ('postgres', %s)"
        " order by 1"
    )
    names = [name for (name,) in admin.execute(query, [own]).fetchall()]
    return [name for name in names if is_users(name)]


def name_of(space: Space, number: int) -> str:
    """What the part of a snapshot is called."""
    return f"{space.id}{_PART}{number}"


def describe(admin: "Admin", part: str, database: str) -> None:
    """Have a part say whose copy it is."""
    from psycopg import sql

    query = "select shobj_description(oid, 'pg_database') from pg_database where datname = %s"
    row = admin.execute(query, [database]).fetchone()
    words = json.dumps({"database": database, "words": row and row[0]})
    admin.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(part), sql.Literal(words)))


def comment(admin: "Admin", database: str, words: str | None) -> None:
    """Give a database the comment that it had."""
    from psycopg import sql

    admin.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(database), sql.Literal(words)))


def databases_of(admin: "Admin", space: Space) -> list[str]:
    """All databases of a space: the first, and the parts of a snapshot."""
    if not space.id.startswith(SNAPSHOT):
        return [space.id]
    query = "select datname from pg_database where starts_with(datname, %s) order by 1"
    return [space.id, *(name for (name,) in admin.execute(query, [space.id + _PART]).fetchall())]


def parts_of(admin: "Admin", space: Space) -> list[Part]:
    """The parts of a snapshot."""
    query = "select datname, shobj_description(oid, 'pg_database') from pg_database where datname = any(%s) order by 1"
    rows = admin.execute(query, [databases_of(admin, space)[1:]]).fetchall()
    return [Part(name, **json.loads(words)) for name, words in rows]
