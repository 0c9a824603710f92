"""What the services can tell about a test that failed, asked at once and within a bounded time and size."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.services import S3, ClickHouse, Postgres, Redis, Service

TIMEOUT = 3.0
"""Seconds for all questions together. A server that is gone must not hold up the report on it."""
_LINES = 40
_BYTES = 8 << 10
_WIDTH = 200
_CONNECT_TIMEOUT = 2
"""Seconds for one connection: a thread whose answer nobody waits for ends soon."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask a server.

    Attributes:
        title: what it is about, for people.
        ask: returns the answer in lines, or raises.
    """

    title: str
    ask: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Began:
    """When a test began.

    Attributes:
        at: seconds since the epoch.
        logs: by environment and service, where its log ended then, for `TritonEnvironment.logs`.
    """

    at: float
    logs: Mapping[tuple[str, str], float]


def questions(environment: "TritonEnvironment", service: "Service", began: Began) -> list[Question]:
    """What to ask about one service.

    Args:
        environment: in which it is.
        service: bound to the namespace of the test.
        began: when the test did.
    """
    position = began.logs.get((environment.id, service.name))

    def log() -> str:
        lines = environment.logs(service.name, 4 * _LINES, since=position).splitlines()
        return "\n".join(line for line in lines if not _is_noise(service, line))

    title, ask = _OF_SERVICES[service.name]
    when = "since the test began" if position is not None else "last lines"
    return [
        Question(f"{service.title} log, {when}", log),
        Question(f"{service.title} {title}", lambda: ask(service, began)),
    ]


def answers(asked: Sequence[Question], secrets: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """Title and answer of each question that has one; a question that fails is answered by one line.

    Args:
        asked: the questions.
        secrets: that are not to be shown.
    """
    futures = [in_thread(question.ask) for question in asked]
    wait(futures, timeout=TIMEOUT)
    found = []
    for question, future in zip(asked, futures, strict=True):
        if text := bounded(redacted(_answer(future), secrets)):
            found.append((question.title, text))
    return found


def bounded(text: str) -> str:
    """The last lines of a text, as many as a report can bear."""
    lines = [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in text.splitlines() if line.strip()]
    kept = lines[-_LINES:]
    while len("\n".join(kept).encode()) > _BYTES:
        del kept[0]
    if len(kept) < len(lines):
        kept[:1] = [f"({len(lines) - len(kept) + 1} lines before)"]
    return "\n".join(kept)


_BUCKETS = re.compile(r"AWS s3\.(ListBuckets|CreateBucket|DeleteBucket) => 20")
"""LocalStack does not name the bucket of a request."""


def _is_noise(service: "Service", line: str) -> bool:
    """Whether a line of a log is about the making of namespaces, or about those of other tests."""
    if service.name == "postgres":
        return "LOG:  checkpoint" in line
    if service.name == "s3":
        return ("HTTP/1" in line and f"/{cast('S3', service).bucket}" not in line) or bool(_BUCKETS.search(line))
    return False


def _answer(future: "Future[str]") -> str:
    if not future.done():
        return f"(no answer within {TIMEOUT:g} s)"
    error = future.exception()
    if error is None:
        return future.result()
    words = str(error).strip().splitlines()
    return f"(cannot be read: {words[0] if words else type(error).__name__})"


def _postgres(service: "Postgres", began: Began) -> str:
    with service.connect(connect_timeout=_CONNECT_TIMEOUT, autocommit=True) as connection:
        rows = connection.execute(
            "select pid, coalesce(state, backend_type), coalesce(wait_event_type || ':' || wait_event, '-'),"
            " coalesce(round(extract(epoch from clock_timestamp() - xact_start)::numeric, 1)::text || ' s', '-'),"
            " regexp_replace(left(query, 300), '\\s+', ' ', 'g')"
            " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " order by backend_start limit %s",
            (_LINES - 1,),
        ).fetchall()
    return _table(("pid", "state", "waits for", "transaction", "last query"), rows)


_QUERY_HEAD = ("at", "result", "ms", "query or error")
_QUERIES_SINCE = """
    SELECT toString(event_time), toString(type), query_duration_ms,
        left(if(exception = '', query, exception), 300)
    FROM system.query_log
    WHERE type != 'QueryStart' AND current_database = currentDatabase()
        AND event_time >= toDateTime({began:UInt32})
        AND query NOT ILIKE '%system.%' AND query NOT ILIKE '%version()%' AND query NOT ILIKE 'system %'
    ORDER BY event_time_microseconds DESC LIMIT {limit:UInt32}
