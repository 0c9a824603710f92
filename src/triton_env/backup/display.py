"""Shows a backup or restore as it happens, on standard error: live on a terminal, a line per service elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from triton_env.archive.steps import Report, Step, silent
from triton_env.core.printable import one_line
from triton_env.core.sizes import size_words
from triton_env.progress.rows import seconds_words
from triton_env.progress.terminal import can_draw
from triton_env.services.selection import title_of

_REFRESH = 10
"""Times a second that a terminal is drawn."""


@contextmanager
def shown(mode: str) -> Iterator[Report]:
    """Show steps while the block runs.

    Args:
        mode: `live`, `plain`, `off`, or `auto`: live where standard error is a terminal that can draw.

    Yields:
        What to report them to.
    """
    if mode == "off":
        yield silent
    elif mode == "live" or (mode == "auto" and can_draw()):
        with _live() as report:
            yield report
    else:
        yield _Plain()


class _Plain:
    """One line when a service is done."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, step: Step) -> None:
        if step.note:
            self._write(_noted(step))
        elif step.done:
            seconds, self._began = time.monotonic() - self._began, time.monotonic()
            self._write(_finished(step, seconds))

    @staticmethod
    def _write(words: str) -> None:
        # A standard error that is gone may not end a backup.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"triton-env: {words}\n")
            sys.stderr.flush()


@contextmanager
def _live() -> Iterator[Report]:
    from rich.console import Console

    console = Console(stderr=True, force_terminal=True, force_jupyter=False, highlight=False)
    began = time.monotonic()
    with console.status(
        "", refresh_per_second=_REFRESH, spinner="dots" if not console.options.ascii_only else "line"
    ) as status:

        def report(step: Step) -> None:
            nonlocal began
            if step.note:
                console.print(f"triton-env: {_noted(step)}", markup=False)
            elif step.done:
                seconds, began = time.monotonic() - began, time.monotonic()
                console.print(f"triton-env: {_finished(step, seconds)}", markup=False)
            else:
                from rich.text import Text

                amount = f"  {size_words(step.size)}" if step.size else ""
                status.update(
                    Text.assemble((title_of(step.service), "bold"), f" {one_line(step.words)}", (amount, "dim"))
                )

        yield report


def _finished(step: Step, seconds: float) -> str:
    amount = f"{size_words(step.size)} in " if step.size else ""
    return f"{title_of(step.service)} {one_line(step.words)} ({amount}{seconds_words(seconds)})"


def _noted(step: Step) -> str:
    return f"{title_of(step.service)}, note: {one_line(step.words)}"
