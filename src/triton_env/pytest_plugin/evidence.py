"""What the services report about a test that failed, asked at once and within a bounded time and size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread
from triton_env.services.base_diagnostics import LINES, Diagnostics

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.services import Service

TIMEOUT = 3.0
"""Seconds for all questions together. A server that is gone must not hold up the report on it."""
_BYTES = 8 << 10
_WIDTH = 200
_CONNECT_TIMEOUT = 2
"""Seconds for one connection: a thread whose answer is no longer awaited ends soon."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask a server.

    Attributes:
        title: what it is about, for people.
        ask: returns the answer in lines, or raises.
    """

    title: str
    ask: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Began:
    """When a test began.

    Attributes:
        at: seconds since the epoch.
        logs: by environment and service, where its log ended then, for `TritonEnvironment.logs`.
    """

    at: float
    logs: Mapping[tuple[str, str], float]


def questions(environment: "TritonEnvironment", service: "Service", began: Began) -> list[Question]:
    """What to ask about one service.

    Args:
        environment: in which it is.
        service: bound to the namespace of the test.
        began: when the test did.
    """
    position = began.logs.get((environment.id, service.name))
    kind = service.parts.load("diagnostics")
    diagnostics: Diagnostics[Service] | None = kind and kind(service, _CONNECT_TIMEOUT)

    def log() -> str:
        lines = environment.logs(service.name, 4 * LINES, since=position).splitlines()
        return "\n".join(lines if diagnostics is None else _read_by(diagnostics, lines))

    when = "since the test began" if position is not None else "last lines"
    asked = [Question(f"{service.title} log, {when}", log)]
    if diagnostics:
        asked.append(Question(f"{service.title} {diagnostics.title}", partial(diagnostics.answer, began.at)))
    return asked


def _read_by(diagnostics: "Diagnostics[Service]", lines: Sequence[str]) -> Iterator[str]:
    """The lines that matter, each with what to do about it."""
    for line in lines:
        if not diagnostics.is_noise(line):
            yield line
            if advice := diagnostics.advice(line):
                yield f"hint: {advice}"


def answers(asked: Sequence[Question], secrets: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """Title and answer of each question that has one; a question that fails is answered by one line.

    Args:
        asked: the questions.
        secrets: that are not to be shown.
    """
    futures = [in_thread(question.ask) for question in asked]
    wait(futures, timeout=TIMEOUT)
    found = []
    for question, future in zip(asked, futures, strict=True):
        if text := bounded(redacted(_answer(future), secrets)):
            found.append((question.title, text))
    return found


def bounded(text: str) -> str:
    """The last lines of a text, as many as a report can bear."""
    lines = [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in text.splitlines() if line.strip()]
    kept = lines[-LINES:]
    while len("\n".join(kept).encode()) > _BYTES:
        del kept[0]
    if len(kept) < len(lines):
        kept[:1] = [f"({len(lines) - len(kept) + 1} lines before)"]
    return "\n".join(kept)


def _answer(future: "Future[str]") -> str:
    if not future.done():
        return f"(no answer within {TIMEOUT:g} s)"
    error = future.exception()
    if error is None:
        return future.result()
    words = str(error).strip().splitlines()
    return f"(cannot be read: {words[0] if words else type(error).__name__})"
