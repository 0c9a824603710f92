"""Filling a namespace from a folder: SQL for PostgreSQL and ClickHouse, objects for S3."""

import mimetypes
import re
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from triton_env.errors import TemplateFailed, UsageError
from triton_env.isolation.files import files_in, read_sql, shown, sql_files
from triton_env.isolation.namespace import Namespace
from triton_env.services import S3, ClickHouse, Postgres
from triton_env.statements import clickhouse_statements, postgres_statements

if TYPE_CHECKING:
    import psycopg

_PARTS = ("postgres", "clickhouse", "s3")
_UPLOADS = 8
"""Objects that are uploaded at once."""
_COPY_DATA = re.compile(r"\bcopy\b[^;]*\bfrom\s+stdin\b", re.IGNORECASE)
_PSQL_VARIABLE = re.compile(r":['\"]?[A-Za-z_]")
_USE_INSERT = "the data of COPY cannot be in the file of a template; use INSERT"


def load(folder: Path, namespace: Namespace) -> None:
    """Fill a namespace from a template's folder. What is for services that the namespace does not have is left out.

    Raises:
        UsageError: there is nothing in the folder that could be loaded, or something that would be left out.
        TemplateFailed: a server refused something; the message names the file and the place in it.
    """
    for name, part in _parts(folder).items():
        if name not in namespace.services:
            continue
        if name == "postgres":
            _load_postgres(part, namespace.postgres)
        elif name == "clickhouse":
            _load_clickhouse(part, namespace.clickhouse)
        else:
            _load_s3(part, namespace.s3)


def _parts(folder: Path) -> dict[str, Path]:
    parts = {name: folder / name for name in _PARTS if (folder / name).is_dir()}
    if not parts and sql_files(folder):
        return {"postgres": folder}
    beside = [path for path in sorted(folder.iterdir()) if parts and path.suffix.lower() == ".sql"]
    if beside:
        raise UsageError(
            f"A SQL file beside {', '.join(f'{name}/' for name in parts)} belongs to no service.",
            where=shown(beside[0]),
            hint="move it into postgres/ or clickhouse/",
        )
    if not any(next(files_in(part), None) for part in parts.values()):
        raise UsageError(
            "There is nothing in the template's folder that could be loaded.",
            where=shown(folder),
            hint="put SQL files into postgres/ and clickhouse/, and objects into s3/",
        )
    return parts


def _load_postgres(folder: Path, service: Postgres) -> None:
    for path in sql_files(folder):
        text = read_sql(path)
        # A session for each: what one file sets, such as search_path or a role, is not the next one's.
        with service.connect(autocommit=True) as connection:
            _run_postgres(path, text, connection)


def _run_postgres(path: Path, text: str, connection: "psycopg.Connection[Any]") -> None:
    """Run a file as one request, which the server runs in one transaction unless the file says otherwise."""
    from psycopg.pq import ExecStatus, TransactionStatus

    pgconn = connection.pgconn
    # Below psycopg's cursors, which do not tell the results before an error.
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
    where = f"{shown(path)}, statement {number}, line {_line(text, place)}"
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


def _load_clickhouse(folder: Path, service: ClickHouse) -> None:
    from triton_env.services.clickhouse.http import Http, ServerError, quoted

    with Http(service) as http:
        for path in sql_files(folder):
            # With the end of the query waited for, an error cannot come behind a part of the answer. A session for
            # each file: SET, USE and temporary tables hold until its end, and no longer.
            settings = {
                "database": "",
                "session_id": f"triton-template-{token_hex(8)}",
                "session_timeout": "60",
                "wait_end_of_query": "1",
            }
            text = read_sql(path)
            http.run(f"USE {quoted(service.database)}", settings)
            for number, statement in enumerate(clickhouse_statements(text), 1):
                try:
                    http.run(statement.text, settings)
                except ServerError as error:
                    raise TemplateFailed(
                        "ClickHouse refused a statement of the template.",
                        where=f"{shown(path)}, statement {number}, line {_line(text, statement.start)}",
                        cause=str(error),
                    ) from error


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _load_s3(folder: Path, service: S3) -> None:
    client = service.client()
    bucket = service.bucket

    def upload(path: Path) -> None:
        key = path.relative_to(folder).as_posix()
        kind, encoding = mimetypes.guess_type(path.name)
        headers = {"ContentType": kind} if kind and not encoding else {}
        try:
            client.upload_file(str(path), bucket, key, ExtraArgs=headers)
        except Exception as error:
            raise TemplateFailed(
                "S3 refused an object of the template.", where=shown(path), cause=str(error)
            ) from error

    try:
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="triton-template") as pool:
            for _ in pool.map(upload, files_in(folder, strict=True)):
                pass
    finally:
        client.close()
