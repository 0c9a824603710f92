"""`system.query_log` as clients know it, on top of the log that the engine keeps.

The engine gives each query an id of its own, has one user, logs the statements of this server beside those of its
clients, and the text of a query with the file to which its result goes. So each request labels its connection, in the
only setting that is logged and has no effect, and a view shows what was labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from . import sql

OWN: Final = "/* server */ "
"""How a statement of this server itself begins."""
ENGINE_TABLE: Final = "engine_query_log"
"""What the engine's log is called, in the database `system`; see `engine_config`."""
_SEPARATOR: Final = "\x1f"
_PARTS: Final = 7
# `with_output` in `sql` writes what this takes away.
_OUTPUT: Final = r"\\nINTO OUTFILE \'/dev/fd/[0-9]+\' TRUNCATE( |\\nFORMAT [A-Za-z0-9]+)"
# What `with_comment` adds to the text of a query.
_LABEL: Final = f"[0-9a-f]{{32}}({_SEPARATOR}[^{_SEPARATOR}]*){{{_PARTS - 2}}}{_SEPARATOR}"


def _braced(pattern: str) -> str:
    return pattern.replace("{", "{{").replace("}", "}}")


_WITH: Final = f"splitByChar('{_SEPARATOR}', {{}}) AS label, length(label) = {_PARTS} AS is_labelled"
_COLUMNS: Final = f"""
    if(is_labelled, label[2], query_id) AS query_id,
    if(is_labelled, label[2], initial_query_id) AS initial_query_id,
    if(is_labelled, toUInt8(label[4] = '' ? 1 : 2), interface) AS interface,
    if(is_labelled, transform(label[4], ['GET', 'HEAD', 'POST', 'PUT'], [1, 1, 2, 2], 0)::UInt8, http_method)
        AS http_method,
    if(is_labelled, label[3], user)::{{0}} AS user,
    if(is_labelled, label[3], initial_user)::{{0}} AS initial_user,
    if(is_labelled, label[5], client_name)::{{0}} AS client_name,
    if(is_labelled, label[6], http_user_agent)::{{0}} AS http_user_agent,
    if(is_labelled, mapFilter((name, value) -> name != 'log_comment' OR value != '',
        mapApply((name, value) -> (name, if(name = 'log_comment', label[7], value)), Settings)), Settings) AS Settings,
    replaceRegexpAll(replaceRegexpOne(replaceAll(query, 'system.client_processes', 'system.processes'),
        '{_braced(_OUTPUT)}', ''), '{_braced(_LABEL)}', '') AS query
"""
_LOW: Final = "LowCardinality(String)"
_FROM: Final = f"WHERE NOT startsWith(query, '{OWN.strip()}')"

VIEW: Final = f"""
CREATE OR REPLACE VIEW system.query_log AS WITH {_WITH.format("log_comment")}
SELECT * REPLACE (if(is_labelled, label[7], log_comment) AS log_comment, {_COLUMNS.format(_LOW)})
FROM system.{ENGINE_TABLE} {_FROM}
"""  # noqa: S608
PROCESSES: Final = "client_processes"
PROCESSES_VIEW: Final = f"""
CREATE OR REPLACE VIEW system.{PROCESSES} AS WITH {_WITH.format("Settings['log_comment']")}
SELECT * REPLACE ({_COLUMNS.format("String")}) FROM system.processes {_FROM}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Sender:
    """Where a query comes from: over HTTP with a method and a user agent, or over the native protocol with a name."""

    method: str = ""
    name: str = ""
    agent: str = ""


def label(tag: str, query_id: str, user: str, sender: Sender, comment: str) -> str:
    """What a connection with `tag` is labelled with while it runs a query; `comment` as its client's `log_comment`."""
    parts = (query_id, user, sender.method, sender.name, sender.agent, comment)
    return _SEPARATOR.join([tag, *(part.replace(_SEPARATOR, "?") for part in parts)])


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
    head = _SEPARATOR.join([*label.split(_SEPARATOR)[: _PARTS - 1], ""])
    return sql.quote(head).encode("utf-8", "surrogateescape")[:-1] + comment[1:].replace(_SEPARATOR.encode(), b"?")


def comment_of(label: str) -> str:
    """The comment of a client in a label."""
    return label.split(_SEPARATOR, _PARTS - 1)[-1]
