"""What `top` shows. Names, values and lines of logs are made safe for a terminal here."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from triton_env.cli.ps import health_words, state_style
from triton_env.cli.status import duration
from triton_env.cli.tables import GAP, Column
from triton_env.cli.top.watching import Deed, Line, Log
from triton_env.core.printable import one_line, printable
from triton_env.core.sizes import memory_words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from triton_env.steering import Action

AROUND_TABLE = 3
"""Lines of the screen that are not services: title, headings, foot."""
AROUND_LOG = 2
LEAVE = " (still at work; q again leaves it)"
"""What is said where a person leaves while something is done."""
_ANSWERS = " y/n"
_KEYS = "arrows select  l log  r restart  s stop  / filter  ? help  q quit"
_HELP = """\
up, down, j, k          select a service
page up, page down      a screen further
home, end, g, G         the first one, the last one
l, enter                its log, which is followed; q returns
r                       restart the service, after a question
s                       stop its environment, after a question
/                       show what has these letters: id, mode, runtime, project, service; escape shows all
?                       this page
q                       quit

Operations per second are what the service counts first: transactions, queries or commands.
CPU is that of one processor; several that are busy are more than 100 %.
On a narrow terminal columns are left out: mode first, then up, connections, memory, CPU, operations."""

_COLUMNS = (
    Column("environment"),
    Column("service"),
    Column("state"),
    Column("cpu", right=True, rank=2),
    Column("memory", right=True, rank=3),
    Column("connections", right=True, rank=4),
    Column("op/s", right=True, rank=1),
    Column("up", right=True, rank=5),
    Column("mode", rank=6),
    Column("health"),
)
_READABLE = 20
"""How much of a long cell is shown at least, before columns are left out to show more of it."""


def table(
    console: "Console", lines: Sequence[Line], chosen: Line | None, *, total: int, foot: Text, is_first_look: bool
) -> "RenderableType":
    """The services, as many as there is room for, around the one that is chosen."""
    room = max(console.height - AROUND_TABLE - foot.plain.count("\n"), 1)
    place = next((number for number, line in enumerate(lines) if chosen and line.key == chosen.key), 0)
    first = min(max(place - room // 2, 0), max(len(lines) - room, 0))
    shown = lines[first : first + room]
    hidden = f", {len(shown)} of them shown" if len(shown) < len(lines) else ""
    of = f" of {total}" if len(lines) != total else ""
    title = Text(f"triton-env top: {len(lines)}{of} service{'' if len(lines) == 1 else 's'}{hidden}", style="bold")
    body: RenderableType
    if lines:
        body = _services(console.width, [_row(line) for line in shown], selected=place - first)
    elif total:
        body = Text("Nothing has these letters. Escape shows all.")
    elif is_first_look:
        body = Text("Looking ...", style="dim")
    else:
        body = Text("Nothing runs. Start with: python -m triton_env serve")
    return _screen(title, body, foot)


def foot(
    console: "Console",
    *,
    question: "tuple[Line, Action] | None",
    deed: Deed | None,
    problem: str,
    words: str,
    types_filter: bool,
) -> Text:
    """The last line: what is done, what is typed, or the keys; or a question, in as many lines as it needs."""
    if question:
        line, action = question
        lost = f" Lost: {action.loses}." if action.loses else ""
        return _question(console, one_line(f"{action.title} {_object(line, action)}?{lost}"))
    if types_filter:
        return Text(one_line(f"/{words}") + "_", style="bold")
    if deed:
        return Text(one_line(deed.words), style="red" if deed.has_failed else "green" if deed.is_over else "yellow")
    if problem:
        return Text(one_line(problem), style="red")
    return Text(f"filter: {one_line(words)}  escape shows all  {_KEYS}" if words else _KEYS, style="dim")


def doing(line: Line, action: "Action") -> str:
    """What is being done, in words."""
    return f"{action.title}: {_object(line, action)} ..."


def not_offered(line: Line, name: str) -> str:
    """That nothing is done."""
    return f"`{name}` is not offered for {line.environment.id}, which is {line.environment.mode}."


def help_page() -> "RenderableType":
    """What the keys do."""
    return _screen(Text("triton-env top: keys", style="bold"), Text(_HELP), Text("any key returns", style="dim"))


def log(console: "Console", shown: Log, above: int) -> "RenderableType":
    """The end of a log, or what is so many lines above it."""
    room = max(console.height - AROUND_LOG, 1)
    end = len(shown.lines) - above
    rows = [printable(line).expandtabs(4) for line in shown.lines[max(end - room, 0) : end]]
    # A line that is wrapped takes the place of those before it.
    body = Text("\n".join(rows), no_wrap=True, overflow="ellipsis")
    if not shown.lines:
        body = Text("It has written nothing yet." if shown.reads and not shown.problem else "", style="dim")
    title = Text(one_line(f"{shown.service} of {shown.environment}"), style="bold")
    if shown.problem:
        return _screen(title, body, Text(one_line(shown.problem), style="red"))
    where = f"{above} lines above the end; end follows" if above else "follows"
    return _screen(title, body, Text(f"{where}  arrows, page up: earlier lines  q returns", style="dim"))


def _question(console: "Console", words: str) -> Text:
    """A question as a whole, for what is lost comes last; that it can be answered is seen in any case."""
    lines = list(Text(f"{words}{_ANSWERS}", style="bold reverse").wrap(console, console.width))
    room = max(console.height - AROUND_TABLE, 1)
    if len(lines) > room:
        lines = lines[:room]
        lines[-1].truncate(max(console.width - len(_ANSWERS), 0), overflow="ellipsis")
        lines[-1].append(_ANSWERS)
    return Text("\n").join(lines)


def _screen(title: Text, body: "RenderableType", foot: Text) -> Layout:
    for line in (title, foot):
        line.no_wrap, line.overflow = True, "ellipsis"
    layout = Layout()
    layout.split_column(Layout(title, size=1), Layout(body), Layout(foot, size=1 + foot.plain.count("\n")))
    return layout


def _services(width: int, rows: Sequence[Sequence[Text]], selected: int) -> Table:
    """Rows of one line each, so that as many are seen as were counted: columns are left out and cells cut for that."""
    longest = [
        max(map(cell_len, (column.heading, *(row[number].plain for row in rows))))
        for number, column in enumerate(_COLUMNS)
    ]
    for limit in sorted({column.rank for column in _COLUMNS}, reverse=True):
        shown = [number for number, column in enumerate(_COLUMNS) if column.rank <= limit]
        room = width - GAP * (len(shown) - 1)
        if sum(min(longest[number], _READABLE) for number in shown) <= room:
            break
    widths = {number: longest[number] for number in shown}
    while sum(widths.values()) > max(room, len(shown)):
        widths[max(widths, key=widths.__getitem__)] -= 1
    table = Table(box=None, pad_edge=False)
    for number in shown:
        column = _COLUMNS[number]
        table.add_column(
            column.heading, justify="right" if column.right else "left", no_wrap=True, width=widths[number]
        )
    for place, row in enumerate(rows):
        table.add_row(*(row[number] for number in shown), style="reverse" if place == selected else None)
    return table


def _object(line: Line, action: "Action") -> str:
    """What an action is about."""
    return f"{line.service.title} of {line.environment.id}" if action.needs_service else line.environment.id


def _row(line: Line) -> list[Text]:
    environment, service = line.environment, line.service
    words, style = health_words(service)
    started = service.started or environment.started
    cells = (
        f"{service.cpu_percent:.1f} %" if service.cpu_percent is not None else "",
        memory_words(service.memory) if service.memory is not None else "",
        str(service.connections) if service.connections is not None else "",
        f"{line.per_second:.1f}" if line.per_second is not None else "",
        duration((datetime.now(UTC) - started).total_seconds() if started else None),
        environment.mode,
    )
    return [
        Text(one_line(environment.id), style="bold"),
        Text(one_line(service.name)),
        Text(one_line(service.state), style=state_style(service)),
        *(Text(cell) for cell in cells),
        Text(one_line(environment.problem or words), style=style),
    ]
