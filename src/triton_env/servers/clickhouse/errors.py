"""Errors as ClickHouse reports them: a number, a name, a text, and the HTTP status that goes with it.

ServerError             anything that is reported to a client as "Code: N. DB::Exception: ..."
  ClientGoneError       the client closed its connection, and gets no answer
"""

from __future__ import annotations

import re
from typing import Final

# Numbers and names: ClickHouse, src/Common/ErrorCodes.cpp.
UNKNOWN_DATABASE: Final = (81, "UNKNOWN_DATABASE")
UNKNOWN_SETTING: Final = (115, "UNKNOWN_SETTING")
UNKNOWN_USER: Final = (192, "UNKNOWN_USER")
THERE_IS_NO_PROFILE: Final = (180, "THERE_IS_NO_PROFILE")
ACCESS_ENTITY_ALREADY_EXISTS: Final = (493, "ACCESS_ENTITY_ALREADY_EXISTS")
ACCESS_STORAGE_READONLY: Final = (495, "ACCESS_STORAGE_READONLY")
UNKNOWN_ROLE: Final = (511, "UNKNOWN_ROLE")
SET_NON_GRANTED_ROLE: Final = (512, "SET_NON_GRANTED_ROLE")
UNKNOWN_ROW_POLICY: Final = (523, "UNKNOWN_ROW_POLICY")
SETTING_CONSTRAINT_VIOLATION: Final = (452, "SETTING_CONSTRAINT_VIOLATION")
ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND: Final = (514, "ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND")
UNKNOWN_STATUS_OF_INSERT: Final = (319, "UNKNOWN_STATUS_OF_INSERT")
UNKNOWN_QUERY_PARAMETER: Final = (456, "UNKNOWN_QUERY_PARAMETER")
TOO_DEEP_RECURSION: Final = (306, "TOO_DEEP_RECURSION")
NOT_IMPLEMENTED: Final = (48, "NOT_IMPLEMENTED")
QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING: Final = (216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING")
ACCESS_DENIED: Final = (497, "ACCESS_DENIED")
BAD_ARGUMENTS: Final = (36, "BAD_ARGUMENTS")
SYNTAX_ERROR: Final = (62, "SYNTAX_ERROR")
UNKNOWN_FORMAT: Final = (73, "UNKNOWN_FORMAT")
CANNOT_DECOMPRESS: Final = (271, "CANNOT_DECOMPRESS")
CHECKSUM_DOESNT_MATCH: Final = (40, "CHECKSUM_DOESNT_MATCH")
TOO_LARGE_SIZE_COMPRESSED: Final = (39, "TOO_LARGE_SIZE_COMPRESSED")
READONLY: Final = (164, "READONLY")
QUERY_IS_TOO_LARGE: Final = (229, "QUERY_IS_TOO_LARGE")
INTO_OUTFILE_NOT_ALLOWED: Final = (358, "INTO_OUTFILE_NOT_ALLOWED")
SESSION_NOT_FOUND: Final = (372, "SESSION_NOT_FOUND")
SESSION_IS_LOCKED: Final = (373, "SESSION_IS_LOCKED")
INVALID_SESSION_TIMEOUT: Final = (374, "INVALID_SESSION_TIMEOUT")
HTTP_LENGTH_REQUIRED: Final = (381, "HTTP_LENGTH_REQUIRED")
UNKNOWN_TYPE_OF_QUERY: Final = (78, "UNKNOWN_TYPE_OF_QUERY")
CANNOT_PARSE_BOOL: Final = (467, "CANNOT_PARSE_BOOL")
AUTHENTICATION_FAILED: Final = (516, "AUTHENTICATION_FAILED")
UNKNOWN_COMPRESSION_METHOD: Final = (89, "UNKNOWN_COMPRESSION_METHOD")
UNEXPECTED_END_OF_FILE: Final = (3, "UNEXPECTED_END_OF_FILE")
NETWORK_ERROR: Final = (210, "NETWORK_ERROR")
QUERY_WAS_CANCELLED: Final = (394, "QUERY_WAS_CANCELLED")
CLUSTER_DOESNT_EXIST: Final = (701, "CLUSTER_DOESNT_EXIST")
TABLE_ALREADY_EXISTS: Final = 57
INCORRECT_DATA: Final = (117, "INCORRECT_DATA")
NO_SUCH_COLUMN_IN_TABLE: Final = (16, "NO_SUCH_COLUMN_IN_TABLE")
UNEXPECTED_PACKET_FROM_CLIENT: Final = (101, "UNEXPECTED_PACKET_FROM_CLIENT")
CLIENT_HAS_CONNECTED_TO_WRONG_PORT: Final = (217, "CLIENT_HAS_CONNECTED_TO_WRONG_PORT")
UNKNOWN_EXCEPTION: Final = (1002, "UNKNOWN_EXCEPTION")

# Which code answers with which status: ClickHouse, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp.
_STATUS_CODES: Final[dict[int, frozenset[int]]] = {
    401: frozenset({194}),
    403: frozenset({192, 193, 497, 512, 516}),
    400: frozenset(
        {
            6,
            8,
            15,
            25,
            26,
            27,
            36,
            37,
            38,
            41,
            44,
            53,
            62,
            72,
            117,
            123,
            167,
            168,
            223,
            321,
            376,
            427,
            441,
            675,
            676,
        }
    ),
    404: frozenset({46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511}),
    413: frozenset({229}),
    501: frozenset({48}),
    503: frozenset({76, 209, 439}),
    411: frozenset({381}),
    408: frozenset({159}),
    415: frozenset({779}),
}
_STATUS_OF: Final = {code: status for status, codes in _STATUS_CODES.items() for code in codes}

# As its classes write themselves (ClickHouse, src/Common/Exception.cpp): DB::Exception, DB::NetException and others;
# what comes from outside of its own code is "Poco::Exception. Code: 1000, ...".
_CODE = re.compile(r"Code: (\d+)\. ([\w:]*Exception): ")
_FOREIGN = re.compile(r"^([\w:]+)\. Code: (\d+), ")
_FOREIGN_NAMES: Final = {1000: "POCO_EXCEPTION", 1001: "STD_EXCEPTION"}
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^)]*\))?\s*$")
_VERSION = re.compile(r"(?: \(version [0-9.]+(?: \(official build\))?\))(?=[.\s]|$)")


