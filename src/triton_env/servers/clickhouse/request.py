"""What a request means: its parameters and headers, sorted into what they ask for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote_to_bytes

from .accounts import ANYONE, Account
from .errors import (
    BAD_ARGUMENTS,
    CANNOT_PARSE_BOOL,
    INVALID_SESSION_TIMEOUT,
    READONLY,
    ServerError,
)
from .querylog import Sender
from .rewriting import CUSTOM

# Parameters that speak to the HTTP interface; every other one is a setting or a query parameter.
_RESERVED: Final = frozenset(
    {
        "query", "database", "default_format", "user", "password", "quota_key", "query_id", "stacktrace",
        "compress", "decompress", "buffer_size", "wait_end_of_query", "session_id", "session_timeout",
        "session_check", "close_session", "client_protocol_version", "role",
    }
)  # fmt: skip
# Settings of the HTTP interface itself: read here, of no use to the engine. `log_comment` becomes part of a label.
_HTTP_SETTINGS: Final = frozenset(
    {
        "enable_http_compression", "http_zlib_compression_level", "http_wait_end_of_query", "readonly",
        "http_write_exception_in_output_format", "send_progress_in_http_headers",
        "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close",
        "http_response_buffer_size", "add_http_cors_header", "log_comment",
        "http_response_headers",
    }
)  # fmt: skip
_FLAGS: Final = (
    "compress", "decompress", "wait_end_of_query", "http_wait_end_of_query", "session_check", "close_session",
    "enable_http_compression", "http_write_exception_in_output_format", "send_progress_in_http_headers",
    "add_http_cors_header",
)  # fmt: skip
_NUMBERS: Final = (
    "buffer_size", "readonly", "http_zlib_compression_level", "http_headers_progress_interval_ms",
    "client_protocol_version", "http_response_buffer_size",
)  # fmt: skip
_RARELY: Final = 10_000
"""Milliseconds. A client that asks for progress so rarely wants it against timeouts of the network: clickhouse-connect
does, every two minutes."""
_TRUE, _FALSE = (
    frozenset({"1", "true", "on", "yes"}),
    frozenset({"0", "false", "off", "no", ""}),
)


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """One request for `/`, understood. The body is not part of it."""

    method: str
    query: bytes
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    custom_settings: Mapping[str, str] = field(default_factory=dict)
    query_parameters: Mapping[str, str] = field(default_factory=dict)
    query_id: str = ""
    database: str = ""
    default_format: str = ""
    roles: tuple[str, ...] = ()
    account: Account = field(kw_only=True)  # without a default: what makes a request has to know who sent it
    defaults: Mapping[str, str] = field(default_factory=dict)
    """The settings with which the connections of its user begin."""
    home: str = ""
    """The database in which they begin; empty: that of the server."""

    client_name: str | None = None
    """What the client calls itself over the native protocol; None over HTTP."""

    @property
    def sender(self) -> Sender:
        """Where it comes from, for the log of queries."""
        if self.client_name is not None:
            return Sender(name=self.client_name)
        return Sender(method=self.method, agent=self.headers.get("user-agent", ""))

    @property
    def content_type(self) -> str:
        """The media type of the body, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def readonly(self) -> int:
        """The `readonly` level: what the request asks for, and 2 for a GET, as on a real server."""
        return self.number("readonly", 0) or (2 if self.method in ("GET", "HEAD") else 0)

    @property
    def replaces_running(self) -> bool:
        """Whether a query that runs under the same id is to be ended."""
        return self.settings.get("replace_running_query", "").lower() in _TRUE

    @property
    def protocol_version(self) -> int:
        """The version of the native protocol that the client reads in the format Native; 0 for the oldest."""
        return self.number("client_protocol_version", 0)

    @property
    def watches_progress(self) -> bool:
        """Whether the client wants to know how far the query is."""
        often = self.number("http_headers_progress_interval_ms", 100) < _RARELY
        return often and self.flag("send_progress_in_http_headers")

    @property
    def wait_end_of_query(self) -> bool:
        """Whether nothing may be sent before the query is done."""
        return self.flag("wait_end_of_query") or self.flag("http_wait_end_of_query")

    @property
    def log_comment(self) -> str:
        """What the client wants to find in the log of queries."""
        return self.parameters.get("log_comment", "")

    def flag(self, name: str, default: bool = False) -> bool:
        """A parameter that is a truth value."""
        value = self.parameters.get(name)
        if value is None:
            return default
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise ServerError(
            CANNOT_PARSE_BOOL,
            f"Cannot parse boolean value here: '{value}' of parameter {name}",
        )

    def number(self, name: str, default: int) -> int:
        """A parameter that is a whole number of at least zero."""
        value = self.parameters.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise ServerError(BAD_ARGUMENTS, f"Cannot parse number '{value}' of parameter {name}")
        return int(value)

    def check(self) -> QueryRequest:
        """Refuse values that cannot be understood before anything is done that they were to shape."""
        for name in _FLAGS:
            self.flag(name)
        for name in _NUMBERS:
            self.number(name, 0)
        if self.method in ("GET", "HEAD") and self.number("readonly", 2) != 2:
            raise ServerError(READONLY, "Cannot modify 'readonly' setting in readonly mode")
        return self

    def session_timeout(self, default: int, maximum: int) -> int:
        """How long the session may lie unused, in seconds."""
        value = self.parameters.get("session_timeout")
        if value is None:
            return default
        if not (value.isascii() and value.isdigit()):
            raise ServerError(INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{value}'")
        if len(value) > 18 or int(value) > maximum:
            raise ServerError(
                INVALID_SESSION_TIMEOUT,
                f"Session timeout '{value}' is larger than max_session_timeout: {maximum}. "
                "Maximum session timeout could be modified in configuration file.",
            )
        return int(value)

    def with_form(self, pairs: Iterable[tuple[bytes, bytes]]) -> QueryRequest:
        """The same request with what a form in its body adds; what the URL says goes first."""
        sent = list(pairs)
        query = self.query or b"".join(value for name, value in sent if name == b"query")
        merged = list(self.parameters.items())
        merged += [(name, value) for name, value in _decoded(sent) if name not in self.parameters]
        full = build(self.method, merged, self.headers, query).check()
        return self.account.prepared(replace(full, query_id=self.query_id, roles=self.roles, account=self.account))


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers by lower-case name; of a repeated one the last counts."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def form_pairs(encoded: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a URL-encoded string. (urllib's own function takes no bytes outside of ASCII.)"""
    pairs = (field.replace(b"+", b" ").partition(b"=") for field in encoded.split(b"&") if field)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs]


