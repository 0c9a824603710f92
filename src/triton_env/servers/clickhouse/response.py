"""What an answer looks like on the wire: headers, summary, marks of errors."""

from __future__ import annotations

import json
import re
import secrets
import string
import time
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from .engine import Counters, Engine, FormatInfo
from .errors import BAD_ARGUMENTS, ServerError
from .request import QueryRequest

Headers = list[tuple[bytes, bytes]]

PLAIN_TEXT: Final = "text/plain; charset=UTF-8"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TAG_LENGTH: Final = 16
_ROW_FORMATS: Final = frozenset({"jsoneachrow", "jsonlines", "ndjson", "jsonstringseachrow"})
_DOCUMENT_FORMATS: Final = frozenset({"json", "jsonstrings", "jsoncompact", "jsoncompactstrings"})


def make_tag() -> str:
    """A word that marks the error in a broken stream, unknown to the author of the data."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(_TAG_LENGTH))


def header_value(text: str) -> bytes:
    """`text` fit for a header: what came from a client must not end the header or start another."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return "".join(character if 32 <= ord(character) != 127 else "?" for character in text).encode("latin-1", "replace")


def with_headers(headers: Headers, wanted: Mapping[str, str]) -> Headers:
    """`headers` with those that a client asked for, which go first.

    Raises:
        ServerError: one has a name that no header can have.
    """
    for name in wanted:
        if not _HEADER_NAME.fullmatch(name):
            raise ServerError(BAD_ARGUMENTS, f"Bad name of an HTTP header: '{name}'")
    own = [(name.lower().encode(), header_value(value)) for name, value in wanted.items()]
    return [*(header for header in headers if header[0] not in {name for name, _ in own}), *own]


def cors_headers(request: QueryRequest) -> Headers:
    """What lets the web page that a request came from read the answer, where it asks for that."""
    if request.headers.get("origin") and request.flag("add_http_cors_header"):
        return [(b"access-control-allow-origin", b"*")]
    return []


def base_headers(engine: Engine, query_id: str) -> Headers:
    """The headers of every answer to a query."""
    return [
        (b"x-clickhouse-server-display-name", header_value(engine.host_name)),
        (b"x-clickhouse-query-id", header_value(query_id)),
        (b"x-clickhouse-timezone", header_value(engine.timezone)),
        (b"keep-alive", b"timeout=10"),
    ]


def result_headers(format_info: FormatInfo | None, summary: str) -> Headers:
    """The headers that say what a result is."""
    headers = [(b"x-clickhouse-summary", summary.encode())]
    if format_info is None:
        headers.append((b"content-type", PLAIN_TEXT.encode()))
    else:
        headers.append((b"content-type", header_value(format_info.content_type)))
        headers.append((b"x-clickhouse-format", header_value(format_info.name)))
    return headers


def progress_headers(progress: Sequence[Mapping[str, int]]) -> Headers:
    """One header for each report of how far the query was."""
    return [
        (b"x-clickhouse-progress", json.dumps({key: str(value) for key, value in report.items()}).encode())
        for report in progress
    ]


def error_headers(error: ServerError, content_type: str | None = None) -> Headers:
    """The headers that go with an error; plain text unless another `content_type` is named."""
    headers = [
        (b"content-type", header_value(content_type or PLAIN_TEXT)),
        (b"x-clickhouse-exception-code", str(error.code).encode()),
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="ClickHouse server HTTP API"'))
    return headers


def summary(counters: Counters, started: float) -> str:
    """The value of X-ClickHouse-Summary; `started` as time.monotonic() gave it."""
    values = {
        "read_rows": counters.read_rows,
        "read_bytes": counters.read_bytes,
        "written_rows": counters.written_rows,
        "written_bytes": counters.written_bytes,
        "total_rows_to_read": counters.read_rows,
        "result_rows": counters.result_rows,
        "result_bytes": counters.result_bytes,
        "elapsed_ns": int((time.monotonic() - started) * 1e9),
    }
    return json.dumps({name: str(value) for name, value in values.items()}, separators=(",", ":"))


def formatted_exception(format_name: str, text: str) -> bytes | None:
    """An error as a document of that format, None for formats that cannot hold one.

    Source: ClickHouse documentation, setting http_write_exception_in_output_format.
    """
    name = format_name.lower()
    if name in _ROW_FORMATS:
        return json.dumps({"exception": text}, ensure_ascii=False).encode() + b"\n"
    if name in _DOCUMENT_FORMATS:
        document = {"meta": [], "data": [], "rows": 0, "exception": text}
        return json.dumps(document, indent="\t", ensure_ascii=False).encode() + b"\n"
    if name == "xml":
        head = "<?xml version='1.0' encoding='UTF-8' ?>\n<result>\n\t<data>\n\t</data>\n\t<rows>0</rows>\n"
        return f"{head}\t<exception>{escape(text)}</exception>\n</result>\n".encode()
    return None


def broken_stream_mark(text: str, tag: str) -> bytes:
    """The end of a stream that an error broke, as servers since 25.11 write it.

    Source: ClickHouse documentation, HTTP interface, "HTTP response code caveats".
    """
    message = text.rstrip("\n") + "\n"
    return f"\r\n__exception__\r\n{tag}\r\n{message}{len(message.encode())} {tag}\r\n__exception__\r\n".encode()
