"""What a service reports about itself while it runs: the part `insight` of a service.

It is the one source for the panels of the dashboard, for `/metrics`, for `top` and for what `ps` asks of a server.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, final

from triton_env.errors import NotOffered, QueryFailed, TritonError, UsageError
from triton_env.services.base import Service
from triton_env.services.names import is_of_restore, kind_of_space

ServiceT = TypeVar("ServiceT", bound=Service)

ROWS = 200
"""Rows that a table has at most."""
TEXT = 2000
"""Characters that a cell has at most."""
CHARACTERS = 1_000_000
"""Characters that a table with many columns has at most."""
PREVIEW = 64 * 1024
"""Bytes of one value that are shown at most."""
LINES = 10_000
"""Lines that a stream has at most."""
STREAM_SECONDS = 60.0
"""Seconds that a stream lasts at most."""

Cell: TypeAlias = str | int | float | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a service reports.

    Attributes:
        name: in snake case, without the service's name, as Prometheus has it: "connections", "commands_total".
        title: for people.
        help: what it counts, in one sentence.
        kind: "counter" for what only grows while the server runs.
        unit: of the number; empty for a count.
    """

    name: str
    title: str
    help: str
    kind: Literal["gauge", "counter"] = "gauge"
    unit: Literal["", "bytes", "seconds"] = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        kind: how its values are shown. "time" is seconds since the epoch, "code" a text that may have several lines.
    """

    name: str
    kind: Literal["text", "number", "bytes", "seconds", "time", "code"] = "text"


@dataclass(frozen=True, slots=True)
class Panel:
    """What can be looked at.

    Attributes:
        name: for addresses.
        title: for people.
        empty: what helps where there is nothing to show.
        argument: what may be asked for, in a word such as "prefix"; empty for nothing. Without it, the panel shows
            what belongs to the environment itself.
        needs_argument: whether it shows nothing without one, so that it is opened from a row of another panel.
        is_stream: whether it is read by `Insight.stream`, not by `Insight.table`.
    """

    name: str
    title: str
    empty: str
    argument: str = ""
    needs_argument: bool = False
    is_stream: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        cells: its values, one for each column. They are data: a face makes them safe to show.
        opens: the panel that shows more of it; empty for none.
        key: the argument for that panel.
        download: the key for `Insight.document`; empty for none.
        mark: whose it is where it is not the user's: "namespace", "template", "snapshot", "space" or "restore".
    """

    cells: tuple[Cell, ...]
    opens: str = ""
    key: str = ""
    download: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What a panel shows.

    Attributes:
        columns: of the rows.
        rows: at most `ROWS`.
        is_cut: whether there is more.
        note: what a reader should know of it; empty for nothing.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    is_cut: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """Something that can be downloaded.

    Attributes:
        name: of a file for it.
        media_type: what it says it is, which may be wrong.
        size: bytes.
        chunks: its content. Close it where it is not read to its end.
    """

    name: str
    media_type: str
    size: int
    chunks: Iterator[bytes]


class Closable(Protocol):
    """A connection, of whatever kind."""

    def close(self) -> object: ...


