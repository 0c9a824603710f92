"""PostgreSQL: the SQL files of a template, each of which is one transaction."""

import re
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_env.core.files import read_sql, shown, sql_files
from triton_env.errors import TemplateFailed
from triton_env.services import Postgres
from triton_env.services.base_seeding import Seeding, line_of
from triton_env.services.postgres.splitting import postgres_statements

if TYPE_CHECKING:
    import psycopg

_COPY_DATA = re.compile(r"\bcopy\b[^;]*\bfrom\s+stdin\b", re.IGNORECASE)
_PSQL_VARIABLE = re.compile(r":['\"]?[A-Za-z_]")
_USE_INSERT = "the data of COPY cannot be in the file of a template; use INSERT"


class PostgresSeeding(Seeding[Postgres]):
    """Runs SQL files in natural order."""

    files = "SQL files"
    suffix = ".sql"

    def takes(self, folder: Path) -> bool:
        return bool(sql_files(folder))

    def load(self, folder: Path, service: Postgres) -> None:
        for path in sql_files(folder):
            text = read_sql(path)
            # A session for each: what one file sets, such as search_path or a role, is not the next one's.
            with service.connect(autocommit=True) as connection:
                _run(path, text, connection)


def _run(path: Path, text: str, connection: "psycopg.Connection[Any]") -> None:
    """Run a file as one request, which the server runs in one transaction unless the file says otherwise."""
    from psycopg.pq import ExecStatus, TransactionStatus

    pgconn = connection.pgconn
    # Below psycopg's cursors, which do not report the results before an error.
    pgconn.send_query(text.encode())
    number, failed = 0, None
    while (result := pgconn.get_result()) is not None:
        number += 1
        if result.status == ExecStatus.COPY_IN:
            pgconn.put_copy_end(_USE_INSERT.encode())
            number -= 1
        elif result.status == ExecStatus.COPY_OUT:
            while pgconn.get_copy_data(0)[0] > 0:  # until then it would be the same result again
                continue
            number -= 1
        elif result.status == ExecStatus.FATAL_ERROR and failed is None:
            failed = (number, result)
    if failed is not None:
        raise _refused(path, text, *failed)
    if pgconn.transaction_status != TransactionStatus.IDLE:
        raise TemplateFailed(
            "A file of the template leaves a transaction open, which would be lost.",
            where=shown(path),
            hint="end it with COMMIT, or leave BEGIN out: a file is one transaction",
        )


def _refused(path: Path, text: str, number: int, result: Any) -> TemplateFailed:
    from psycopg.pq import DiagnosticField

    words = result.get_error_message()
    position = int(result.error_field(DiagnosticField.STATEMENT_POSITION) or 0)
    starts = [statement.start for statement in postgres_statements(text)]
    # With a syntax error the server has run none of the statements, so only the place shows which one it is in.
    place = position - 1 if position else starts[number - 1] if number <= len(starts) else len(text)
    number = bisect_right(starts, place) if position else number
    where = f"{shown(path)}, statement {number}, line {line_of(text, place)}"
    what, hint = "PostgreSQL refused a statement of the template.", ""
    if result.error_field(DiagnosticField.SQLSTATE) == b"42601" and position:
        if text[position - 1] == "\\":
            what = "PostgreSQL does not know the commands of psql, such as \\i, \\copy and \\connect."
            hint = "leave it out: files run in natural order, each in the namespace's database; use INSERT for data"
        elif _COPY_DATA.search(text, 0, position):
            hint = _USE_INSERT
        elif _PSQL_VARIABLE.match(text, position - 1):
            hint = "variables of psql are not replaced; write the value, or use a function as the template"
    elif "transaction block" in words:
        hint = "a file is one transaction; put what cannot be in one into a file of its own, one statement in each"
    return TemplateFailed(what, where=where, cause=words, hint=hint)
