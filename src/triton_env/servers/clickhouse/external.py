"""Requests as forms: fields as parameters, files as external tables of the query."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message as HeaderParser
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from . import sql
from .engine import InsertStream
from .errors import BAD_ARGUMENTS, QUERY_IS_TOO_LARGE, ServerError
from .execution import Execution

# No statement starts like this, so a body that does is a form.
_FORM = re.compile(rb"[A-Za-z_]\w*=")


def is_form(body: bytes) -> bool:
    """Whether a body that is announced as a URL-encoded form is one: curl announces every statement so."""
    return _FORM.match(body) is not None


@dataclass(slots=True)
class _Part:
    name: str = ""
    is_file: bool = False
    header_name: bytes = b""
    header_value: bytes = b""
    disposition: str = ""
    value: bytearray = field(default_factory=bytearray)
    stream: InsertStream | None = None


class MultipartReader:
    """Takes a multipart body piece by piece; files go into temporary tables as they come. Blocks."""

    def __init__(self, content_type: str, execution: Execution, field_limit: int) -> None:
        """Read a body of `content_type`; all its fields together may have `field_limit` bytes."""
        header = HeaderParser()
        header["content-type"] = content_type
        boundary = header.get_param("boundary")
        if not isinstance(boundary, str) or not boundary:
            raise ServerError(BAD_ARGUMENTS, "A multipart request must name its boundary")
        self._execution, self._field_limit, self._field_size = execution, field_limit, 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.tables: list[str] = []
        self._part = _Part()
        self._ended = False
        callbacks: dict[str, Callable[..., Any]] = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary.encode("latin-1", "replace"), callbacks)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise ServerError(BAD_ARGUMENTS, f"Cannot parse the multipart request: {error}") from error

    def finish(self) -> None:
        """Check that the body was complete."""
        if not self._ended:
            raise ServerError(BAD_ARGUMENTS, "Cannot parse the multipart request: it ends in the middle")

    def close(self) -> None:
        """Remove the tables again."""
        if self._part.stream is not None:
            self._part.stream.cancel()
            self._part.stream = None
        for name in self.tables:
            self._execution.drop_table(name)
        self.tables.clear()

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]
        self._count(end - start)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]
        self._count(end - start)

    def _on_header_end(self) -> None:
        if self._part.header_name.lower() == b"content-disposition":
            self._part.disposition = self._part.header_value.decode("utf-8", "replace")
        self._part.header_name = self._part.header_value = b""

    def _on_headers_finished(self) -> None:
        header = HeaderParser()
        header["content-disposition"] = self._part.disposition.replace("\r", " ").replace("\n", " ")
        name = header.get_param("name", header="content-disposition")
        self._part.name = name if isinstance(name, str) else ""
        self._part.is_file = header.get_param("filename", header="content-disposition") is not None
        if self._part.is_file:
            self._open_table(self._part.name)

    def _open_table(self, name: str) -> None:
        if not name:
            raise ServerError(BAD_ARGUMENTS, "An external table must have a name")
        structure = self._parameter(f"{name}_structure")
        if structure is None:
            types = self._parameter(f"{name}_types")
            if types is None:
                raise ServerError(
                    BAD_ARGUMENTS, f"Neither {name}_structure nor {name}_types are given for an external table"
                )
            structure = ", ".join(f"_{number} {kind}" for number, kind in enumerate(sql.split_list(types), 1))
        self._execution.lease.prepare(self._execution.request, "SELECT")
        self._execution.create_table(name, sql.quote(structure))
        self.tables.append(name)
        self._part.stream = self._execution.fill_table(name, self._parameter(f"{name}_format") or "TabSeparated")

    def _parameter(self, name: str) -> str | None:
        sent = next((value.decode("utf-8", "replace") for key, value in self.fields if key == name.encode()), None)
        return self._execution.request.parameters.get(name, sent)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.stream is not None:
            self._part.stream.append(data[start:end])
        else:
            self._part.value += data[start:end]
            self._count(end - start)

    def _on_part_end(self) -> None:
        if self._part.stream is not None:
            stream, self._part.stream = self._part.stream, None
            stream.finish()
        else:
            self.fields.append((self._part.name.encode(), bytes(self._part.value)))

    def _on_end(self) -> None:
        self._ended = True

    def _count(self, size: int) -> None:
        self._field_size += size
        if self._field_size > self._field_limit:
            raise ServerError(QUERY_IS_TOO_LARGE, f"The fields of the form are larger than {self._field_limit} bytes")
