"""What a query answers with: a DataFrame where pandas is installed, else a small table."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

_SHOWN_ROWS = 60
_SHOWN_CHARACTERS = 50


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a result, in a process that has no pandas.

    Attributes:
        columns: the names of the columns.
        rows: the values.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        lines = [self.columns, *([_short(value) for value in row] for row in self.rows[:_SHOWN_ROWS])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*padded, self._size])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_short(value))}</td>' for value in row)}</tr>"
            for row in self.rows[:_SHOWN_ROWS]
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><div>{self._size}</div>"

    @property
    def _size(self) -> str:
        more = f", of which the first {_SHOWN_ROWS} are shown" if len(self.rows) > _SHOWN_ROWS else ""
        return f"({len(self.rows)} row{'s' * (len(self.rows) != 1)}{more})"


def has_pandas() -> bool:
    """Whether results are DataFrames."""
    try:
        import pandas  # noqa: F401 - loaded here, since it is needed next
    except ImportError:
        return False
    return True


def as_result(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Rows as a DataFrame, or as a `Table` where there is no pandas."""
    if not has_pandas():
        return Table(tuple(columns), tuple(tuple(row) for row in rows))
    import pandas

    return with_floats(pandas.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns)))


def with_floats(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """The frame with floats for exact decimal numbers, as from `pandas.read_sql`: Python's cannot be plotted."""
    import pandas

    for place, kind in enumerate(frame.dtypes):
        column = frame.iloc[:, place]
        if kind.kind == "O" and any(isinstance(value, Decimal) for value in column):
            # Where texts are among them, it stays what it is.
            with suppress(ValueError, TypeError):
                frame.isetitem(place, pandas.to_numeric(column).to_numpy())
    return frame


def _short(value: Any) -> str:
    text = "NULL" if value is None else str(value).replace("\n", " ")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
