"""SQL text for ClickHouse taken apart: its statements, of which the server takes one at a time, and `{name:Type}`."""

import re

from triton_env.servers.clickhouse.sql import tokens_of, verb_of
from triton_env.services.statements import Statement

_TYPED_NAME = re.compile(r"\{\s*([^\W\d]\w*)\s*:[^{}]+\}")
_ANY_TEXT = "surrogatepass"
"""Text of a notebook may be none that UTF-8 has: the server refuses it then."""


def clickhouse_statements(text: str) -> list[Statement]:
    """The statements of a text for ClickHouse."""
    content = text.encode(errors=_ANY_TEXT)
    found: list[Statement] = []
    start = end = -1
    for token in tokens_of(content + b"\n;"):
        if token.group() != b";":
            start, end = token.start() if start < 0 else start, token.end()
        elif start >= 0:
            body, before = content[start:end], content[:start]
            found.append(Statement(_decoded(body), len(_decoded(before)), verb_of(body)))
            start = -1
    return found


def typed_names(statement: str) -> list[str]:
    """The names of the parameters in a statement: `{name:Type}`."""
    content = statement.encode(errors=_ANY_TEXT)
    words = b"".join(token.group() for token in tokens_of(content) if token.lastgroup != "string")
    return list(dict.fromkeys(_TYPED_NAME.findall(_decoded(words))))


def _decoded(content: bytes) -> str:
    return content.decode(errors=_ANY_TEXT)