"""
"""Without what is asked here, and what clients ask at first.
https://clickhouse.com/docs/operations/system-tables/query_log"""
_NOISE = re.compile(r"system\.|version\(\)|^system |timezone\(\)|^SELECT 1 AS check", re.IGNORECASE)


def _clickhouse(service: "ClickHouse", began: Began) -> str:
    client = service.client(connect_timeout=_CONNECT_TIMEOUT, send_receive_timeout=TIMEOUT)
    try:
        if str(client.command("exists table system.query_log")) != "1":
            return _table(_QUERY_HEAD, _recent_queries(service, began))
        client.command("system flush logs")
        rows = client.query(_QUERIES_SINCE, {"began": int(began.at), "limit": _LINES - 1}).result_rows
        return _table(_QUERY_HEAD, rows[::-1])
    finally:
        client.close()


def _recent_queries(service: "ClickHouse", began: Began) -> list[tuple[str, str, str, str]]:
    """The queries that the embedded server remembers, which keeps no log of them in a table."""
    import urllib3

    from triton_env.services.clickhouse.service import authorization

    headers = authorization(service)
    timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=_CONNECT_TIMEOUT)
    with urllib3.HTTPConnectionPool(
        service.host, service.http_port, timeout=timeout, retries=False, headers=headers
    ) as pool:
        response = pool.request("GET", "/recent_queries")
    if response.status != 200:
        raise ConnectionError(f"HTTP {response.status}")
    rows = []
    for query in map(json.loads, response.data.splitlines()):
        if query["database"] == service.database and query["at"] >= began.at and not _NOISE.search(query["text"]):
            at = datetime.fromtimestamp(query["at"], UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")
            result = "failed" if query["error"] else "done"
            rows.append((at, result, str(query["milliseconds"]), query["error"] or query["text"]))
    return rows[-_LINES + 1 :]


def _redis(service: "Redis", began: Began) -> str:
    with service.client(
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=_CONNECT_TIMEOUT,
    ) as client:
        slow: Any = client.slowlog_get(_LINES // 2)
        # Its clock is the server's own, in whole seconds.
        rows = [
            (entry["id"], f"{entry['duration'] / 1000:.1f}", _text(entry["command"]))
            for entry in slow
            if entry["start_time"] >= int(began.at)
        ]
        return _table(("id", "ms", "command"), rows[::-1])


def _s3(service: "S3", began: Began) -> str:
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_CONNECT_TIMEOUT,
        retries={"total_max_attempts": 1},
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        proxies={},
    )
    client = service.client(config=config)
    try:
        listing = client.list_objects_v2(Bucket=service.bucket, MaxKeys=_LINES)
    finally:
        client.close()
    rows = [(each["Size"], each["LastModified"].isoformat(), each["Key"]) for each in listing.get("Contents", ())]
    more = [("…", "", "and more")] if listing.get("IsTruncated") else []
    return _table(("bytes", "modified", "key"), (rows + more)[-_LINES + 1 :])


_OF_SERVICES: Mapping[str, tuple[str, Callable[[Any, Began], str]]] = {
    "postgres": ("sessions (pg_stat_activity)", _postgres),
    "clickhouse": ("queries", _clickhouse),
    "redis": ("SLOWLOG", _redis),
    "s3": ("bucket", _s3),
}


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns for reading."""
    if not rows:
        return "(none)"
    cells = [tuple(" ".join(_text(cell).split()) for cell in row) for row in (head, *rows)]
    widths = [min(40, max(len(row[column]) for row in cells)) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
        for row in cells
    )
