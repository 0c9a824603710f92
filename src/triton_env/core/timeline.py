"""What happened during a start, as it happens (events) and afterwards (a timeline)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from html import escape


class Phase(StrEnum):
    """The steps of one service's start."""

    PULL = "pull"
    """The image is looked up and, where it is missing, pulled."""
    CREATE = "create"
    """The container is created."""
    BOOT = "boot"
    """The server was started and does not answer yet."""
    READY = "ready"
    """A client did real work."""
    FAILED = "failed"
    """The start of this service was given up."""


@dataclass(frozen=True, slots=True)
class Event:
    """A service entered a phase, or has news within it.

    Attributes:
        service: the service's name.
        phase: the phase that it is in now.
        at: seconds since the start of the environment.
        detail: words for people ("12 of 80 MB"), or empty.
    """

    service: str
    phase: Phase
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One phase of one service. `start` and `end` are seconds since the start of the environment."""

    service: str
    phase: Phase
    start: float
    end: float

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.start


_COLUMNS = (Phase.PULL, Phase.CREATE, Phase.BOOT)
_LAST_COLUMN = "ready after"


@dataclass(frozen=True, slots=True, repr=False)
class Timeline:
    """How a start went: the spans of all services in the order in which they began.

    `print` and notebooks show a table of it.
    """

    spans: tuple[Span, ...]

    @property
    def total(self) -> float:
        """Seconds from the start of the environment to the last service's readiness."""
        return max((span.end for span in self.spans), default=0.0)

    @property
    def slowest(self) -> str | None:
        """The service that was ready last, which decided the total; None for an empty timeline."""
        return max(self.spans, key=lambda span: span.end).service if self.spans else None

    def of(self, service: str) -> tuple[Span, ...]:
        """The spans of one service."""
        return tuple(span for span in self.spans if span.service == service)

    def ready_at(self, service: str) -> float | None:
        """Seconds from the start of the environment to this service's readiness; None if it never was."""
        return next(
            (span.end for span in self.spans if span.service == service and span.phase is Phase.READY),
            None,
        )

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {ended}" for name, *_, ended in self._rows())
        return f"<Timeline {_seconds(self.total)}{': ' if parts else ''}{parts}>"

    def __str__(self) -> str:
        rows = [("", *_COLUMNS, _LAST_COLUMN), *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join((*lines, f"total: {_seconds(self.total)}"))

    def _repr_html_(self) -> str:
        style = "text-align:right;padding:1px 14px 1px 0"
        rows = [
            "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell in row)
            for tag, row in (("th", ("", *_COLUMNS, _LAST_COLUMN)), *(("td", row) for row in self._rows()))
        ]
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><caption>ready after {escape(_seconds(self.total))}</caption>{table}</table>"

    def _rows(self) -> list[tuple[str, ...]]:
        """For each service its name, what each phase took, and when it was ready."""
        rows = []
        for name in dict.fromkeys(span.service for span in self.spans):
            spans = {span.phase: span for span in self.of(name)}
            took = (_seconds(spans[phase].duration) if phase in spans else "" for phase in _COLUMNS)
            failed = spans.get(Phase.FAILED)
            ready = self.ready_at(name)
            ended = f"failed after {_seconds(failed.end)}" if failed else ""
            rows.append((name, *took, ended if ready is None else _seconds(ready)))
        return rows


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


Listener = Callable[[Event], None]


class Recorder:
    """Takes the phases that services report, from any thread, and passes them to the listener."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._zero = time.monotonic()
        self._listener = listener
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def report(self, service: str, phase: Phase, detail: str = "") -> None:
        """Note that `service` is in `phase` now."""
        event = Event(service, phase, self.seconds, detail)
        with self._lock:
            self._events.append(event)
            if self._listener is not None:
                self._listener(event)

    @property
    def seconds(self) -> float:
        """Since the start of the environment."""
        return time.monotonic() - self._zero

    def events(self) -> tuple[Event, ...]:
        """Those so far."""
        with self._lock:
            return tuple(self._events)

    def timeline(self) -> Timeline:
        """The spans so far. A span ends where its service's next phase begins; an open one is left out."""
        events = self.events()
        spans: list[Span] = []
        entered: dict[str, Event] = {}
        for event in events:
            before = entered.get(event.service)
            if before is not None and before.phase is event.phase:
                continue
            if before is not None:
                spans.append(Span(event.service, before.phase, before.at, event.at))
            entered[event.service] = event
            if event.phase in (Phase.READY, Phase.FAILED):
                spans.append(Span(event.service, event.phase, event.at, event.at))
        return Timeline(tuple(sorted(spans, key=lambda span: span.start)))
