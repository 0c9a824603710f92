"""Plain requests to ClickHouse, for what asks little: clickhouse-connect asks half a dozen questions before its first
query, and it and urllib3 take longer to load than such a request. For what is long, see `http`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from triton_env.services import base

if TYPE_CHECKING:
    from triton_env.services.clickhouse.service import ClickHouse

_GOOD = 200


def authorization(service: ClickHouse) -> dict[str, str]:
    """The HTTP headers by which a client gets in.

    Not user and password as headers of their own: these lose spaces, and have no encoding that all agree on.
    """
    credentials = b64encode(f"{service.user}:{service.password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def ask(service: ClickHouse, queries: Mapping[str, str]) -> str:
    """Send queries, each to its database, and return the last answer.

    Raises:
        ConnectionError: the server refuses one.
        OSError: it does not answer.
    """
    from http.client import HTTPConnection

    content = b""
    headers = authorization(service)
    with closing(HTTPConnection(service.host, service.http_port, timeout=base.CONNECT_TIMEOUT)) as connection:
        for database, query in queries.items():
            connection.request("POST", f"/?database={quote(database)}", query.encode(), headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != _GOOD:
                raise ConnectionError(f"HTTP {response.status}: {content.decode(errors='replace').strip()}")
    return content.decode(errors="replace").strip()
