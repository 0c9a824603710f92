"""What ClickHouse reports about itself: queries with their rows and memory, parts, tables and their first rows."""

from collections.abc import Mapping

from triton_env.services.base_insight import Insight, Metric, Panel, Table
from triton_env.services.clickhouse.service import ClickHouse


class ClickHouseInsight(Insight[ClickHouse]):
    """Looks at a ClickHouse server, with queries that only read and that it does not log."""

    metrics = (
        Metric("connections", "Connections", "Connections of clients, without those that look."),
        Metric("queries_total", "Queries", "Queries that were begun.", "counter"),
        Metric("queries_running", "Running queries", "Queries that run now."),
        Metric("failed_queries_total", "Failed queries", "Queries that ended in an error.", "counter"),
        Metric("inserted_rows_total", "Inserted rows", "Rows that were inserted into any table.", "counter"),
        Metric("parts", "Parts", "Active parts of all tables of the MergeTree family."),
        Metric("rows", "Rows", "Rows in these parts."),
        Metric("stored_bytes", "Stored", "Size of these parts on disk, compressed.", unit="bytes"),
        Metric("memory_bytes", "Memory", "Memory that the server has for queries and caches.", unit="bytes"),
    )
    panels = (
        Panel("running", "Running queries", "No query runs now."),
        Panel("queries", "Queries", "No query has been logged yet: the server writes them down some seconds later."),
        Panel("databases", "Databases", "The server has no database."),
        Panel("tables", "Tables", "This database has no table: a migration makes them, or CREATE TABLE.", "database"),
        Panel("parts", "Parts", "No table has a part: inserts make them.", "table"),
        Panel("rows", "First rows", "This table is empty.", "table", needs_argument=True),
    )

    def _sample(self) -> Mapping[str, float]:
        return {}

    def _table(self, panel: str, argument: str) -> Table:
        return Table((), ())

    def _errors(self) -> tuple[type[Exception], ...]:
        return (OSError,)
