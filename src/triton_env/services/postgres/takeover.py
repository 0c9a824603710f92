"""How a restore of PostgreSQL is finished or taken back.

All databases change over in one transaction, which is the last step of a restore that may fail. So nothing is ever put
back: either it happened, and the restore counts, or it did not.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from triton_env.errors import RestoreUnfinished
from triton_env.services import Postgres
from triton_env.services.base_backup import Note, plan_from
from triton_env.services.postgres.server import drop_database, plain_connection

MAINTENANCE = "template1"
"""The database to be connected to while all others are renamed; new ones are copies of template0."""
LOADER = "_loader"
"""Ends the name of the role that loads archives; the mark of the restore begins it."""
_PATIENCE = 60
"""Seconds that the server gets to end what a process had asked for that was killed."""
_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore does to a PostgreSQL.

    Attributes:
        mark: names the connections of the restore, and the roles that it made.
        staged: by the name in the end, that of each database in which it is loaded.
        old: by the name before, that which each database gets that is replaced.
        new_roles: those that were not there before.
    """

    mark: str
    staged: Mapping[str, str] = field(default_factory=dict)
    old: Mapping[str, str] = field(default_factory=dict)
    new_roles: Sequence[str] = ()


class PostgresTakeover:
    """See `Takeover`.

    Args:
        plan: what `PostgresRestorer.plan` gave.
    """

    def __init__(self, service: Postgres, plan: Plan) -> None:
        self._service = service
        self._plan = plan

    def happened(self) -> bool:
        """Whether the databases have changed over. No connection of the restore is at work then."""
        with admin(self._service, "triton-env") as connection:
            self._end_connections(connection)
            there = {name for (name,) in connection.execute("select datname from pg_database").fetchall()}
        if not there.isdisjoint(self._plan.staged.values()):
            return False
        return not self._plan.old or not there.isdisjoint(self._plan.old.values())

    def put_back(self) -> None:
        """Nothing: see above."""

    def discard(self) -> None:
        with admin(self._service, "triton-env") as connection:
            self._end_connections(connection)
            for name in self._plan.staged.values():
                self._drop(connection, name)
            # Those alone that still say whose they are: another one of that name may have been made since.
            query = "select rolname from pg_roles where rolname = any(%s) and shobj_description(oid, 'pg_authid') = %s"
            roles = connection.execute(query, (list(self._plan.new_roles), self._plan.mark)).fetchall()
            for (name,) in (*roles, (self._plan.mark + LOADER,)):
                connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))

    def finish(self) -> None:
        with admin(self._service, "triton-env") as connection:
            for name in self._plan.old.values():
                self._drop(connection, name)

    def _drop(self, connection: "psycopg.Connection[Any]", name: str) -> None:
        disconnect(connection, name)
        drop_database(connection, self._connect, name)

    def _connect(self, name: str) -> "psycopg.Connection[Any]":
        return plain_connection(self._service, dbname=name, application_name="triton-env")

    def _end_connections(self, connection: "psycopg.Connection[Any]") -> None:
        """End the connections of the restore: a server goes on with what a killed client has asked for."""
        deadline = time.monotonic() + _PATIENCE
        query = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
        while connection.execute(query, (self._plan.mark,)).fetchall():
            if time.monotonic() > deadline:
                raise RestoreUnfinished(
                    "PostgreSQL is still at work on what a restore has asked for that was interrupted.",
                    where=f"{self._service.host}:{self._service.port}",
                    cause=f"connections named {self._plan.mark} do not end",
                    hint="wait, and try again; or restart the server: python -m triton_env restart postgres",
                )
            time.sleep(_INTERVAL)


def takeover(service: Postgres, plan: Mapping[str, Any], note: Note) -> PostgresTakeover:
    """The takeover of a restore by what `PostgresRestorer.plan` gave; see `TakeoverOf`."""
    return PostgresTakeover(service, plan_from(Plan, plan))


@contextmanager
def admin(service: Postgres, label: str) -> Iterator["psycopg.Connection[Any]"]:
    """A connection that may rename and drop databases. `label` names it."""
    connection = plain_connection(service, dbname=MAINTENANCE, application_name=label)
    try:
        yield connection
    finally:
        connection.close()


def disconnect(connection: "psycopg.Connection[Any]", name: str) -> None:
    """End the connections to a database."""
    connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