class Insight(ABC, Generic[ServiceT]):
    """Looks at one server, and changes nothing in it.

    It keeps a connection, made when it is first needed and made again where it broke. It is for one thread at a time;
    streams and documents have connections of their own, and other threads may use it while one is read.

    Args:
        service: the environment's own.
        timeout: seconds that one call may take.
    """

    metrics: ClassVar[tuple[Metric, ...]] = ()
    """The numbers of `sample`. The first counter among them counts operations: what `top` shows per second."""
    panels: ClassVar[tuple[Panel, ...]] = ()
    """What `table` and `stream` show."""

    _kept: "Closable | None" = None
    """The connection, once it is made; each service has its own kind."""
    _totals: "Totals | None" = None
    """For a service that adds up what its server forgets."""

    def __init__(self, service: ServiceT, timeout: float = 5.0) -> None:
        self._service = service
        self._timeout = timeout

    @final
    def count_on(self, before: "Insight[Any]") -> None:
        """Take over what another one of the same server has counted, which then starts anew if it is used again."""
        self._totals, before._totals = before._totals, None

    @final
    def sample(self) -> Mapping[str, float]:
        """The present values of metrics, by their names. One that this server does not offer is left out.

        Raises:
            QueryFailed: the server does not answer in time, or refuses.
            ServiceDied: it has ended.
        """
        with self._asking():
            return self._sample()

    @final
    def sizes(self) -> Mapping[str, int] | Mapping[int, int]:
        """What namespaces, templates and snapshots take, in bytes; empty where the server does not report it.

        They are known by their ids, or by their slots where the service has these; a slot that is empty is left out.

        Raises:
            QueryFailed, ServiceDied: see `sample`.
        """
        with self._asking():
            return self._sizes()

    @final
    def table(self, panel: str, argument: str = "") -> Table:
        """What a panel shows.

        Args:
            argument: see `Panel.argument` and `Row.key`.

        Raises:
            UsageError: the service does not have that panel, or not with this argument.
            QueryFailed, ServiceDied: see `sample`.
        """
        self._check(panel, is_stream=False)
        with self._asking():
            return self._table(panel, argument)

    @final
    def stream(self, panel: str, argument: str, seconds: float, cancelled: threading.Event) -> Iterator[str]:
        """What happens from now on, in lines: at most `LINES` of them, for at most `STREAM_SECONDS`.

        Args:
            panel: with `is_stream`.
            argument: see `Panel.argument`.
            seconds: how long.
            cancelled: ends it within a second.

        Raises:
            UsageError, QueryFailed, ServiceDied: see `table`.
        """
        self._check(panel, is_stream=True)
        return self._lines(panel, argument, min(seconds, STREAM_SECONDS), cancelled)

    def document(self, key: str) -> Document:
        """Something to download.

        Args:
            key: see `Row.download`.

        Raises:
            NotOffered: this service has nothing of the kind.
            UsageError: there is nothing of that key.
            QueryFailed, ServiceDied: see `sample`.
        """
        raise NotOffered(f"{self._service.title} has nothing to download.")

    @final
    def close(self) -> None:
        """Close the connection. May be called again, and the insight may be used afterwards."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    @abstractmethod
    def _sample(self) -> Mapping[str, float]: ...

    def _sizes(self) -> Mapping[str, int] | Mapping[int, int]:
        return {}

    @abstractmethod
    def _table(self, panel: str, argument: str) -> Table: ...

    def _stream(self, panel: str, argument: str, seconds: float, cancelled: threading.Event) -> Iterator[str]:
        raise NotImplementedError

    @abstractmethod
    def _errors(self) -> tuple[type[Exception], ...]:
        """What the client raises where the server does not answer, or refuses."""

    def _lines(self, panel: str, argument: str, seconds: float, cancelled: threading.Event) -> Iterator[str]:
        with self._asking(apart=True):
            for number, line in enumerate(self._stream(panel, argument, seconds, cancelled), 1):
                yield cut(line)
                if number == LINES:
                    return

    def _check(self, name: str, *, is_stream: bool) -> None:
        names = [panel.name for panel in self.panels if panel.is_stream == is_stream]
        if name not in names:
            kind = "stream" if is_stream else "panel"
            raise UsageError(
                f"{self._service.title} has no {kind} {name!r}.",
                hint=f"choose from {', '.join(names)}" if names else "",
            )

    @contextmanager
    def _asking(self, *, apart: bool = False) -> Iterator[None]:
        """Explain a server that does not answer or refuses, and connect again next time.

        Args:
            apart: whether the connection that is kept has nothing to do with it; another thread may use that one.
        """
        try:
            yield
        except TritonError:
            raise
        except self._errors() as error:
            if not apart:
                self.close()
            if died := self._service._died():
                raise died from error
            raise QueryFailed(
                f"{self._service.title} did not answer a question about itself.",
                where=f"{self._service.host}:{self._service.port}",
                cause=str(error) or type(error).__name__,
                hint=f"the log of {self._service.name} may say why",
            ) from error


class Totals:
    """Counters of a server that keeps them for each of its parts, and forgets them with a part that goes.

    What has been counted stays, so that no sum goes back when a namespace is removed.

    Args:
        names: of the counters.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._last: Mapping[str, Sequence[float]] = {}
        self._sums = [0.0] * len(names)

    def after(self, parts: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """The sums, by the names of the counters.

        Args:
            parts: what the server counts now, in the order of the names, by the ids of its parts.
        """
        for part, values in parts.items():
            for place, (value, last) in enumerate(zip(values, self._last.get(part, [0.0] * len(values)), strict=True)):
                # Less than before: it was set back.
                self._sums[place] += value - last if value >= last else value
        self._last = parts
        return dict(zip(self._names, self._sums, strict=True))


def cut(text: str, length: int = TEXT) -> str:
    """A text of at most so many characters, with a mark where it was longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def room(columns: int) -> int:
    """Characters that a cell has at most in a table with so many columns, so that all of it stays small."""
    return max(40, min(TEXT, CHARACTERS // (ROWS * max(1, columns))))


def readable(value: bytes) -> str:
    """Bytes as text that `raw` turns into the same bytes: what is not UTF-8 is `\\xff`, a backslash is doubled."""
    return value.replace(b"\\", rb"\\").decode(errors="backslashreplace")


def raw(text: str) -> bytes:
    """The bytes of a text of `readable`."""
    parts = re.split(r"\\(\\|x[0-9a-fA-F]{2})", text)
    escapes = (b"\\" if part == "\\" else bytes([int(part[1:], 16)]) for part in parts[1::2])
    return parts[0].encode() + b"".join(
        escape + plain.encode() for escape, plain in zip(escapes, parts[2::2], strict=True)
    )


def dotted(*names: str) -> str:
    """Names as one text that `names_in` takes apart: with dots between, and quoted where that is needed."""
    return ".".join(name if re.fullmatch(r"\w+", name) else '"' + name.replace('"', '""') + '"' for name in names)


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text of `dotted`, which people may have typed.

    Raises:
        UsageError: a quotation mark is missing.
    """
    if not re.fullmatch(r'(?:(?:"(?:[^"]|"")*"|[^".]*)(?:\.|$))*', text):
        raise UsageError(f"A quotation mark is missing in {cut(text, 80)!r}.", hint='schema."a name"')
    found = re.findall(r'(?:"((?:[^"]|"")*)"|([^".]+))(?:\.|$)', text)
    return tuple(quoted.replace('""', '"') or plain for quoted, plain in found)


def table_of(columns: Sequence[Column], rows: Sequence[Row], note: str = "", *, is_cut: bool = False) -> Table:
    """A table with as many of these rows as it may have."""
    return Table(tuple(columns), tuple(rows[:ROWS]), is_cut or len(rows) > ROWS, note)


def mark_of(database: str) -> str:
    """The mark of a row about a database or the like; see `Row.mark`."""
    return "restore" if is_of_restore(database) else kind_of_space(database)
