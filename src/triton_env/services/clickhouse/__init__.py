"""ClickHouse: all that triton-env knows about it.

`service` describes the server and makes clients. `isolation` gives tests databases of their own. `backup` and `restore`
save statements and, for each table that holds data, its rows in the format Native.
"""
