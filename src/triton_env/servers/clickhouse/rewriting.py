"""What clients say to a server, and the engine in a process does not know: said in its words.

The engine knows another id of a query than the client, has no queue in which the statements for a cluster wait for its
servers, and knows no settings but its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from .errors import CLUSTER_DOESNT_EXIST, ServerError
from .querylog import PROCESSES
from .sql import Span, Token, quote, tokens_of

CUSTOM: Final = "SQL_"
"""How the settings begin that a client makes up, as in the image's configuration (custom_settings_prefixes)."""
CLUSTER_ANSWER: Final = """
SELECT 'localhost' AS host, toUInt16(9000) AS port, toInt64(0) AS status, '' AS error,
    toUInt64(0) AS num_hosts_remaining, toUInt64(0) AS num_hosts_active
"""
"""What a server of a cluster of one answers to a statement for the cluster."""
_CLUSTERS: Final = ("default", "{cluster}")
_OF_INTEREST: Final = re.compile(rb"(?i)query_?id\W|\bcluster\b|getsetting")
_QUERY_ID: Final = (b"queryid", b"query_id", b"initialqueryid", b"initial_query_id")
_FOR_CLUSTERS: Final = frozenset(
    {
        "ALTER", "ATTACH", "CREATE", "DELETE", "DETACH", "DROP", "EXCHANGE", "GRANT", "KILL", "OPTIMIZE", "RENAME",
        "REPLACE", "REVOKE", "SYSTEM", "TRUNCATE", "UNDROP", "UPDATE",
    }
)  # fmt: skip


def rewritten(sql: bytes, verb: str, query_id: str, custom: Mapping[str, str]) -> tuple[bytes, bool]:
    """A statement as the engine takes it, and whether it was one for the cluster.

    Args:
        sql: the statement.
        verb: its first keyword.
        query_id: the id by which the client knows the query.
        custom: the settings that the client made up.

    Raises:
        ServerError: it is for a cluster that is not there.
    """
    if _OF_INTEREST.search(sql) is None:
        return sql, False
    tokens = list(tokens_of(sql))
    changes = [*_calls(tokens, query_id, custom)]
    cluster = _cluster_clause(sql, tokens) if verb in _FOR_CLUSTERS else None
    if cluster is not None:
        changes.append((cluster, b""))
    for span, replacement in sorted(changes, key=lambda change: change[0].start, reverse=True):
        sql = sql[: span.start] + replacement + sql[span.end :]
    return sql, cluster is not None


def _calls(tokens: list[Token], query_id: str, custom: Mapping[str, str]) -> Iterator[tuple[Span, bytes]]:
    """The calls of functions that stand for what only this server knows."""
    for index, token in enumerate(tokens):
        name = token.group().lower()
        following = [each.group() for each in tokens[index + 1 : index + 4]]
        if name in _QUERY_ID and following[:2] == [b"(", b")"]:
            yield Span(token.start(), tokens[index + 2].end()), quote(query_id).encode()
        elif name == b"getsetting" and len(following) == 3 and following[0] == b"(" and following[2] == b")":
            value = custom.get(following[1][1:-1].decode("utf-8", "replace"))
            if value is not None:
                yield Span(token.start(), tokens[index + 3].end()), quote(value).encode()


def processes_by_name(sql: bytes) -> bytes:
    """A statement about `system.processes` that sees what clients call their queries; see `querylog`."""
    tokens = list(tokens_of(sql))
    for table in reversed(range(2, len(tokens))):
        names = [token.group().strip(b'`"') for token in tokens[table - 2 : table + 1]]
        if names == [b"system", b".", b"processes"]:
            sql = b"%b%b%b" % (sql[: tokens[table].start()], PROCESSES.encode(), sql[tokens[table].end() :])
    return sql


def with_connections(sql: bytes, connections: Mapping[str, int]) -> bytes:
    """A statement that reads in `system.metrics` how many connections there are: the engine has none of its own.

    Args:
        connections: their numbers, by the names of the metrics.
    """
    tokens = list(tokens_of(sql))
    names = [token.group().strip(b'`"') for token in tokens]
    if (b"metrics", b".") in pairwise(names):
        return sql  # columns by the name of the table, which a subquery does not have
    counted = "".join(f"metric = {quote(name)}, toInt64({number}), " for name, number in connections.items())
    # A column that `*` does not show, and so only for a statement that may name it.
    alias = ", metric AS name" if b"name" in names else ""
    replacement = f"(SELECT * REPLACE (multiIf({counted}value) AS value){alias} FROM system.metrics)".encode()  # noqa: S608
    for first in reversed(range(1, len(tokens) - 2)):
        if names[first - 1].lower() in (b"from", b"join") and names[first : first + 3] == [b"system", b".", b"metrics"]:
            sql = sql[: tokens[first].start()] + replacement + sql[tokens[first + 2].end() :]
    return sql


def _cluster_clause(sql: bytes, tokens: list[Token]) -> Span | None:
    """Where ``ON CLUSTER name`` stands, which is before any query that the statement holds."""
    words = [token.group().upper() for token in tokens]
    for index, word in enumerate(words[:-2]):
        if word == b"SELECT":
            return None
        if word == b"ON" and words[index + 1] == b"CLUSTER" and tokens[index + 2].lastgroup != "sign":
            name = sql[tokens[index + 2].start() : tokens[index + 2].end()].decode("utf-8", "replace").strip("'`\"")
            if name not in _CLUSTERS:
                raise ServerError(CLUSTER_DOESNT_EXIST, f"Requested cluster '{name}' not found")
            return Span(tokens[index].start(), tokens[index + 2].end())
    return None


def custom_settings(sql: bytes) -> dict[str, str] | None:
    """What ``SET SQL_name = value, ...`` sets; None for any other statement."""
    tokens = [*tokens_of(sql)]
    words = [token.group().decode("utf-8", "replace") for token in tokens if token.group() != b";"]
    found: dict[str, str] = {}
    for start in range(1, len(words), 4):
        setting = words[start : start + 4]
        if len(setting) < 3 or not setting[0].startswith(CUSTOM) or setting[1] != "=" or setting[3:] not in ([], [","]):
            return None
        found[setting[0]] = setting[2].strip("'")
    return found or None
