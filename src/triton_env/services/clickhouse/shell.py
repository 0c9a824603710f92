"""`clickhouse-client`: ClickHouse's shell."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triton_env.services.base_shell import Arguments, ServerShell

if TYPE_CHECKING:
    from triton_env.core.model import Endpoint
    from triton_env.services import ClickHouse

_VARIABLES = 'eval "$(python -m triton_env env%s --format shell)"'


class ClickHouseClient(ServerShell):
    """clickhouse-client."""

    command = program = "clickhouse-client"
    summary = "Open clickhouse-client, or run it with arguments."
    description = """\
    Run clickhouse-client on the ClickHouse that runs here, with address, user, database and password set.

    \b
    python -m triton_env clickhouse-client
    python -m triton_env clickhouse-client --query "select version()"
    python -m triton_env clickhouse-client < queries.sql

    ARGS are passed on; options of this command come before them, and -- before a --help for clickhouse-client. It runs
    in the service's container, and paths are those there; without Docker it is one of this machine.

    Exit status: that of clickhouse-client; 1 if ClickHouse does not run.
    """
    protocol = "native"
    # For servers that come without it.
    instead = 'curl -u "$CLICKHOUSE_USER:$CLICKHOUSE_PASSWORD" "$CLICKHOUSE_HOST:$CLICKHOUSE_HTTP_PORT" -d "select 1"'
    is_always_there = False

    def arguments(self, service: "ClickHouse", at: "Endpoint", given: Arguments) -> Arguments:
        # It takes each option once.
        options = {
            ("--host", "-h"): at.host,
            ("--port",): str(at.port),
            ("--database", "-d"): service.database,
        }
        named = tuple(
            word
            for names, value in options.items()
            if not any(each.startswith(names) for each in given)
            for word in (names[0], value)
        )
        return (*named, *given)

    def variables(self, service: "ClickHouse", at: "Endpoint") -> Mapping[str, str]:
        return {"CLICKHOUSE_USER": service.user, "CLICKHOUSE_PASSWORD": service.password}

    def without(self, options: str) -> str:
        return f"its server speaks HTTP as well; the variables for that come with:\n{_VARIABLES % options}"

    def way_in(self, service: "ClickHouse") -> str:
        if service.native_port is None:
            url = f"http://{service.host}:{service.http_port}/?database={service.database}"
            return shlex.join(("curl", "-u", f"{service.user}:{service.password}", url, "-d", "show tables"))
        where = ("--host", service.host, "--port", str(service.native_port), "--database", service.database)
        return shlex.join(("clickhouse", "client", *where, "--user", service.user, "--password", service.password))


SHELL = ClickHouseClient()
