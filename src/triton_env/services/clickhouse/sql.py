"""Runs the SQL of a cell on ClickHouse, statement by statement, and explains what the server refuses."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from triton_env.errors import QueryFailed, UsageError
from triton_env.services.base_insight import ROWS, Table
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
from triton_env.services.clickhouse.service import ClickHouse
from triton_env.services.clickhouse.splitting import clickhouse_statements, typed_names
from triton_env.services.results import as_result, has_pandas, with_floats
from triton_env.services.statements import Statement

_ANSWERING = ("SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "FROM", "VALUES")
"""The verbs with which ClickHouse answers in rows."""
# "Code: 62. DB::Exception: Syntax error: ... (SYNTAX_ERROR) (version 26.9.2.1 (official build))".
# https://clickhouse.com/docs/interfaces/http
_ERROR = re.compile(
    r"Code: (?P<code>\d+)\. (?:DB::Exception: )?(?P<words>.*?)(?: \((?P<name>[A-Z0-9_]+)\))?(?: \(version .*)?$",
    re.DOTALL,
)
_ADDED = "FORMAT Native"
"""What the client adds to a query."""
_ADDED_READING = "FORMAT JSONCompactEachRowWithNamesAndTypes"
_TAKING = "stream_like_engine_allow_direct_select"
"""The setting with which a SELECT takes messages from a queue, for which others wait."""
_MOST = 16 << 20
"""Bytes of an answer that are read at most."""
_PLACE = re.compile(r": failed at position (\d+) \(.*?\)(?: \(line \d+, col \d+\))?", re.DOTALL)


def run(service: ClickHouse, text: str, variables: Mapping[str, Any]) -> Outcome:
    """Run statements on ClickHouse, in one session.

    Args:
        text: the statements. A `{name:Type}` stands for the value of that variable.

    Raises:
        QueryFailed: the server refused a statement, or does not answer. Those before it have been done.
        ServiceDied: the server has ended, perhaps over a statement.
        UsageError: the text holds no statement, or a variable is not given.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    statements = checked(service, clickhouse_statements(text))
    result: Any = None
    done: list[str] = []
    with reachable(service, ClickHouseError), service.client() as client:
        for statement in statements:
            values = {name: value_of(variables, name) for name in typed_names(statement.text)}
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
                raise _refusal(service, error, text, statement) from error
    return Outcome(result, (), tuple(done))


def read(service: ClickHouse, text: str, seconds: float) -> Table:
    """Run one statement that the server lets only read.

    Args:
        text: the statement. It has no parameters and no FORMAT, and no SETTINGS at its end.

    Raises:
        QueryFailed, ServiceDied: see `run`.
        UsageError: it is not one statement that reads.
    """
    import urllib3

    from triton_env.services.clickhouse.http import Http, ServerError

    statement = the_one(service, clickhouse_statements(text), _ANSWERING)
    # The server refuses changes of settings, but not those of a subquery.
    if _TAKING in statement.text:
        raise UsageError(f"A statement that reads does not name the setting {_TAKING}.", hint="leave it out")
    settings = {
        "database": service.database,
        "readonly": "1",  # with 2, SETTINGS of the statement would win over these
        "max_execution_time": str(seconds),
        "max_result_rows": str(ROWS + 1),
        "result_overflow_mode": "break",
        _TAKING: "0",
    }
    timeout = urllib3.Timeout(connect=seconds, read=seconds + 1)
    deadline = time.monotonic() + seconds + 1
    with reachable(service, OSError), Http(service, timeout=timeout) as http:
        try:
            lines = _lines(http.stream(f"{statement.text}\n{_ADDED_READING}", settings), deadline)
            names = json.loads(next(lines, "[]"))
            next(lines, "")  # their types
            return some_of(names, map(json.loads, lines))
        except ServerError as error:
            raise _refusal(service, error, text, statement) from error


SQL = Sql(run, "{name:Type}", read)


def _lines(pieces: Iterator[bytes], deadline: float) -> Iterator[str]:
    """The lines of an answer. What is not UTF-8 is in them as `surrogateescape` has it.

    Args:
        deadline: by when they have to be there, on the monotonic clock.

    Raises:
        QueryFailed: they are not, or they are too long.
    """
    rest, size = b"", 0
    for piece in pieces:
        size += len(piece)
        if size > _MOST:
            raise QueryFailed(
                f"The answer of ClickHouse has more than {_MOST >> 20} MiB.",
                hint="ask for fewer rows, or for parts of long values, as in: substring(value, 1, 1000)",
            )
        if time.monotonic() > deadline:
            raise QueryFailed("The answer of ClickHouse did not come to its end in time.", hint="ask for fewer rows")
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="surrogateescape") for line in lines if line)
    if rest:
        yield rest.decode(errors="surrogateescape")


def _refusal(service: ClickHouse, error: Exception, text: str, statement: Statement) -> QueryFailed:
    found = _ERROR.search(str(error))
    if not found:
        return QueryFailed(
            "ClickHouse closed the connection.", where=f"{service.host}:{service.port}", cause=str(error)
        )
    words = found["words"].replace(f"\n {_ADDED}", "")
    for added in (_ADDED, _ADDED_READING):
        words = words.replace(added, "end of the statement")
    position = _PLACE.search(words)
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
        where=in_words(text, place),
        cause=f"{name}: {' '.join(words.split())}\n{marked(text, place) if position else ''}",
        hint="leave out FORMAT: rows come in the client's own" if has_format else "",
    )
