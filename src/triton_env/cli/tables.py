"""Tables on standard output that fit the terminal: nothing that is copied from them is cut or broken."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from triton_env.core.commands import wrapped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

WATCH_INTERVAL = 2
"""Seconds between the end of a look and the next."""
_LEAST_WORDS = 20
"""Columns that words get at least: narrower, a sentence becomes a tower."""
_UNLIMITED = 10_000
GAP = 2
"""Between columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what it holds.
        right: whether its cells are aligned to the right, as numbers are.
        has_words: whether its cells are sentences, which may be wrapped between words. One column of a table at most.
        rank: 0 for what is always shown; of the others, the highest goes first where the terminal is too narrow.
    """

    heading: str
    right: bool = False
    has_words: bool = False
    rank: int = 0


def console() -> "Console":
    """Standard output. Its width counts on a terminal alone: elsewhere a table is as wide as it has to be."""
    import rich.console

    from triton_env.cli.output import colors_on

    class Console(rich.console.Console):
        def on_broken_pipe(self) -> None:
            # What a reader that is gone means is for the command to decide.
            raise

    return Console(
        file=sys.stdout,
        highlight=False,
        no_color=not colors_on(sys.stdout),
        width=None if sys.stdout.isatty() else _UNLIMITED,
    )


def fitting(
    target: "Console",
    columns: Sequence[Column],
    rows: Sequence[Sequence["Text"]],
    title: str = "",
) -> "RenderableType":
    """The rows as a table, without the columns that do not fit; where even that is too wide, as a list."""
    from rich.table import Table

    ranks = sorted({column.rank for column in columns} - {0}, reverse=True)
    for limit in (_UNLIMITED, *(rank - 1 for rank in ranks)):
        shown = [number for number, column in enumerate(columns) if column.rank <= limit]
        least = {number: _least_width(columns[number], [row[number] for row in rows]) for number in shown}
        if sum(least.values()) + GAP * (len(shown) - 1) > target.width:
            continue
        table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", title_style="dim")
        for number, width in least.items():
            column = columns[number]
            table.add_column(
                column.heading,
                justify="right" if column.right else "left",
                no_wrap=not column.has_words,
                min_width=width,
            )
        for row in rows:
            table.add_row(*(row[number] for number in shown))
        return table
    return _listed(target, columns, rows, title)


def _least_width(column: Column, cells: Sequence["Text"]) -> int:
    """How many columns of the terminal it needs: as many as its longest cell, or the longest word of its sentences."""
    from rich.cells import cell_len

    parts = [part for cell in cells for part in (cell.plain.split() if column.has_words else [cell.plain])]
    longest = max((cell_len(part) for part in (column.heading, *parts)), default=0)
    return max(longest, _LEAST_WORDS) if column.has_words else longest


def _listed(
    target: "Console", columns: Sequence[Column], rows: Sequence[Sequence["Text"]], title: str
) -> "RenderableType":
    """Each row as a block of lines. Sentences are wrapped between words; all else is left to the terminal."""
    from rich.text import Text

    labels = max(len(column.heading) for column in columns[1:])
    lines = [Text(title, style="dim")] if title else []
    for row in rows:
        lines.append(Text.assemble((row[0].plain, "bold")))
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if not cell.plain:
                continue
            room = max(target.width - labels - 4, _LEAST_WORDS)
            parts = wrapped(cell.plain, room) if column.has_words else [cell.plain]
            for number, part in enumerate(parts):
                label = "" if number else column.heading
                lines.append(Text.assemble((f"  {label:<{labels}}  ", "dim"), (part, cell.style)))
    return Text("\n", overflow="fold").join(lines)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence["Text"]], title: str = "") -> None:
    """Print the rows on standard output."""
    from rich.text import Text

    target = console()
    shown = fitting(target, columns, rows, title)
    # What has no spaces is not broken, so that it can be copied.
    target.print(shown, soft_wrap=isinstance(shown, Text))


def watch_table(columns: Sequence[Column], rows: "Callable[[], Sequence[Sequence[Text]]]", title: str = "") -> NoReturn:
    """Print the rows again and again, until an exception ends that; on a terminal in the place of those before."""
    if not sys.stdout.isatty():
        while True:
            print_table(columns, rows(), title)
            sys.stdout.flush()
            time.sleep(WATCH_INTERVAL)
    from rich.live import Live

    target = console()
    with Live(console=target, auto_refresh=False, transient=False) as live:
        while True:
            live.update(fitting(target, columns, rows(), title), refresh=True)
            time.sleep(WATCH_INTERVAL)
