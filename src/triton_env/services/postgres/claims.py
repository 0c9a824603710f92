"""What a PostgreSQL keeps of those who make spaces on it: rows of one table, in a database of its own."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from triton_env.core.forks import not_in_children
from triton_env.services.base_claims import Board, BoardClosed, Note
from triton_env.services.names import CLAIMS
from triton_env.services.postgres.server import PLAIN_SESSION, break_off, is_over

if TYPE_CHECKING:
    import psycopg

    Admin = psycopg.Connection[Any]

_CLOSE_TIMEOUT: Final = 1
"""Seconds to wait for a thread whose connection was broken off."""
_LIMIT: Final = "set statement_timeout = '60s'"
"""So that a server that does not get on holds up no renewal for as long as a claim holds."""
_KEEPALIVE: Final = """
set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3;
"""
"""So that the locks of a machine that was cut off end within a minute, not after two hours."""
_TABLE: Final = """
do $$ begin grant create on schema public to public; exception when insufficient_privilege then null; end $$;
create table if not exists public.notes (key text primary key, text text not null, at timestamptz not null);
grant select, insert, update, delete on public.notes to public;
"""
_PUT: Final = """
insert into public.notes values (%s, %s, clock_timestamp())
on conflict (key) do update set text = excluded.text, at = excluded.at
"""
_NOTES: Final = """
select key, text, extract(epoch from clock_timestamp() - greatest(at, pg_postmaster_start_time()))::float8
  from public.notes where starts_with(key, %s)
"""
_PRESENCE: Final = "triton-env: present"
_LOCK: Final = "triton-env: lock"
_PRESENT: Final = """
select owner from (select substring(key from 7) as owner from public.notes where starts_with(key, 'owner/')) owners
 where exists (
    select from pg_locks l join pg_database d on d.oid = l.database
     where d.datname = current_database() and locktype = 'advisory' and granted and objsubid = 2
       and classid::bigint = hashtext(%s)::bigint & 4294967295
       and objid::bigint = hashtext(owner)::bigint & 4294967295)
"""


class _NoNotes(Exception):
    """The server has no place for notes."""


class PostgresBoard(Board):
    """The notes on one PostgreSQL; see `Board`.

    Locks, and that an owner is present, are advisory locks of one connection: they end with it.

    Args:
        connect: to a database.
        make: makes an empty database of a name, where it is missing.
        is_there: whether there is a database of a name.
    """

    rank = 0

    def __init__(
        self, connect: Callable[[str], "Admin"], make: Callable[[str], None], is_there: Callable[[str], bool]
    ) -> None:
        self._connect = connect
        self._make = make
        self._is_there = is_there
        self._lock = threading.Lock()
        self._made: Admin | None = None
        self._held: dict[str, int] = {}
        self._attended: tuple[int, str] = (0, "")
        self._closed = threading.Event()

    def put(self, key: str, text: str) -> None:
        with self._admin() as admin:
            admin.execute(_PUT, [key, text])

    def notes(self, prefix: str) -> Mapping[str, Note]:
        rows = self._read(lambda admin: admin.execute(_NOTES, [prefix]).fetchall())
        return {key: Note(text, age) for key, text, age in rows}

    def remove(self, *keys: str) -> None:
        with self._admin() as admin:
            admin.execute("delete from public.notes where key = any(%s)", [list(keys)])

    def attend(self, owner: str) -> None:
        with self._admin() as admin:
            if self._attended != (admin.info.backend_pid, owner):
                admin.execute("select pg_advisory_lock_shared(hashtext(%s), hashtext(%s))", [_PRESENCE, owner])
                self._attended = (admin.info.backend_pid, owner)

    def present(self) -> frozenset[str]:
        rows = self._read(lambda admin: admin.execute(_PRESENT, [_PRESENCE]).fetchall())
        return frozenset(owner for (owner,) in rows)

    def try_lock(self, name: str, owner: str, is_gone: Callable[[str], bool]) -> bool:
        with self._admin() as admin:
            query = "select pg_try_advisory_lock(hashtext(%s), hashtext(%s))"
            if admin.execute(query, [_LOCK, name]).fetchone() != (True,):
                return False
            self._held[name] = admin.info.backend_pid
            return True

    def holds(self, name: str, owner: str) -> bool:
        with self._admin() as admin:
            return self._held.get(name) == admin.info.backend_pid

    def unlock(self, name: str, owner: str) -> None:
        with self._admin() as admin:
            if self._held.pop(name, None) == admin.info.backend_pid:
                admin.execute("select pg_advisory_unlock(hashtext(%s), hashtext(%s))", [_LOCK, name])

    def close(self) -> None:
        self._closed.set()
        if (made := self._made) is not None:
            break_off(made)
        # One that connects just now closes what it gets.
        if self._lock.acquire(timeout=_CLOSE_TIMEOUT):
            try:
                self._forget()
            finally:
                self._lock.release()

    def _forget(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.close()

    def _read(self, act: Callable[["Admin"], list[Any]]) -> list[Any]:
        """What it answers; empty where nothing was ever noted: what only reads makes no place for notes."""
        from psycopg import errors

        with suppress(_NoNotes):
            try:
                with self._admin(makes=False) as admin:
                    return act(admin)
            except errors.AdminShutdown:  # before this: the server ends connections a while after it was asked to
                with self._admin(makes=False) as admin:
                    return act(admin)
        return []

    @contextmanager
    def _admin(self, *, makes: bool = True) -> Iterator["Admin"]:
        with self._lock:
            if self._made is not None and is_over(self._made):
                self._forget()
            if self._closed.is_set():
                raise BoardClosed
            if self._made is None:
                self._made = self._opened(makes)
            try:
                yield self._made
            except BaseException:
                # It may be broken, or amid an answer; and a test may have dropped the database or the table.
                self._forget()
                raise
            if self._closed.is_set():
                self._forget()

    def _opened(self, makes: bool) -> "Admin":
        from psycopg import OperationalError

        try:
            admin = self._connect(CLAIMS)
        except OperationalError:
            if not makes and not self._is_there(CLAIMS):
                raise _NoNotes from None
            self._make(CLAIMS)
            admin = self._connect(CLAIMS)
        try:
            not_in_children(admin)
            admin.execute(PLAIN_SESSION + _KEEPALIVE + _LIMIT)
            if admin.execute("select to_regclass('public.notes')").fetchone() == (None,):
                if not makes:
                    raise _NoNotes
                # One at a time: two that make the same table at once are an error.
                admin.execute("select pg_advisory_lock(hashtext(%s))", [CLAIMS])
                admin.execute(_TABLE)
                admin.execute("select pg_advisory_unlock(hashtext(%s))", [CLAIMS])
        except BaseException:
            admin.close()
            raise
        return admin
