"""Shows a start on standard error: live on a terminal that can draw, a few plain lines elsewhere."""

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from triton_env.core.commands import runnable
from triton_env.core.timeline import Event, Phase
from triton_env.progress.rows import Row, seconds_words

if TYPE_CHECKING:
    from rich.console import RenderableType

_terminal = threading.Lock()
"""Held by the one display that draws on the terminal; others that start while it does print lines."""


def can_draw() -> bool:
    """Whether standard error is a terminal on which lines can be drawn over."""
    if not sys.stderr.isatty():
        return False
    # Rich takes a while to load, and is only needed on a terminal.
    from rich.console import Console

    return not Console(stderr=True).is_dumb_terminal


_QUIET = (Phase.CREATE, Phase.BOOT)
"""Phases whose news are few, such as that a cluster has no room."""


class Plain:
    """One line when an image was pulled, for news within a phase, when a service is ready, and when it failed."""

    def __init__(self, titles: dict[str, str]) -> None:
        self._titles = titles
        self._rows = dict.fromkeys(titles, Row())
        self._closed = False

    def open(self) -> None: ...

    def say(self, words: str) -> None:
        """Print a line that belongs to no service."""
        if not self._closed:
            self._print(runnable(words))

    def show(self, event: Event) -> None:
        if self._closed or event.service not in self._rows:
            return
        before = self._rows[event.service]
        self._rows[event.service] = before.after(event)
        title = self._titles[event.service]
        if event.phase is not before.phase and before.pull and event.phase is not Phase.FAILED:
            self._print(f"image of {title} pulled in {seconds_words(event.at - before.entered)}")
        if event.phase is before.phase and event.phase in _QUIET and event.detail not in ("", before.detail):
            self._print(f"{title}: {event.detail}")
        if event.phase is Phase.READY:
            self._print(f"{title} ready after {seconds_words(event.at)}")
        elif event.phase is Phase.FAILED and not event.detail:
            self._print(f"{title} failed after {seconds_words(event.at)}")

    def close(self) -> None:
        self._closed = True

    def _print(self, text: str) -> None:
        # One write, so that lines of several processes do not mix. A standard error that is gone may not end a start.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"triton-env: {text}\n")
            sys.stderr.flush()


class Live:
    """A row for each service with what it does now; one line of summary in the end."""

    def __init__(self, titles: dict[str, str]) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive
        from rich.spinner import Spinner

        self._titles = titles
        self._rows = dict.fromkeys(titles, Row())
        self._console = Console(stderr=True, force_terminal=True, force_jupyter=False, highlight=False)
        self._ascii = self._console.options.ascii_only
        self._spinners = {name: Spinner("line" if self._ascii else "dots", style="cyan") for name in titles}
        self._opened = 0.0
        self._closed = False
        self._drawing = False
        self._closing = threading.Lock()
        self._substitute: Plain | None = None
        self._live = RichLive(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=12,
            # Standard output is the user's: what they print there may go to a file.
            redirect_stdout=False,
        )

    def open(self) -> None:
        if not _terminal.acquire(blocking=False):
            self._substitute = Plain(self._titles)
            return
        self._drawing = True
        self._opened = time.monotonic()
        self._live.start(refresh=True)

    def say(self, words: str) -> None:
        if self._substitute is not None:
            self._substitute.say(words)
        elif self._drawing and not self._closed:
            # Above the table, where it stays.
            self._console.print(f"triton-env: {runnable(words)}", markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        if self._substitute is not None:
            self._substitute.show(event)
        elif not self._closed and event.service in self._rows:
            # The display's own thread draws: events come in bursts, and their senders have work to do.
            self._rows[event.service] = self._rows[event.service].after(event)

    def close(self) -> None:
        self._closed = True
        if self._substitute is not None:
            self._substitute.close()
        with self._closing:
            if not self._drawing:
                return
            self._live.transient = self._nothing_began()
            try:
                self._live.stop()
            finally:
                # Also where a signal broke off `stop` half-way.
                self._console.show_cursor(True)
                self._drawing = False
                _terminal.release()

    def _render(self) -> "RenderableType":
        if not self._closed:
            return self._table()
        return "" if self._nothing_began() else self._summary()

    def _nothing_began(self) -> bool:
        """Then nothing stays on the terminal: the error that follows says why."""
        return all(row.phase is None for row in self._rows.values())

    def _table(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        for name, title in self._titles.items():
            row = self._rows[name]
            sign: Any = self._sign(row) or self._spinners[name]
            at = row.at if row.is_over else time.monotonic() - self._opened
            table.add_row(sign, Text(title, style="bold"), _doing(row), Text(seconds_words(at), style="dim"))
        return table

    def _summary(self) -> "RenderableType":
        from rich.text import Text

        parts: list[Text] = []
        for name, title in self._titles.items():
            row = self._rows[name]
            sign = self._sign(row) or Text("-", style="dim")
            parts.append(Text.assemble(sign, " ", (title, "bold"), " ", (row.outcome, "dim")))
        return Text("   ").join(parts)

    def _sign(self, row: Row) -> Any:
        from rich.text import Text

        if row.phase is Phase.READY:
            return Text("+" if self._ascii else "✓", style="green")
        if row.phase is Phase.FAILED:
            return Text("x" if self._ascii else "✗", style="red") if not row.detail else Text("-", style="dim")
        return None


def _doing(row: Row) -> Any:
    from rich.text import Text

    if row.phase is Phase.FAILED:
        return Text(row.doing, style="dim" if row.detail else "red")
    return Text(row.doing, style={None: "dim", Phase.READY: "green"}.get(row.phase, ""))
