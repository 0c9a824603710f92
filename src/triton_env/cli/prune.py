"""`prune`: remove what dead owners left."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from triton_env.cli.words import say, say_notice

if TYPE_CHECKING:
    from rich.table import Table

    from triton_env.prune import Leftover

_PLAIN_WIDTH = 250
"""Of a table that does not go to a terminal: no cell is to be cut."""
_COLORS = {"removed": "green", "would go": "yellow", "stays": "dim", "failed": "red"}


@click.command(short_help="Remove what killed processes left.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--kept", is_flag=True, help="Also namespaces that were kept, such as those of failed tests.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
def command(dry_run: bool, kept: bool, as_json: bool) -> int:
    """Remove what environments left whose owners are dead: containers, networks, volumes, directories, records.

    \b
    python -m triton_env prune --dry-run
    python -m triton_env prune

    The next start does most of this unasked. Nothing is touched that belongs to a living process, another machine or
    another user; what cannot be told from here is shown, and stays. Persistent services are never touched, but for a
    restore that was broken off: it is finished or taken back. Without an engine the rest is done.

    The line of --json is {"dry_run", "engine_problem", "leftovers"}.

    Exit status: 0; 1 if something could not be removed.
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
        say_notice(f"no Docker engine was looked at: {findings.engine_problem}.")
    if as_json:
        data = {"dry_run": dry_run, "engine_problem": findings.engine_problem or None}
        click.echo(json.dumps(data | {"leftovers": [_as_data(*row) for row in rows]}))
    elif rows:
        from rich.console import Console

        # Read from the environment by rich where this is a terminal.
        width = None if sys.stdout.isatty() else _PLAIN_WIDTH
        Console(file=sys.stdout, highlight=False, width=width).print(_table(rows))
    _say_what_happened([result for _, result, _ in rows])
    return 1 if any(problem for _, _, problem in rows) else 0


def _say_what_happened(results: list[str]) -> None:
    counts = {result: results.count(result) for result in _COLORS if result in results}
    if not counts.keys() - {"stays"}:
        say("Nothing is left of dead owners.", fg="green")
    else:
        say(", ".join(f"{count} {result}" for result, count in counts.items()))


def _as_data(leftover: "Leftover", result: str, problem: str) -> dict[str, Any]:
    return {
        "what": leftover.what,
        "name": leftover.name,
        "environment": leftover.environment or None,
        "pid": leftover.pid,
        "host": leftover.host or None,
        "project": leftover.project or None,
        "why": leftover.why,
        "result": result,
        "problem": problem or None,
    }


def _table(rows: list[tuple["Leftover", str, str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("result", "what", "name", "environment", "owner", "why"):
        table.add_column(heading, no_wrap=heading == "result")
    for leftover, result, problem in rows:
        process = f"process {leftover.pid}" if leftover.pid is not None else ""
        owner = ", ".join(part for part in (process, leftover.project) if part)
        table.add_row(
            Text(result, style=_COLORS[result]),
            leftover.what,
            Text(leftover.name),
            leftover.environment,
            Text(owner),
            Text(f"{leftover.why}; {problem}" if problem else leftover.why),
        )
    return table
