"""Statements of an archive that a superuser has to run: each is read into tokens, has to be of one known form, and is
put together again from quoted names and words of that form. Text of the file is never sent as it is."""

import re
from collections.abc import Iterator, Sequence

from psycopg import sql

from triton_env.services.postgres.toc import Entry

_TOKEN = re.compile(
    r"""\s+ | "(?P<name>(?:[^"]|"")+)" | '(?P<literal>(?:[^']|'')*)' | (?P<word>[A-Za-z_][A-Za-z0-9_]*)"""
    r"""| (?P<number>[0-9]+) | (?P<sign>[(),.;=*\[\]])""",
    re.VERBOSE,
)
_PRIVILEGE = (
    r"(ALL( PRIVILEGES)?|SELECT|INSERT|UPDATE|DELETE|TRUNCATE|REFERENCES|TRIGGER|MAINTAIN|USAGE|CREATE|EXECUTE)"
    r"( \( @( , @)* \))?"
)
_PRIVILEGES = rf"{_PRIVILEGE}( , {_PRIVILEGE})*"
_TO = r"(TO (@|PUBLIC)( WITH GRANT OPTION)?|FROM (@|PUBLIC))"
_VERB = r"(GRANT|REVOKE( GRANT OPTION FOR)?)"
_ONE = r"(TABLE|SEQUENCE|TYPE|DOMAIN) @ \. @|(SCHEMA|LANGUAGE|FOREIGN DATA WRAPPER|FOREIGN SERVER) @|LARGE OBJECT #"
_ROUTINE = r"(FUNCTION|PROCEDURE|ROUTINE) @ \. @ \([^;~]*\)"
_OPTIONS = r"\( [A-Z_]+ = (~|#|[A-Z_]+)( , [A-Z_]+ = (~|#|[A-Z_]+))* \)"
_ALLOWED = {
    "ACL": re.compile(
        rf"{_VERB} {_PRIVILEGES} ON ({_ONE}|{_ROUTINE}) {_TO}|SET SESSION AUTHORIZATION @|RESET SESSION AUTHORIZATION"
    ),
    "DEFAULT ACL": re.compile(
        rf"ALTER DEFAULT PRIVILEGES FOR ROLE @( IN SCHEMA @)? {_VERB} {_PRIVILEGES} "
        rf"ON (TABLES|SEQUENCES|FUNCTIONS|ROUTINES|TYPES|SCHEMAS|LARGE OBJECTS) {_TO}"
    ),
    "EXTENSION": re.compile(r"CREATE EXTENSION IF NOT EXISTS @ WITH SCHEMA @"),
    "COMMENT": re.compile(r"COMMENT ON (EXTENSION|PUBLICATION|SUBSCRIPTION) @ IS ~"),
    "PUBLICATION": re.compile(rf"CREATE PUBLICATION @ FOR ALL TABLES( WITH {_OPTIONS})?"),
    "PUBLICATION TABLES IN SCHEMA": re.compile(r"ALTER PUBLICATION @ ADD (TABLES|ALL TABLES) IN SCHEMA @"),
    # It neither connects nor makes a slot: that is done by ALTER SUBSCRIPTION, by hand.
    "SUBSCRIPTION": re.compile(
        r"CREATE SUBSCRIPTION @ CONNECTION ~ PUBLICATION @( , @)* "
        r"WITH \( CONNECT = FALSE( , [A-Z_]+ = (~|#|[A-Z_]+))* \)"
    ),
}
_SERVERS_OWN = ("pg_catalog", "information_schema")

Token = tuple[str, str]
"""Its kind (a name of a group in `_TOKEN`) and its value."""


class NotAllowed(Exception):
    """A statement is not of the form that its entry claims; the message quotes it."""


def statements(entry: Entry) -> Iterator[sql.Composed]:
    """The statements of an entry, put together anew.

    Raises:
        NotAllowed: they are not what pg_dump writes for an entry of that kind.
    """
    form = _ALLOWED[entry.description]
    for tokens in _split(entry):
        shape = " ".join(_shape(*token) for token in tokens)
        if not form.fullmatch(shape) or _is_of_the_server(shape, tokens):
            raise NotAllowed(f"{entry.description} {entry.tag}: {entry.definition[:200]}")
        yield sql.SQL(" ").join(_composed(*token) for token in tokens)


def names(entry: Entry) -> list[str]:
    """The quoted names in an entry's only statement, in their order."""
    (tokens,) = _split(entry)
    return [value for kind, value in tokens if kind == "name"]


def _split(entry: Entry) -> list[list[Token]]:
    found: list[list[Token]] = [[]]
    position = 0
    while position < len(entry.definition):
        match = _TOKEN.match(entry.definition, position)
        if match is None:
            raise NotAllowed(f"{entry.description} {entry.tag}: {entry.definition[:200]}")
        position = match.end()
        kind = match.lastgroup
        if kind == "sign" and match[0] == ";":
            found.append([])
        elif kind == "name":
            found[-1].append((kind, match[kind].replace('""', '"')))
        elif kind == "literal":
            found[-1].append((kind, match[kind].replace("''", "'")))
        elif kind is not None:
            found[-1].append((kind, match[kind]))
    return [tokens for tokens in found if tokens]


def _shape(kind: str, value: str) -> str:
    if kind == "word":
        return value.upper()
    return value if kind == "sign" else {"name": "@", "literal": "~", "number": "#"}[kind]


def _composed(kind: str, value: str) -> sql.Composable:
    if kind == "name":
        return sql.Identifier(value)
    return sql.Literal(value) if kind == "literal" else sql.SQL(value)


def _is_of_the_server(shape: str, tokens: Sequence[Token]) -> bool:
    """Whether it lets others use what is the server's own, such as a function that reads files, or passwords."""
    match = re.match(rf"{_VERB} {_PRIVILEGES} ON (FUNCTION|PROCEDURE|ROUTINE|TABLE|SCHEMA) ", shape)
    if match is None:
        return False
    on = shape.split(" ").index("ON")
    return tokens[on + 2][1] in _SERVERS_OWN