class ServerError(Exception):
    """An error that is reported to a client."""

    def __init__(self, kind: tuple[int, str], message: str) -> None:
        """`kind` is a pair of number and name from the table above, `message` what happened."""
        super().__init__(message)
        self.code, self.name = kind
        self.message = message
        self.kind = "DB::Exception"
        # Media type and body, where the error is to be written in the format of the result.
        self.formatted: tuple[str, bytes] | None = None

    @property
    def status(self) -> int:
        """The HTTP status a real server answers with for this code."""
        return _STATUS_OF.get(self.code, 500)

    def text(self, version: str) -> str:
        """The line a client reads, as ClickHouse writes it."""
        return f"Code: {self.code}. {self.kind}: {self.message}. ({self.name}) (version {version})"


class ClientGoneError(ServerError):
    """The client closed its connection before it had its answer."""

    def __init__(self) -> None:
        super().__init__(QUERY_WAS_CANCELLED, "The client closed its connection")


class BrokenStreamError(Exception):
    """A response broke after it had begun, and the error was reported in the stream."""

    def __init__(self, cause: ServerError) -> None:
        super().__init__(f"code {cause.code} ({cause.name})")


def from_engine(text: str) -> ServerError:
    """Translate the text of an engine exception, which may repeat its own head when it was wrapped.

    What it quotes of others, such as of servers that it asked, are exceptions too: the first is the one that came.
    """
    found, foreign = _CODE.search(text), _FOREIGN.match(text)
    if foreign is not None:
        code = int(foreign.group(2))
        message = f"{foreign.group(1)}: {_VERSION.sub('', text[foreign.end() :]).strip().rstrip('.')}"
        return ServerError((code, _FOREIGN_NAMES.get(code, UNKNOWN_EXCEPTION[1])), message)
    if found is None:
        return ServerError(UNKNOWN_EXCEPTION, text.strip().rstrip("."))
    body = text[found.end() :]
    while (nested := _CODE.match(body)) is not None:
        body = body[nested.end() :]
    body = _VERSION.sub("", body).strip()
    name = ""
    while (tail := _NAME.search(body)) is not None and name in ("", tail.group(1)):
        name = tail.group(1)
        body = body[: tail.start()].rstrip(" .")
    error = ServerError((int(found.group(1)), name or UNKNOWN_EXCEPTION[1]), body)
    error.kind = found.group(2)
    return error
