"""What ClickHouse can say about a test that failed: the queries in its database since it began."""

from triton_env.services.base_diagnostics import LINES, Diagnostics, table
from triton_env.services.clickhouse.service import ClickHouse

_HEAD = ("at", "result", "ms", "query or error")
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


class ClickHouseDiagnostics(Diagnostics[ClickHouse]):
    """The queries of the test, with their errors."""

    title = "queries"

    def answer(self, since: float) -> str:
        client = self._service.client(connect_timeout=self._timeout, send_receive_timeout=self._timeout)
        try:
            client.command("system flush logs")
            if str(client.command("exists table system.query_log")) != "1":
                return ""  # its configuration has none
            rows = client.query(_QUERIES_SINCE, {"began": int(since), "limit": LINES - 1}).result_rows
            return table(_HEAD, rows[::-1])
        finally:
            client.close()
