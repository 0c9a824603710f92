"""What every benchmark here does with its samples: medians, ratios, aims, and a table of them.

Nothing in here measures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Aim:
    """What a row should stay within: `at_most` seconds, or `at_most` times its baseline."""

    at_most: float
    of: Literal["seconds", "ratio"]

    def __str__(self) -> str:
        return f"≤ {self.at_most:.2f} x" if self.of == "ratio" else f"≤ {_seconds(self.at_most)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: how `--rows` and JSON call it.
        title: what it is, for people.
        baselines: rows to whose slowest this one is put in ratio; none for a row that stands alone.
        aim: what it should stay within, if anything was set.
    """

    name: str
    title: str
    baselines: tuple[str, ...] = ()
    aim: Aim | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A measured row. `ratio` and `met` are None where there is no baseline, or no aim, or it was not measured."""

    row: Row
    samples: tuple[float, ...]
    median: float
    ratio: float | None
    met: bool | None

    @property
    def verdict(self) -> str:
        """The aim and whether it was met, in words; by how much it was missed."""
        aim = self.row.aim
        if aim is None:
            return ""
        if self.met is None:
            return f"{aim}: baseline not measured"
        if self.met:
            return f"{aim}: met"
        value = self.median if aim.of == "seconds" else self.ratio
        assert value is not None
        return f"{aim}: missed by {value / aim.at_most - 1:.0%}"

    def cells(self) -> tuple[str, str, str, str]:
        """Title, median, ratio, aim."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        return self.row.title, _seconds(self.median), ratio, self.verdict


HEADINGS = ("", "median", "ratio", "aim")


def lines(rows: Iterable[Row], samples: Mapping[str, Sequence[float]]) -> list[Line]:
    """The lines of the rows that were measured.

    Args:
        rows: in the order in which to show them.
        samples: seconds by row name.
    """
    medians = {name: median(values) for name, values in samples.items() if values}
    return [_line(row, tuple(samples[row.name]), medians) for row in rows if row.name in medians]


def _line(row: Row, samples: tuple[float, ...], medians: Mapping[str, float]) -> Line:
    ratio = None
    # The slowest of all is only known once all of them were measured.
    if row.baselines and all(name in medians for name in row.baselines):
        ratio = medians[row.name] / max(medians[name] for name in row.baselines)
    met = None
    if row.aim:
        value = medians[row.name] if row.aim.of == "seconds" else ratio
        met = None if value is None else value <= row.aim.at_most
    return Line(row, samples, medians[row.name], ratio, met)


def chosen(rows: Sequence[Row], patterns: str) -> list[Row]:
    """The rows whose names match one of the comma-separated patterns (`bare-*,eager-cold`); all for an empty string.

    Raises:
        ValueError: a pattern matches no row.
    """
    words = [word for part in patterns.split(",") if (word := part.strip())]
    for word in words:
        if not any(fnmatchcase(row.name, word) for row in rows):
            raise ValueError(f"no row is called {word!r}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not words or any(fnmatchcase(row.name, word) for word in words)]


def as_markdown(measured: Iterable[Line]) -> str:
    """The table as GitHub shows it."""
    table = ["| " + " | ".join(HEADINGS) + " |", "| --- | ---: | ---: | --- |"]
    table += ["| " + " | ".join(cell.replace("|", r"\|") for cell in line.cells()) + " |" for line in measured]
    return "\n".join(table)


def as_text(measured: Sequence[Line]) -> str:
    """The table for a terminal: columns padded with blanks."""
    # In a terminal the marks of Markdown are noise.
    table = [HEADINGS, *(tuple(cell.replace("`", "") for cell in line.cells()) for line in measured)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADINGS))]
    adjust = (str.ljust, str.rjust, str.rjust, str.ljust)
    return "\n".join(
        "  ".join(pad(cell, width) for pad, cell, width in zip(adjust, cells, widths, strict=True)).rstrip()
        for cells in table
    )


def as_data(measured: Iterable[Line]) -> list[dict[str, Any]]:
    """The lines for JSON; times are seconds."""
    return [
        {
            "name": line.row.name,
            "title": line.row.title,
            "median": line.median,
            "samples": list(line.samples),
            "baselines": list(line.row.baselines),
            "ratio": line.ratio,
            "aim": {"at_most": line.row.aim.at_most, "of": line.row.aim.of} if line.row.aim else None,
            "met": line.met,
        }
        for line in measured
    ]


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.2g} ms"
