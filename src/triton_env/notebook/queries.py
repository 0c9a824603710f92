"""Runs the SQL of a cell, statement by statement, and explains what a server refuses."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from triton_env.errors import QueryFailed, ServiceDied, UsageError
from triton_env.notebook.results import as_result, has_pandas, with_floats
from triton_env.services import ClickHouse, Postgres, Service
from triton_env.services.clickhouse.splitting import clickhouse_statements, typed_names
from triton_env.services.postgres.splitting import postgres_statements
from triton_env.services.statements import Statement

if TYPE_CHECKING:
    import psycopg

_ANSWERING = ("SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "FROM", "VALUES")
"""The verbs with which ClickHouse answers in rows."""
# "Code: 62. DB::Exception: Syntax error: ... (SYNTAX_ERROR) (version 26.9.2.1 (official build))".
# https://clickhouse.com/docs/interfaces/http
_CLICKHOUSE_ERROR = re.compile(
    r"Code: (?P<code>\d+)\. (?:DB::Exception: )?(?P<words>.*?)(?: \((?P<name>[A-Z0-9_]+)\))?(?: \(version .*)?$",
    re.DOTALL,
)
_ADDED = "FORMAT Native"
"""What the client adds to a query."""
_CLICKHOUSE_PLACE = re.compile(r": failed at position (\d+) \(.*?\)(?: \(line \d+, col \d+\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell.

    Attributes:
        result: the rows of the last statement that has any; None where none has.
        notices: what the server said besides.
        done: what became of the statements without rows.
    """

    result: Any
    notices: tuple[str, ...]
    done: tuple[str, ...]


def run_postgres(service: Postgres, text: str, variables: Mapping[str, Any]) -> Outcome:
    """Run statements on PostgreSQL, each a transaction of its own, over a connection of their own.

    Args:
        service: where.
        text: the statements. A `:name` stands for the value of that variable.
        variables: the variables.

    Raises:
        QueryFailed: the server refused a statement, or does not answer. Those before it have been done.
        ServiceDied: the server has ended, perhaps over a statement.
        UsageError: there is no statement, or no variable of such a name.
    """
    import psycopg

    statements = _checked(service, postgres_statements(text))
    result: Any = None
    notices: list[str] = []
    done: list[str] = []
    with _reachable(service, psycopg.OperationalError), service.connect(autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: notices.append(f"{notice.severity}: {notice.message_primary}"))
        for statement in statements:
            rendered = _Rendered(statement, connection, variables)
            try:
                cursor = connection.execute(cast("Any", rendered.text))
                rows = cursor.fetchall() if cursor.description else None
            except psycopg.Error as error:
                raise _postgres_refusal(service, error, text, rendered) from error
            if rows is None:
                done.append(cursor.statusmessage or "")
            else:
                result = as_result([column.name for column in cursor.description or ()], rows)
    return Outcome(result, tuple(notices), tuple(done))


def run_clickhouse(service: ClickHouse, text: str, variables: Mapping[str, Any]) -> Outcome:
    """Run statements on ClickHouse, in one session.

    Args:
        service: where.
        text: the statements. A `{name:Type}` stands for the value of that variable.
        variables: the variables.

    Raises:
        QueryFailed: the server refused a statement, or does not answer. Those before it have been done.
        ServiceDied: the server has ended, perhaps over a statement.
        UsageError: there is no statement, or no variable of such a name.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    statements = _checked(service, clickhouse_statements(text))
    result: Any = None
    done: list[str] = []
    with _reachable(service, ClickHouseError), service.client() as client:
        for statement in statements:
            values = {name: _value(variables, name) for name in typed_names(statement.text)}
            try:
                if statement.verb not in _ANSWERING:
                    summary = client.command(statement.text, parameters=values or None)
                    written = getattr(summary, "written_rows", 0)
                    done += [f"{statement.verb}: {written} rows written"] if written else []
                elif has_pandas():
                    result = with_floats(client.query_df(statement.text, parameters=values or None))
                else:
                    answer = client.query(statement.text, parameters=values or None)
                    result = as_result(answer.column_names, answer.result_rows)
            except ClickHouseError as error:
                raise _clickhouse_refusal(service, error, text, statement) from error
    return Outcome(result, (), tuple(done))


RUNNERS: Mapping[str, Callable[[Any, str, Mapping[str, Any]], Outcome]] = {
    Postgres.name: run_postgres,
    ClickHouse.name: run_clickhouse,
}
"""By the service's name: those that speak SQL."""


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
            value = _value(variables, parameter.name)
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


