"""What ClickHouse reports about itself: queries with their rows and memory, parts, tables and their first rows."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from triton_env.errors import UsageError
from triton_env.services.base_insight import (
    ROWS,
    TEXT,
    Cell,
    Column,
    Insight,
    Metric,
    Panel,
    Row,
    Table,
    cut,
    dotted,
    mark_of,
    names_in,
    room,
    table_of,
)
from triton_env.services.base_isolation import PREFIX, SNAPSHOT
from triton_env.services.clickhouse.service import ClickHouse

if TYPE_CHECKING:
    from triton_env.services.clickhouse.http import Http

_NAME = "triton-env insight"
"""The comment of its queries, so that none of them is shown."""
_UNKNOWN_TABLE = 60
_OF_CLIENTS = "metric LIKE '%Connection' AND metric != 'InterserverConnection'"
"""One for each protocol that clients speak."""
_GAUGES = {"Query": "queries_running", "MemoryTracking": "memory_bytes"}
_COUNTERS = {"Query": "queries_total", "FailedQuery": "failed_queries_total", "InsertedRows": "inserted_rows_total"}
_NUMBERS = f"""
SELECT 'metric', metric, toFloat64(value) FROM system.metrics WHERE metric IN {(*_GAUGES,)} OR {_OF_CLIENTS}
UNION ALL SELECT 'event', event, toFloat64(value) FROM system.events WHERE event IN {(*_COUNTERS,)}
UNION ALL SELECT 'part', name, toFloat64(value) FROM (
    SELECT sum(rows) AS r, sum(bytes_on_disk) AS b, count() AS c FROM system.parts
    WHERE active AND database != 'system'
) ARRAY JOIN ['rows', 'stored_bytes', 'parts'] AS name, [r, b, c] AS value
"""  # noqa: S608
_RUNNING = f"""
SELECT elapsed, user, current_database, read_rows, read_bytes, memory_usage, query_id, substringUTF8(query, 1, {TEXT})
FROM system.processes WHERE NOT (endsWith(Settings['log_comment'], '{_NAME}') OR startsWith(query, '/* server */'))
ORDER BY elapsed DESC LIMIT {ROWS + 1}
"""  # noqa: S608
"""Without what the embedded server asks its engine."""
_RUNNING_COLUMNS = (
    Column("for", "seconds"),
    Column("user"),
    Column("database"),
    Column("rows read", "number"),
    Column("read", "bytes"),
    Column("memory", "bytes"),
    Column("query id"),
    Column("query", "code"),
)
_QUERIES = f"""
SELECT query_duration_ms / 1000, toFloat64(event_time_microseconds), user, current_database, read_rows, result_rows,
    written_rows, memory_usage, substringUTF8(query, 1, {TEXT})
