"""A small claims warehouse on PostgreSQL, ClickHouse, Redis and S3: an ordinary application of all four.

It knows the services by the usual environment variables only, see `connections.py`.
"""
