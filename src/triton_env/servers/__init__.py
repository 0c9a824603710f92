"""Programs that the embedded runtime runs as processes: a server that speaks ClickHouse's HTTP interface, and S3."""