FROM system.query_log
WHERE type = 'QueryFinish' AND event_date >= yesterday() AND event_time > now() - 3600
ORDER BY query_duration_ms DESC, event_time_microseconds DESC LIMIT {ROWS + 1}
"""  # noqa: S608
"""https://clickhouse.com/docs/operations/system-tables/query_log"""
_QUERY_COLUMNS = (
    Column("took", "seconds"),
    Column("at", "time"),
    Column("user"),
    Column("database"),
    Column("rows read", "number"),
    Column("rows in the answer", "number"),
    Column("rows written", "number"),
    Column("memory", "bytes"),
    Column("query", "code"),
)
_FAILURES = f"""
SELECT toFloat64(event_time_microseconds), query_duration_ms / 1000, user, current_database, exception_code,
    substringUTF8(exception, 1, {TEXT}), substringUTF8(query, 1, {TEXT})
FROM system.query_log
WHERE type IN ('ExceptionBeforeStart', 'ExceptionWhileProcessing')
    AND event_date >= yesterday() AND event_time > now() - 3600
ORDER BY event_time_microseconds DESC LIMIT {ROWS + 1}
"""  # noqa: S608
_FAILURE_COLUMNS = (
    Column("at", "time"),
    Column("took", "seconds"),
    Column("user"),
    Column("database"),
    Column("code", "number"),
    Column("error", "code"),
    Column("query", "code"),
)
_DATABASES = f"""
SELECT d.name, d.engine, p.tables, p.rows, p.bytes FROM system.databases AS d LEFT JOIN (
    SELECT database, uniqExact(table) AS tables, sum(rows) AS rows, sum(bytes_on_disk) AS bytes
    FROM system.parts WHERE active GROUP BY database
) AS p ON p.database = d.name
WHERE lower(d.name) NOT IN ('system', 'information_schema')
ORDER BY d.name != {{own:String}}, d.name LIMIT {ROWS + 1}
"""  # noqa: S608
_SIZES = """
SELECT if(startsWith(d.name, {snapshot:String}), splitByString('__', d.name)[1], d.name) AS space, sum(p.bytes)
FROM system.databases AS d LEFT JOIN (
    SELECT database, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active GROUP BY database
) AS p ON p.database = d.name
WHERE startsWith(d.name, {prefix:String}) GROUP BY space
"""
"""A snapshot has a database for each of the user's, whose names begin with that of the first."""
_DATABASE_COLUMNS = (
    Column("database"),
    Column("engine"),
    Column("tables with data", "number"),
    Column("rows", "number"),
    Column("size", "bytes"),
)
_TABLES = f"""
SELECT name, engine, total_rows, total_bytes, toFloat64(toUnixTimestamp(metadata_modification_time))
FROM system.tables WHERE database = {{database:String}} AND NOT is_temporary
ORDER BY total_bytes DESC NULLS LAST, name LIMIT {ROWS + 1}
"""  # noqa: S608
_TABLE_COLUMNS = (
    Column("name"),
    Column("engine"),
    Column("rows", "number"),
    Column("size", "bytes"),
    Column("definition changed", "time"),
)
_PARTS = f"""
SELECT table, partition, name, rows, bytes_on_disk, data_uncompressed_bytes,
    toFloat64(toUnixTimestamp(modification_time)), level
FROM system.parts
WHERE active AND database = {{database:String}} AND ({{table:String}} = '' OR table = {{table:String}})
ORDER BY bytes_on_disk DESC, table, name LIMIT {ROWS + 1}
"""  # noqa: S608
_PART_COLUMNS = (
    Column("table"),
    Column("partition"),
    Column("part"),
    Column("rows", "number"),
    Column("size", "bytes"),
    Column("uncompressed", "bytes"),
    Column("written", "time"),
    Column("merged", "number"),
)
_COLUMNS = """
SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}
ORDER BY position LIMIT 101
"""


