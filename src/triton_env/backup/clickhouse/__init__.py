"""ClickHouse: statements and, for each table that holds data, its rows in the format Native."""
