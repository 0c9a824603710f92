"""`system.query_log` as clients know it, on top of the log that the engine keeps.

The engine gives each query an id of its own, has one user, logs the statements of this server beside those of its
clients, and the text of a query with the file to which its result goes. So each request labels its connection, in the
only setting that is logged and has no effect, and a view shows what was labelled.
"""

from __future__ import annotations

from typing import Final

OWN: Final = "/* server */ "
"""How a statement of this server itself begins."""
ENGINE_TABLE: Final = "engine_query_log"
"""What the engine's log is called, in the database `system`; see `engine_config`."""
_SEPARATOR: Final = "\x1f"
# `with_output` in `sql` writes what this takes away.
_OUTPUT: Final = r"\\nINTO OUTFILE \'/dev/fd/[0-9]+\' TRUNCATE( |\\nFORMAT [A-Za-z0-9]+)"

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
    replaceRegexpOne(query, '{_OUTPUT}', '') AS query
) FROM system.{ENGINE_TABLE} WHERE NOT startsWith(query, '{OWN.strip()}')
"""  # noqa: S608


def label(tag: str, query_id: str, user: str, comment: str) -> str:
    """What a connection with `tag` is labelled with while it runs a query; `comment` as its client's `log_comment`."""
    return _SEPARATOR.join([tag, *(part.replace(_SEPARATOR, "?") for part in (query_id, user, comment))])