def parse(method: str, query_string: bytes, headers: Mapping[str, str]) -> QueryRequest:
    """Understand the URL and the headers of a request.

    Raises:
        ServerError: a parameter is not text, or has a value that it cannot have.
    """
    pairs = form_pairs(query_string)
    query = next((value for name, value in pairs if name == b"query"), b"")
    return build(method, list(_decoded(pairs)), headers, query).check()


def _decoded(pairs: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    for name, value in pairs:
        if name in (b"", b"query"):
            continue
        try:
            yield name.decode(), value.decode()
        except UnicodeDecodeError:
            raise ServerError(BAD_ARGUMENTS, "A request parameter is not valid UTF-8") from None


def build(method: str, pairs: list[tuple[str, str]], headers: Mapping[str, str], query: bytes) -> QueryRequest:
    """Sort decoded parameters into what they mean."""
    parameters: dict[str, str] = {}
    settings: dict[str, str] = {}
    custom: dict[str, str] = {}
    query_parameters: dict[str, str] = {}
    multipart = headers.get("content-type", "").lower().startswith("multipart/form-data")
    for name, value in pairs:
        parameters.setdefault(name, value)
        if name.startswith("param_"):
            query_parameters.setdefault(name.removeprefix("param_"), value)
        elif multipart and name.endswith(("_format", "_types", "_structure")):
            continue  # says what an external table is like
        elif name.startswith(CUSTOM):
            custom[name] = value
        elif name not in _RESERVED and name not in _HTTP_SETTINGS:
            settings[name] = value
    return QueryRequest(
        method=method,
        query=query,
        parameters=parameters,
        headers=headers,
        settings=settings,
        custom_settings=custom,
        query_parameters=query_parameters,
        query_id=parameters.get("query_id") or headers.get("x-clickhouse-query-id") or str(uuid.uuid4()),
        database=headers.get("x-clickhouse-database") or parameters.get("database", ""),
        default_format=headers.get("x-clickhouse-format") or parameters.get("default_format", ""),
        roles=tuple(value for name, value in pairs if name == "role"),
        account=ANYONE,
    )