def _checked(service: Service, statements: list[Statement]) -> list[Statement]:
    if not statements:
        raise UsageError(
            f"There is no statement for {service.title}.",
            hint=f"%sql {service.name} select 1, or %%sql {service.name} and the statements in the lines below it",
        )
    return statements


def _value(variables: Mapping[str, Any], name: str) -> Any:
    if name not in variables:
        raise UsageError(f"The statement uses the variable {name!r}, which is not defined.", hint=f"{name} = ...")
    return variables[name]


@contextmanager
def _reachable(service: Service, kind: type[Exception]) -> Iterator[None]:
    """Explain a server that cannot be reached, or that has died over a statement."""
    try:
        yield
    except ServiceDied:
        raise
    except (QueryFailed, kind) as error:
        if died := service._died():
            raise died from error
        if isinstance(error, QueryFailed):
            raise
        raise QueryFailed(
            f"{service.title} does not answer.",
            where=f"{service.host}:{service.port}",
            cause=str(error),
            hint=f"print(env.logs({service.name!r})) may tell why, where env is the environment",
        ) from error


def _postgres_refusal(service: Postgres, error: "psycopg.Error", text: str, rendered: _Rendered) -> QueryFailed:
    if error.sqlstate is None:
        return QueryFailed("PostgreSQL broke off.", where=f"{service.host}:{service.port}", cause=str(error))
    diagnosis = error.diag
    position = int(diagnosis.statement_position) - 1 if diagnosis.statement_position else None
    place = rendered.start if position is None else rendered.place(position)
    words = f"SQLSTATE {error.sqlstate}: {diagnosis.message_primary}"
    below = _marked(text, place) if position is not None else diagnosis.message_detail or ""
    return QueryFailed(
        "PostgreSQL refused the statement.",
        where=_in_words(text, place),
        cause=f"{words}\n{below}",
        hint=(diagnosis.message_hint or "").rstrip("."),
    )


def _clickhouse_refusal(service: ClickHouse, error: Exception, text: str, statement: Statement) -> QueryFailed:
    found = _CLICKHOUSE_ERROR.search(str(error))
    if not found:
        return QueryFailed("ClickHouse broke off.", where=f"{service.host}:{service.port}", cause=str(error))
    words = found["words"].replace(f"\n {_ADDED}", "").replace(_ADDED, "end of the statement")
    position = _CLICKHOUSE_PLACE.search(words)
    # Counted in bytes, from 1.
    before = statement.text.encode()[: int(position[1]) - 1].decode(errors="ignore") if position else ""
    place = statement.start + len(before)
    has_format = len(before) == len(statement.text) and "FORMAT" in statement.text.upper()
    if position:
        # The place is shown below.
        words = words.replace(position[0], "", 1)
    name = f"{found['name']} (code {found['code']})" if found["name"] else f"code {found['code']}"
    return QueryFailed(
        "ClickHouse refused the statement.",
        where=_in_words(text, place),
        cause=f"{name}: {' '.join(words.split())}\n{_marked(text, place) if position else ''}",
        hint="leave out FORMAT: rows come in the client's own" if has_format else "",
    )


def _in_words(text: str, place: int) -> str:
    line = text.count("\n", 0, place) + 1
    return f"line {line} of the cell, column {place - (text.rfind(chr(10), 0, place) + 1) + 1}"


def _marked(text: str, place: int) -> str:
    """The line in which `place` is, and a mark below it."""
    begin = text.rfind("\n", 0, place) + 1
    line = text[begin:].partition("\n")[0].expandtabs(1)
    cut = max(0, place - begin - 60)
    return f"{line[cut : cut + 100]}\n{' ' * (place - begin - cut)}^"
