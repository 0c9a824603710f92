"""`prune`: remove what killed processes left."""

import json
from typing import TYPE_CHECKING, Any

import click

from triton_env.cli.output import say, say_notice
from triton_env.cli.tables import Column, print_table
from triton_env.core.commands import runnable
from triton_env.core.printable import one_line

if TYPE_CHECKING:
    from rich.text import Text

    from triton_env.prune import Leftover

_COLUMNS = (
    Column("result"),
    Column("what"),
    Column("name"),
    Column("why", has_words=True),
    Column("environment", rank=1),
    Column("owner", rank=2),
)
_COLORS = {"removed": "green", "would go": "yellow", "stays": "dim", "failed": "red"}


@click.command()
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--kept", is_flag=True, help="Also namespaces that were kept, such as those of failed tests.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
def command(dry_run: bool, kept: bool, as_json: bool) -> int:
    """Remove what environments of killed processes left: containers, networks, volumes, directories, records.

    \b
    python -m triton_env prune --dry-run
    python -m triton_env prune

    The next start does most of this by itself. What belongs to a running process, another machine or another user is
    not touched; where that cannot be decided from here, it is shown and stays. What a running process could not remove,
    since the engine did not answer, is removed. Persistent services are not touched either, except that a restore that
    was interrupted is finished or rolled back. Without a Docker engine, what is on this machine is still removed.

    With TRITON_NAMESPACES=everywhere, the persistent or external servers that the settings lead to are asked too:
    namespaces and templates there are removed that no machine claims any longer.

    The line of --json is {"dry_run", "engine_problem", "leftovers"}.

    Exit status: 0, whether or not there was something to remove, also with --dry-run; 1 if something could not be
    removed.
    """
    from triton_env.prune import look
    from triton_env.settings import Settings

    rows: list[tuple[Leftover, str, str]] = []
    with look(Settings(), kept=kept) as findings:
        for leftover in findings.leftovers:
            problem = "" if dry_run else leftover.remove()
            if leftover.stays:
                result = "stays"
            elif dry_run:
                result = "would go"
            else:
                result = "failed" if problem else "removed"
            rows.append((leftover, result, problem))
    if findings.engine_problem:
        say_notice(f"the Docker engine was not checked: {findings.engine_problem}.")
    if as_json:
        data = {"dry_run": dry_run, "engine_problem": findings.engine_problem or None}
        click.echo(json.dumps(data | {"leftovers": [_as_data(*row) for row in rows]}))
    elif rows:
        print_table(_COLUMNS, _cells(rows))
    _say_what_happened([result for _, result, _ in rows], kept)
    return 1 if any(problem for _, _, problem in rows) else 0


def _say_what_happened(results: list[str], kept: bool) -> None:
    counts = {result: results.count(result) for result in _COLORS}
    parts: list[str] = []
    if count := counts["removed"]:
        parts.append(f"Removed {count}.")
    if count := counts["would go"]:
        parts.append(f"Would remove {count}; nothing was changed.")
    if count := counts["failed"]:
        parts.append(f"{count} could not be removed.")
    if not parts:
        parts.append("Nothing to remove.")
    if count := counts["stays"]:
        parts.append(f"{count} {'stays' if count == 1 else 'stay'}, for the reason shown.")
    say(" ".join(parts), fg="red" if counts["failed"] else "green")
    if count := counts["would go"]:
        say(f"Remove {'it' if count == 1 else 'them'} with: python -m triton_env prune{' --kept' if kept else ''}")


def _as_data(leftover: "Leftover", result: str, problem: str) -> dict[str, Any]:
    from triton_env.inspection.leftovers import entry_of

    return entry_of(leftover).model_dump(exclude={"stays"}) | {"result": result, "problem": problem or None}


def _cells(rows: list[tuple["Leftover", str, str]]) -> "list[list[Text]]":
    from rich.text import Text

    cells: list[list[Text]] = []
    for leftover, result, problem in rows:
        process = f"process {leftover.pid}" if leftover.pid is not None else ""
        owner = ", ".join(part for part in (process, leftover.project) if part)
        why = f"{leftover.why}; {problem}" if problem else leftover.why
        texts = (leftover.what, leftover.name, runnable(why), leftover.environment, owner)
        cells.append([Text(result, style=_COLORS[result]), *(Text(one_line(text)) for text in texts)])
    return cells
