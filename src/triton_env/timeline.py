"""What happened during a start, as it happens (events) and afterwards (a timeline)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Timeline:
    """How a start went: the spans of all services in the order in which they began."""

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


Listener = Callable[[Event], None]


class Recorder:
    """Takes the phases that services report, from any thread, and tells the listener."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._zero = time.monotonic()
        self._listener = listener
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def report(self, service: str, phase: Phase, detail: str = "") -> None:
        """Note that `service` is in `phase` now."""
        event = Event(service, phase, time.monotonic() - self._zero, detail)
        with self._lock:
            self._events.append(event)
            if self._listener is not None:
                self._listener(event)

    def timeline(self) -> Timeline:
        """The spans so far. A span ends where its service's next phase begins; an open one is left out."""
        with self._lock:
            events = tuple(self._events)
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
