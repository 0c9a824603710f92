"""An application that uses its services the moment it starts, without retries, and says how that went.

GET /health asks all three again: 200 with their versions, or 503.
"""

import json
import os
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import clickhouse_connect
import psycopg
import redis


def postgres() -> str:
    """The version that PostgreSQL says it has."""
    with psycopg.connect(
        host=os.environ["POSTGRES_HOST"],
        port=os.environ["POSTGRES_PORT"],
        user=os.environ["POSTGRES_USER"],
        password=os.environ["POSTGRES_PASSWORD"],
        dbname=os.environ["POSTGRES_DB"],
    ) as connection:
        return str(connection.execute("show server_version").fetchone()[0])


def clickhouse() -> str:
    """The version that ClickHouse says it has."""
    client = clickhouse_connect.get_client(
        host=os.environ["CLICKHOUSE_HOST"],
        port=int(os.environ["CLICKHOUSE_HTTP_PORT"]),
        username=os.environ["CLICKHOUSE_USER"],
        password=os.environ["CLICKHOUSE_PASSWORD"],
        database=os.environ["CLICKHOUSE_DB"],
    )
    return str(client.command("select version()"))


def cache() -> str:
    """The version that Redis says it has."""
    client = redis.Redis(
        host=os.environ["REDIS_HOST"],
        port=int(os.environ["REDIS_PORT"]),
        password=os.environ["REDIS_PASSWORD"] or None,
    )
    return str(client.info("server")["redis_version"])


SERVICES: dict[str, Callable[[], str]] = {"postgres": postgres, "clickhouse": clickhouse, "redis": cache}


def versions() -> dict[str, str]:
    """Ask each service once. The first that does not answer is an error."""
    found = {}
    for name, ask in SERVICES.items():
        try:
            found[name] = ask()
        except Exception as error:
            print(f"connection error: {name}: {error}", flush=True)
            raise
        print(f"{name} answers: {found[name]}", flush=True)
    return found


class Handler(BaseHTTPRequestHandler):
    """Answers /health."""

    def do_GET(self) -> None:
        if self.path != "/health":
            self.send_error(404)
            return
        try:
            status, body = 200, versions()
        except Exception as error:
            status, body = 503, {"error": str(error)}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


if __name__ == "__main__":
    try:
        versions()
    except Exception:
        sys.exit(1)
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
