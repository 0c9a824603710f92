"""Filling a namespace from a folder: SQL for PostgreSQL and ClickHouse, objects for S3."""

import mimetypes
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from triton_env.errors import TemplateFailed, UsageError
from triton_env.isolation.namespace import Namespace
from triton_env.isolation.template import files_in
from triton_env.services import S3, ClickHouse, Postgres

_UPLOADS = 8
"""Objects that are uploaded at once."""

_CLICKHOUSE_TOKEN = re.compile(
    r"""
      --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/
    | '(?: [^'\\] | \\. | '' )*' | `(?: [^`\\] | \\. | `` )*` | "(?: [^"\\] | \\. | "" )*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<end> ; ) | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"(?: \s | --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/ )*", re.VERBOSE | re.DOTALL)


def load(folder: Path, namespace: Namespace) -> None:
    """Fill a namespace from a template's folder. What is for services that the namespace does not have is left out.

    Raises:
        UsageError: there is nothing in the folder that could be loaded.
        TemplateFailed: a server refused something; the message names the file and the place in it.
    """
    parts = {name: folder / name for name in ("postgres", "clickhouse", "s3") if (folder / name).is_dir()}
    if not parts:
        if not any(folder.glob("*.sql")):
            raise UsageError(
                "There is nothing in the template's folder that could be loaded.",
                where=str(folder),
                hint="put SQL files into postgres/ and clickhouse/, and objects into s3/",
            )
        parts = {"postgres": folder}
    for name, part in parts.items():
        if name not in namespace.services:
            continue
        if name == "postgres":
            _load_postgres(part, namespace.postgres)
        elif name == "clickhouse":
            _load_clickhouse(part, namespace.clickhouse)
        else:
            _load_s3(part, namespace.s3)


def _load_postgres(folder: Path, service: Postgres) -> None:
    with service.connect(autocommit=True) as connection:
        for path in _sql_files(folder):
            _run_postgres(path, connection)


def _run_postgres(path: Path, connection: "object") -> None:
    """Run a file as one request, which the server runs in one transaction unless the file says otherwise."""
    import psycopg
    from psycopg.pq import ExecStatus

    assert isinstance(connection, psycopg.Connection)
    text = path.read_text("utf-8")
    pgconn = connection.pgconn
    # Below psycopg's cursors, which do not tell the results before an error.
    pgconn.send_query(text.encode())
    number, failed = 0, None
    while (result := pgconn.get_result()) is not None:
        number += 1
        if result.status == ExecStatus.COPY_IN:
            pgconn.put_copy_end(b"the data of COPY cannot be in the file of a template; use INSERT")
            number -= 1
        elif result.status == ExecStatus.FATAL_ERROR and failed is None:
            failed = (number, result)
    if failed is None:
        return
    number, result = failed
    words = result.get_error_message()
    position = result.error_field(psycopg.pq.DiagnosticField.STATEMENT_POSITION)
    where = f"statement {number}"
    if position:
        where += f", line {text.count(chr(10), 0, int(position) - 1) + 1}"
    alone = "a file is one transaction; put what cannot be in one into a file of its own, one statement in each"
    raise TemplateFailed(
        "PostgreSQL refused a statement of the template.",
        where=f"{path}, {where}",
        cause=words,
        hint=alone if "transaction block" in words else "",
    )


def _load_clickhouse(folder: Path, service: ClickHouse) -> None:
    from triton_env.backup.clickhouse.http import Http, ServerError

    # With the end of the query waited for, an error cannot come behind a part of the answer.
    settings = {"database": service.database, "wait_end_of_query": "1"}
    with Http(service) as http:
        for path in _sql_files(folder):
            for number, line, statement in clickhouse_statements(path.read_text("utf-8")):
                try:
                    http.run(statement, settings)
                except ServerError as error:
                    raise TemplateFailed(
                        "ClickHouse refused a statement of the template.",
                        where=f"{path}, statement {number}, line {line}",
                        cause=str(error),
                    ) from error


def clickhouse_statements(text: str) -> Iterator[tuple[int, int, str]]:
    """The statements of a file: the number of each, its first line, and its text. ClickHouse takes one at a time."""
    start, number = 0, 0
    ends = [match.start() for match in _CLICKHOUSE_TOKEN.finditer(text) if match["end"]]
    for end in (*ends, len(text)):
        comment = _COMMENT.match(text, start, end)
        first = comment.end() if comment else start
        if first < end:
            number += 1
            yield number, text.count("\n", 0, first) + 1, text[first:end].rstrip()
        start = end + 1


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
            raise TemplateFailed("S3 refused an object of the template.", where=str(path), cause=str(error)) from error

    try:
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="triton-template") as pool:
            for _ in pool.map(upload, files_in(folder)):
                pass
    finally:
        client.close()


def _sql_files(folder: Path) -> list[Path]:
    return [path for path in files_in(folder) if path.suffix == ".sql"]
