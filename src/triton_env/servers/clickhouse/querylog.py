"""`system.query_log` as clients know it, on top of the log that the engine keeps.

The engine gives each query an id of its own, has one user, logs the statements of this server beside those of its
clients, and the text of a query with the file to which its result goes. So each request labels its connection, in the
only setting that is logged and has no effect, and a view shows what was labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import sql

OWN: Final = "/* server */ "
"""How a statement of this server itself begins."""
ENGINE_TABLE: Final = "engine_query_log"
"""What the engine's log is called, in the database `system`; see `engine_config`."""
_SEPARATOR: Final = "\x1f"
# `with_output` in `sql` writes what this takes away.
_OUTPUT: Final = r"\\nINTO OUTFILE \'/dev/fd/[0-9]+\' TRUNCATE( |\\nFORMAT [A-Za-z0-9]+)"
# What `with_comment` adds to the text of a query.
_LABEL: Final = f"[0-9a-f]{{32}}({_SEPARATOR}[^{_SEPARATOR}]*){{2}}{_SEPARATOR}"

VIEW: Final = f"""
CREATE VIEW IF NOT EXISTS system.query_log AS
WITH splitByChar('{_SEPARATOR}', log_comment) AS label, length(label) = 4 AS is_labelled
SELECT * REPLACE (
    if(is_labelled AND label[2] != '', label[2], query_id) AS query_id,
    if(is_labelled AND label[2] != '', label[2], initial_query_id) AS initial_query_id,
    if(is_labelled, label[4], log_comment) AS log_comment,
    toLowCardinality(if(is_labelled, label[3], user)) AS user,
    toLowCardinality(if(is_labelled, label[3], initial_user)) AS initial_user,
    if(is_labelled, mapFilter((name, value) -> name != 'log_comment', Settings), Settings) AS Settings,
    replaceRegexpAll(replaceRegexpOne(query, '{_OUTPUT}', ''), '{_LABEL}', '') AS query
) FROM system.{ENGINE_TABLE} WHERE NOT startsWith(query, '{OWN.strip()}')
"""  # noqa: S608


def label(tag: str, query_id: str, user: str, comment: str) -> str:
    """What a connection with `tag` is labelled with while it runs a query; `comment` as its client's `log_comment`."""
    return _SEPARATOR.join([tag, *(part.replace(_SEPARATOR, "?") for part in (query_id, user, comment))])


def with_comment(label: str, comment: bytes, parameters: Mapping[str, str]) -> bytes:
    """A label as a literal, with a comment as a statement of the client has it; what is none stays, and fails."""
    if comment.startswith(b"{"):
        name = comment[1:].partition(b":")[0].strip().decode("utf-8", "replace")
        comment = sql.quote(parameters.get(name, "")).encode("utf-8", "surrogateescape")
    elif comment.upper() == b"DEFAULT":
        comment = b"''"
    elif comment.startswith((b"$", b"\xe2")):
        comment = sql.quote(comment.decode("utf-8", "replace")).encode()  # in quotes of another kind, which it keeps
    elif not comment.startswith(b"'"):
        return comment
    head = _SEPARATOR.join([*label.split(_SEPARATOR)[:3], ""])
    return sql.quote(head).encode("utf-8", "surrogateescape")[:-1] + comment[1:].replace(_SEPARATOR.encode(), b"?")


def comment_of(label: str) -> str:
    """The comment of a client in a label."""
    return label.split(_SEPARATOR, 3)[-1]
