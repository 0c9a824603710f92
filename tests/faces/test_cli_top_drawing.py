"""What `top` draws on terminals of several sizes."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from triton_env.cli.top import drawing
from triton_env.cli.top.watching import Line
from triton_env.inspection import EnvironmentEntry, ServiceEntry
from triton_env.inspection.data import Health
from triton_env.steering import Action

if TYPE_CHECKING:
    from rich.console import RenderableType

NAMES = ("postgres", "clickhouse", "redis", "s3")
LONG = "a-project-with-a-name-of-forty-letters-xy"
PROBLEM = "connection to server at 127.0.0.1, port 45432 failed: it refused"


def lines_of(environment: str, problem: str = "") -> list[Line]:
    now = datetime.now(UTC)
    health = Health(is_good=not problem, problem=problem or None, missing=None, at=now, seconds=0.1)
    services = tuple(
        ServiceEntry(
            name=name,
            title=name,
            state="running",
            host=None,
            ports={},
            url=None,
            container=None,
            health=health,
            started=now,
            cpu_percent=1.5,
            memory=2**27,
            connections=12,
        )
        for name in NAMES
    )
    entry = EnvironmentEntry(
        id=environment,
        mode="persistent",
        runtime="docker",
        reason="",
        started=now,
        owner=None,
        users=(),
        is_offered=False,
        services=services,
        spaces=(),
        timeline=(),
    )
    return [Line(entry, service, 1.0) for service in services]


def terminal(columns: int, rows: int) -> Console:
    return Console(file=io.StringIO(), width=columns, height=rows, force_terminal=True, color_system="standard")


def drawn(console: Console, content: "RenderableType") -> list[str]:
    with console.capture() as captured:
        console.print(content)
    lines = captured.get().splitlines()
    assert len(lines) <= console.height
    return lines


def table(console: Console, lines: Sequence[Line], chosen: Line, foot: Text) -> list[str]:
    return drawn(console, drawing.table(console, lines, chosen, total=len(lines), foot=foot, is_first_look=False))


@pytest.mark.parametrize("environment", ["1a2b3c4d", LONG])
@pytest.mark.parametrize("problem", ["", PROBLEM])
@pytest.mark.parametrize("columns", [60, 80, 110, 200])
@pytest.mark.parametrize("rows", [4, 6, 24])
def test_the_chosen_service_is_seen(environment: str, problem: str, columns: int, rows: int) -> None:
    lines = lines_of(environment, problem)
    for chosen in lines:
        shown = table(terminal(columns, rows), lines, chosen, Text("keys"))
        (line,) = (each for each in shown if "\x1b[7m" in each)
        assert chosen.service.name in Text.from_ansi(line).plain.split()


@pytest.mark.parametrize(
    ("columns", "gone"), [(110, ()), (80, ("up", "mode")), (60, ("memory", "connections", "up", "mode"))]
)
def test_health_stays_where_others_are_left_out(columns: int, gone: tuple[str, ...]) -> None:
    lines = lines_of("1a2b3c4d")
    headings = Text.from_ansi(table(terminal(columns, 24), lines, lines[0], Text("keys"))[1]).plain.split()
    assert headings == [each.heading for each in drawing._COLUMNS if each.heading not in gone]
    assert "health" in headings


def test_long_cells_are_cut_and_no_number_is() -> None:
    lines = lines_of(LONG, PROBLEM)
    (row,) = (each for each in table(terminal(80, 24), lines, lines[1], Text("keys")) if "s3" in each)
    assert cell_len(Text.from_ansi(row).plain) <= 80
    assert row.count("…") == 2


def asked(console: Console, line: Line, loses: str) -> Text:
    action = Action(name="restart", title="Restart", needs_service=True, loses=loses)
    return drawing.foot(console, question=(line, action), deed=None, problem="", words="", types_filter=False)


@pytest.mark.parametrize("environment", ["1a2b3c4d", LONG])
@pytest.mark.parametrize("columns", [48, 80, 110, 200])
def test_a_question_is_whole(environment: str, columns: int) -> None:
    lines = lines_of(environment)
    console = terminal(columns, 24)
    loses = "the connections of its clients, and what the server has in memory alone: that may be all"
    shown = table(console, lines, lines[3], asked(console, lines[3], loses))
    plain = Text.from_ansi("\n".join(shown)).plain
    assert " ".join(plain.split()).endswith(f"Restart s3 of {environment}? Lost: {loses}. y/n")
    # The services make room for it.
    assert all(any(name in line for line in plain.splitlines()[2:6]) for name in NAMES)


@pytest.mark.parametrize(("columns", "rows"), [(80, 4), (40, 6), (20, 10), (10, 4)])
def test_that_a_question_is_asked_is_seen_on_any_terminal(columns: int, rows: int) -> None:
    lines = lines_of(LONG)
    console = terminal(columns, rows)
    shown = table(console, lines, lines[3], asked(console, lines[3], "the data of another environment, " * 20))
    assert Text.from_ansi(shown[-1]).plain.rstrip().endswith("y/n")
