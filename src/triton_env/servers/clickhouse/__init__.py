"""A ClickHouse-compatible HTTP server on the chdb engine, one process.

Start it with ``python -m triton_env.servers.clickhouse``; `config.ServerConfig` has its options. Nothing is imported
here, so that a start loads only what serving needs.
"""
