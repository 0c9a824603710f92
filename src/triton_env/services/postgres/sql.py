"""Runs the SQL of a cell on PostgreSQL, statement by statement, and explains what the server refuses."""

import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from triton_env.errors import QueryFailed, UsageError
from triton_env.services.base_insight import Table
from triton_env.services.base_sql import (
    Outcome,
    Sql,
    checked,
    in_words,
    marked,
    reachable,
    some_of,
    the_one,
    value_of,
)
from triton_env.services.postgres.server import break_off
from triton_env.services.postgres.service import Postgres
from triton_env.services.postgres.splitting import postgres_statements
from triton_env.services.results import as_result
from triton_env.services.statements import Statement

if TYPE_CHECKING:
    import psycopg


def run(service: Postgres, text: str, variables: Mapping[str, Any]) -> Outcome:
    """Run statements on PostgreSQL, each a transaction of its own, over a connection of their own.

    Args:
        text: the statements. A `:name` stands for the value of that variable.

    Raises:
        QueryFailed: the server refused a statement, or does not answer. Those before it have been done.
        ServiceDied: the server has ended, perhaps over a statement.
        UsageError: the text holds no statement, or a variable is not given.
    """
    import psycopg

    statements = checked(service, postgres_statements(text))
    result: Any = None
    notices: list[str] = []
    done: list[str] = []
    with reachable(service, psycopg.OperationalError), service.connect(autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: notices.append(f"{notice.severity}: {notice.message_primary}"))
        for statement in statements:
            rendered = _Rendered(statement, connection, variables)
            try:
                cursor = connection.execute(cast("Any", rendered.text))
                rows = cursor.fetchall() if cursor.description else None
            except psycopg.Error as error:
                raise _refusal(service, error, text, rendered) from error
            if rows is None:
                done.append(cursor.statusmessage or "")
            else:
                result = as_result([column.name for column in cursor.description or ()], rows)
    return Outcome(result, tuple(notices), tuple(done))


def read(service: Postgres, text: str, seconds: float) -> Table:
    """Run one statement in a transaction that only reads, and where there is one as a role that does.

    That is proof against mistakes. A statement that is made for it can get back the rights of the service's user, by
    `set_config('role', ...)` and a function that runs SQL, and then do what a superuser can do in such a transaction.

    Args:
        text: the statement. It has no parameters.

    Raises:
        QueryFailed, ServiceDied: see `run`.
        UsageError: it is not one statement that reads.
    """
    import psycopg

    statement = the_one(service, postgres_statements(text), _READING)
    connecting = service.connect(connect_timeout=max(2, int(seconds)), prepare_threshold=None)
    with reachable(service, psycopg.OperationalError), connecting as connection:
        # A server that is held up answers nothing, and the client would wait without end.
        is_given_up = threading.Event()

        def give_up() -> None:
            is_given_up.set()
            break_off(connection)

        watchdog = threading.Timer(seconds + 1, give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            return _read(service, connection, _Rendered(statement, connection, {}), text, seconds)
        except (QueryFailed, psycopg.Error) as error:
            if is_given_up.is_set():
                raise QueryFailed(
                    f"PostgreSQL did not send the whole answer within {seconds:g} s.",
                    where=f"{service.host}:{service.port}",
                    hint="ask for fewer rows (limit 10), or for the beginnings of long values (left(column, 1000))",
                ) from error
            raise
        finally:
            watchdog.cancel()


SQL = Sql(run, ":name", read)
_READING = ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN")
_READER = "pg_read_all_data"
"""A role of PostgreSQL 14 and newer. A superuser's functions write files and end sessions even where only is read."""


def _read(
    service: Postgres, connection: "psycopg.Connection[Any]", rendered: "_Rendered", text: str, seconds: float
) -> Table:
    import psycopg

    connection.read_only = True
    # With it, the transaction can be no other any more.
    connection.execute("select set_config('statement_timeout', %s, true)", [f"{int(seconds * 1000)}ms"])
    # The user of a server of others may not become it, and can do what that user may.
    with suppress(psycopg.Error), connection.transaction():
        connection.execute(f"set local role {_READER}")
    try:
        with connection.cursor() as cursor, closing(cast("Any", cursor.stream(cast("Any", rendered.text)))) as rows:
            first = next(rows, None)
            names = [column.name for column in cursor.description or ()]
            return some_of(names, chain([] if first is None else [first], rows))
    except psycopg.Error as error:
        raise _refusal(service, error, text, rendered) from error
    finally:
        connection.rollback()


class _Rendered:
    """A statement with values in place of its parameters.

    Put in here and not by the server, which takes parameters in some kinds of statements only; and by us, so that the
    place of an error can be found again.
    """

    def __init__(
        self, statement: Statement, connection: "psycopg.Connection[Any]", variables: Mapping[str, Any]
    ) -> None:
        from psycopg import ProgrammingError, sql

        self._statement = statement
        self._shifts: list[tuple[int, int]] = []
        """The end of each value in the text, and how far it has moved what follows."""
        self.text, end, moved = "", 0, 0
        for parameter in statement.parameters:
            value = value_of(variables, parameter.name)
            try:
                literal = sql.Literal(value).as_string(connection)
            except ProgrammingError as error:
                raise UsageError(
                    f"The variable {parameter.name!r} is a {type(value).__name__}, which PostgreSQL has no type for.",
                    cause=str(error),
                    hint="pass a number, a text, a date, or a list of such, as in: where id = any(:ids)",
                ) from error
            self.text += statement.text[end : parameter.start] + literal
            end = parameter.end
            moved = len(self.text) - end
            self._shifts.append((len(self.text), moved))
        self.text += statement.text[end:]

    def place(self, position: int) -> int:
        """Where in the whole text that is: a position in `text`, counted from 0. Within a value it is about right."""
        moved = 0
        for end, shift in self._shifts:
            moved = shift if position >= end else moved
        return self._statement.start + min(max(position - moved, 0), len(self._statement.text))

    @property
    def start(self) -> int:
        return self._statement.start


def _refusal(service: Postgres, error: "psycopg.Error", text: str, rendered: _Rendered) -> QueryFailed:
    if error.sqlstate is None:
        return QueryFailed(
            "PostgreSQL closed the connection.", where=f"{service.host}:{service.port}", cause=str(error)
        )
    diagnosis = error.diag
    position = int(diagnosis.statement_position) - 1 if diagnosis.statement_position else None
    place = rendered.start if position is None else rendered.place(position)
    words = f"SQLSTATE {error.sqlstate}: {diagnosis.message_primary}"
    below = marked(text, place) if position is not None else diagnosis.message_detail or ""
    return QueryFailed(
        "PostgreSQL refused the statement.",
        where=in_words(text, place),
        cause=f"{words}\n{below}",
        hint=(diagnosis.message_hint or "").rstrip("."),
    )
