"""The database of PostgreSQL from which empty ones are copied: as it was made, or recreated."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triton_env.errors import IsolationFailed
from triton_env.services.names import EMPTY
from triton_env.services.postgres.server import contents, identities

if TYPE_CHECKING:
    import psycopg

    Admin = psycopg.Connection[Any]

_MADE = "triton-env: "
"""Begins the comment of that database; what `identities` returns when it is made ends it."""


class EmptyDatabase:
    """`EMPTY`, on one server.

    Args:
        copy: makes a database of that name, in which no client can be, from another one.
    """

    def __init__(
        self,
        connect: Callable[[str], "Admin"],
        drop: Callable[["Admin", str], None],
        copy: Callable[["Admin", str, str], None],
    ) -> None:
        self._connect = connect
        self._drop = drop
        self._copy = copy

    def see(self, admin: "Admin", *, is_lasting: bool, is_reset: bool = False) -> None:
        """See that the database is there, and as it was made: it is recreated where it was opened for clients since.

        Args:
            is_lasting: whether the server holds data of others.
            is_reset: whether what `template1` holds, but for extensions, which an image may have put there, came after
                the start.

        Raises:
            IsolationFailed: a database of that name holds data of others, perhaps.
        """
        from psycopg import sql

        if _is_as_made(admin):
            return
        admin.execute("select pg_advisory_lock(hashtext(%s))", [EMPTY])
        try:
            if _is_as_made(admin):  # another process was quicker
                return
            is_closed = "select datistemplate and not datallowconn from pg_database where datname = %s"
            if is_lasting and admin.execute(is_closed, [EMPTY]).fetchone() == (False,):
                raise IsolationFailed(
                    f"Empty namespaces are copied from the database {EMPTY}, and that one may be yours: it is open to "
                    "clients.",
                    where="PostgreSQL",
                    hint=f"keep what is in it: alter database {EMPTY} rename to another; or drop it",
                )
            self._drop(admin, EMPTY)
            self._make(admin, is_reset=is_reset)
            whose = sql.Literal(_MADE + identities(admin, EMPTY)[EMPTY])
            admin.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(EMPTY), whose))
        finally:
            if not admin.closed:
                admin.execute("select pg_advisory_unlock(hashtext(%s))", [EMPTY])

    def _make(self, admin: "Admin", *, is_reset: bool) -> None:
        """Make it as `template1` is."""
        origin = "template1"
        query = "select exists (select from pg_stat_activity where datname = %s)"
        if not identities(admin, origin):
            origin = "template0"
        elif is_reset or admin.execute(query, [origin]).fetchone() == (True,):
            with self._connect(origin) as inside:
                has_objects, has_extensions = contents(inside)
            if (has_objects and is_reset) or not (has_objects or has_extensions):
                # Nothing is lost, and clients of template1 can go on.
                origin = "template0"
        self._copy(admin, EMPTY, origin)


def _is_as_made(admin: "Admin") -> bool:
    """Whether it is the one that was made here, and it has not been opened for clients since."""
    query = "select shobj_description(oid, 'pg_database') from pg_database where datname = %s"
    row = admin.execute(query, [EMPTY]).fetchone()
    return row is not None and row[0] == f"{_MADE}{identities(admin, EMPTY).get(EMPTY)}"
