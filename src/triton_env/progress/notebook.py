"""Shows a start below the cell of a notebook: one output, plain HTML, updated in place.

No widget and no JavaScript, so it is the same in Jupyter, VS Code and Colab, and in a notebook that is only looked at.
"""

import threading
import time
from contextlib import suppress
from html import escape
from uuid import uuid4

from triton_env.core.commands import runnable
from triton_env.core.timeline import Event, Phase
from triton_env.progress.rows import Row, seconds_words

_INTERVAL = 0.25
"""Seconds between two updates: each is a message to the notebook."""

_FADED = "opacity:.65"
_CELL = "text-align:left;padding:1px 14px 1px 0;border:0;background:none"


class NotebookDisplay:
    """A row for each service with what it does now; one line of summary in the end.

    Args:
        titles: of the services by name, in the order in which people read them.
    """

    def __init__(self, titles: dict[str, str]) -> None:
        self._titles = titles
        self._rows = dict.fromkeys(titles, Row())
        self._said: list[str] = []
        self._id = uuid4().hex
        self._opened = 0.0
        self._closed = threading.Event()
        self._publishing = threading.Lock()

    def open(self) -> None:
        self._opened = time.monotonic()
        self._publish(update=False)
        with suppress(RuntimeError):  # no thread is available: the last state is shown all the same
            threading.Thread(target=self._keep_up, name="triton-display", daemon=True).start()

    def say(self, words: str) -> None:
        if not self._closed.is_set():
            self._said.append(runnable(words))

    def show(self, event: Event) -> None:
        # The display's own thread publishes: events come in bursts, and their senders have work to do.
        if not self._closed.is_set() and event.service in self._rows:
            self._rows[event.service] = self._rows[event.service].after(event)

    def close(self) -> None:
        # The second thread waits for the last word of the first: what it prints next comes below it.
        with self._publishing:
            if self._closed.is_set():
                return
            self._closed.set()
            if self._opened:
                self._publish_now(update=True)

    def _keep_up(self) -> None:
        while not self._closed.wait(_INTERVAL):
            self._publish()

    def _publish(self, *, update: bool = True) -> None:
        with self._publishing:
            self._publish_now(update=update)

    def _publish_now(self, *, update: bool) -> None:
        from IPython.display import display

        # A notebook that no longer listens may not end a start, whatever its libraries raise then.
        with suppress(Exception):
            data = {"text/html": self._html(), "text/plain": self._text()}
            display(data, raw=True, display_id=self._id, update=update)  # type: ignore[no-untyped-call]

    @property
    def _nothing_began(self) -> bool:
        """Then no service is shown in the end: the error that follows says why."""
        return all(row.phase is None for row in self._rows.values())

    def _html(self) -> str:
        lines = "".join(f'<div style="{_FADED}">triton-env: {escape(words)}</div>' for words in self._said)
        if not self._closed.is_set():
            rows = "".join(self._row(name) for name in self._titles)
            return f'{lines}<table style="border:0;margin:0"><tbody>{rows}</tbody></table>'
        if self._nothing_began:
            return lines
        return f"{lines}<div>{' &ensp; '.join(map(self._outcome, self._titles))}</div>"

    def _text(self) -> str:
        lines = [f"triton-env: {words}" for words in self._said]
        if not self._closed.is_set():
            lines += [f"{title}: {self._rows[name].doing}" for name, title in self._titles.items()]
        elif not self._nothing_began:
            lines.append("   ".join(f"{title} {self._rows[name].outcome}" for name, title in self._titles.items()))
        return "\n".join(lines)

    def _row(self, name: str) -> str:
        row = self._rows[name]
        at = row.at if row.is_over else time.monotonic() - self._opened
        cells = (
            sign(row) or f'<span style="{_FADED}">…</span>',
            f"<b>{escape(self._titles[name])}</b>",
            escape(row.doing),
            f'<span style="{_FADED}">{seconds_words(at)}</span>',
        )
        return f'<tr style="background:none">{"".join(f"""<td style="{_CELL}">{cell}</td>""" for cell in cells)}</tr>'

    def _outcome(self, name: str) -> str:
        row = self._rows[name]
        words = f'<span style="{_FADED}">{escape(row.outcome)}</span>'
        return f"{sign(row) or '-'} <b>{escape(self._titles[name])}</b> {words}"


def sign(row: Row) -> str:
    """A coloured sign for how a service's start ended; empty while it has not."""
    if row.phase is Phase.READY:
        return '<span style="color:#2a8c7c">✓</span>'
    if row.phase is Phase.FAILED:
        return "-" if row.detail else '<span style="color:#c0533a">✗</span>'
    return ""