class ClickHouseInsight(Insight[ClickHouse]):
    """Looks at a ClickHouse server, with queries that only read and that it does not log."""

    metrics = (
        Metric("connections", "Connections", "Connections of clients, without the one that looks."),
        Metric("queries_total", "Queries", "Queries that were begun.", "counter"),
        Metric("queries_running", "Running queries", "Queries that run now, without the one that looks."),
        Metric("failed_queries_total", "Failed queries", "Queries that ended in an error.", "counter"),
        Metric("inserted_rows_total", "Inserted rows", "Rows that were inserted into any table.", "counter"),
        Metric(
            "parts", "Parts", "Active parts of all tables of the MergeTree family, without those of the server itself."
        ),
        Metric("rows", "Rows", "Rows in these parts."),
        Metric("stored_bytes", "Stored", "Size of these parts on disk, compressed.", unit="bytes"),
        Metric("memory_bytes", "Allocated", "Memory that the server has allocated.", unit="bytes"),
    )
    panels = (
        Panel("running", "Running queries", "No query runs now."),
        Panel("queries", "Slow queries", "No query of the last hour is in system.query_log, which lags some seconds."),
        Panel("failures", "Failed queries", "No failure of the last hour is in system.query_log."),
        Panel("databases", "Databases", "The server has no database."),
        Panel("tables", "Tables", "This database has no table: a migration makes them, or CREATE TABLE.", "database"),
        Panel("parts", "Parts", "No table has a part: inserts make them.", "table"),
        Panel("rows", "First rows", "This table is empty.", "table", needs_argument=True),
    )

    _kept: "Http | None" = None

    def _sample(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        connections = 0.0
        for kind, name, value in self._rows(_NUMBERS):
            match kind:
                case "part":
                    found[name] = value
                case "event":
                    found[_COUNTERS[name]] = value
                case _ if name in _GAUGES:
                    # The one that looks is among the queries. Freed memory may be counted twice.
                    found[_GAUGES[name]] = max(0, value - (name == "Query"))
                case _:
                    connections += value
        found["connections"] = max(0, connections - 1)  # without the one that looks
        return found

    def _sizes(self) -> Mapping[str, int]:
        return {space: int(size) for space, size in self._rows(_SIZES, prefix=PREFIX, snapshot=SNAPSHOT)}

    def _table(self, panel: str, argument: str) -> Table:
        own = self._service.database
        match panel:
            case "running":
                return self._shown(_RUNNING_COLUMNS, _RUNNING, database=2)
            case "queries":
                return self._shown(_QUERY_COLUMNS, _QUERIES, database=3)
            case "failures":
                return self._shown(_FAILURE_COLUMNS, _FAILURES, database=3)
            case "databases":
                found = self._rows(_DATABASES, own=own)
                rows = [Row(tuple(row), "tables", row[0], mark=mark_of(row[0])) for row in found]
                return table_of(_DATABASE_COLUMNS, rows)
            case "tables":
                found = self._rows(_TABLES, database=argument or own)
                rows = [Row(tuple(row), "rows", dotted(argument or own, row[0])) for row in found]
                return table_of(_TABLE_COLUMNS, rows)
            case "parts":
                database, table = self._names(argument) if argument else (own, "")
                return self._shown(_PART_COLUMNS, _PARTS, {"database": database, "table": table})
            case _:
                return self._first_rows(*self._names(argument))

    def _errors(self) -> tuple[type[Exception], ...]:
        from triton_env.services.clickhouse.http import ServerError

        return (ServerError, OSError)

    def _shown(
        self,
        columns: Sequence[Column],
        query: str,
        values: Mapping[str, str] | None = None,
        database: int | None = None,
    ) -> Table:
        """The rows of a query.

        Args:
            values: of its parameters.
            database: in which column the database is that marks a row.
        """
        from triton_env.services.clickhouse.http import ServerError

        try:
            found = self._rows(query, **(values or {}))
        except ServerError as error:
            if error.code == _UNKNOWN_TABLE:
                return table_of(columns, (), "This server keeps no such table.")
            raise
        marks = ["" if database is None else mark_of(row[database]) for row in found]
        return table_of(columns, [Row(tuple(row), mark=mark) for row, mark in zip(found, marks, strict=True)])

    def _first_rows(self, database: str, table: str) -> Table:
        from triton_env.services.clickhouse.http import quoted

        columns = self._rows(_COLUMNS, database=database, table=table)
        if not columns:
            raise UsageError(f"The table {dotted(database, table)} does not exist.", hint="see the panel 'tables'")
        is_wide = len(columns) > 100
        columns = columns[:100]
        length = room(len(columns))
        cells = ", ".join(
            f"'{kind.partition('(')[0]}'"
            if re.search(r"\bAggregateFunction", kind)  # a state, which has no text
            else f"substringUTF8(toString({quoted(name)}), 1, {length + 1})"
            for name, kind in columns
        )
        found = self._rows(f"SELECT {cells} FROM {quoted(database, table)} LIMIT {ROWS + 1}")  # noqa: S608
        rows = [Row(tuple(cut(cell, length) if cell is not None else None for cell in row)) for row in found]
        note = "Of its columns, the first 100 are shown." if is_wide else ""
        return table_of([Column(name) for name, _ in columns], rows, note)

    def _names(self, argument: str) -> tuple[str, str]:
        """The database and the table that are asked for."""
        names = names_in(argument)
        if not 1 <= len(names) <= 2:
            raise UsageError("Name a table.", hint="users, or its database before it: triton.users")
        return (self._service.database, names[0]) if len(names) == 1 else (names[0], names[1])

    def _rows(self, query: str, **values: str) -> list[list[Any]]:
        """The rows of a query; what is not UTF-8 is `\\xff` in them.

        Args:
            **values: of its parameters.
        """
        import urllib3

        from triton_env.services.clickhouse.http import Http

        if self._kept is None:
            self._kept = Http(self._service, timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout))
        settings = {
            "readonly": "2",
            "log_queries": "0",
            "log_comment": _NAME,
            "max_execution_time": str(self._timeout),
            "stream_like_engine_allow_direct_select": "0",  # it would take what others wait for
            "output_format_json_quote_64bit_integers": "0",
            **{f"param_{name}": _escaped(value) for name, value in values.items()},
        }
        content = b"".join(self._kept.stream(f"{query} FORMAT JSONCompactEachRow", settings))
        lines = content.decode(errors="surrogateescape").split("\n")
        return [[_cell(value) for value in json.loads(line)] for line in lines if line]


def _escaped(value: str) -> str:
    """A parameter, as https://clickhouse.com/docs/interfaces/http#tabs-in-url-parameters has it."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _cell(value: Any) -> Cell:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return str(value) if isinstance(value, list | dict) else value
