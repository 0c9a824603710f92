"""What commands cost that do little: CPU of the whole process and its children, beside those of another checkout.

python benchmarks/commands.py [--against PATH] [--rounds N] [--rows PATTERNS] [--json | --markdown]

Each checkout has persistent services of its own on the Docker engine, which this starts and removes. The engine and its
containers work for a command too; that is in the wall time alone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from statistics import median

import click
from tables import Row, chosen

HERE = Path(__file__).resolve().parents[1]
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "help": ("--help",),
    "status": ("status",),
    "status-json": ("status", "--json"),
    "up": ("up",),
    "env": ("env", "--persistent"),
    "logs": ("logs", "--tail", "5"),
    "psql": ("psql", "-c", "select 1"),
    "redis-cli": ("redis-cli", "ping"),
    "s3-ls": ("s3", "ls"),
    "backup": ("backup", "--force", "little.backup"),
    "doctor": ("doctor",),
}
ROWS = tuple(Row(name, f"`{' '.join(words)}`") for name, words in COMMANDS.items())
PROJECT = "bench-{}"
_REMOVAL = ("reset", "--yes")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took, in milliseconds."""

    cpu: float
    wall: float


class Checkout:
    """A checkout with its virtual environment, and persistent services that run.

    Args:
        path: of the checkout; its interpreter is `.venv/bin/python`.
        folder: for its state, and in which commands run.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self._folder = path, folder
        self._python = str(path / ".venv/bin/python")
        # Without the AWS command line `s3` is ours alone.
        programs = folder / "programs"
        programs.mkdir()
        if docker := shutil.which("docker"):
            (programs / "docker").symlink_to(docker)
        # Compiled once, as for any user: the first round writes what the others read.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = inherited | {
            "PATH": f"{programs}:/usr/bin:/bin",
            "TRITON_PROJECT": PROJECT.format(token_hex(4)),
            "TRITON_STATE_DIR": str(folder / "state"),
            "TRITON_RUNTIME": "docker",
            "TRITON_PROGRESS": "off",
        }

    def run(self, *words: str, may_fail: bool = False) -> Cost:
        """Run a command to its end."""
        began = time.perf_counter()
        process = subprocess.Popen(
            [self._python, "-m", "triton_env", *words],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and not may_fail:
            raise click.ClickException(f"{' '.join(words)} failed in {self.path}: status {process.returncode}")
        return Cost((usage.ru_utime + usage.ru_stime) * 1000, (time.perf_counter() - began) * 1000)


@contextmanager
def running(path: Path) -> Iterator[Checkout]:
    """A checkout whose services run; they are removed at the end, data and all."""
    with tempfile.TemporaryDirectory(prefix="triton-benchmark-") as folder:
        checkout = Checkout(path, Path(folder))
        try:
            checkout.run("up")
            yield checkout
        finally:
            checkout.run(*_REMOVAL, may_fail=True)


def measure(checkouts: Mapping[str, Checkout], rows: list[Row], rounds: int) -> dict[str, dict[str, list[Cost]]]:
    """The costs of each command by checkout. Checkouts take turns, so that the machine's noise hits all of them."""
    costs: dict[str, dict[str, list[Cost]]] = {row.name: {name: [] for name in checkouts} for row in rows}
    for number in range(rounds):
        for row in rows:
            for name, checkout in checkouts.items():
                costs[row.name][name].append(checkout.run(*COMMANDS[row.name], may_fail=row.name == "doctor"))
        click.echo(f"round {number + 1} of {rounds}", err=True)
    return costs


def table(rows: list[Row], costs: Mapping[str, Mapping[str, list[Cost]]], *, markdown: bool) -> str:
    """CPU and wall time of each command: medians."""
    headings = ("", "CPU before", "CPU", "ratio", "wall before", "wall")
    lines = [headings]
    for row in rows:
        of = costs[row.name]
        here = median(cost.cpu for cost in of["here"]), median(cost.wall for cost in of["here"])
        there = of.get("before")
        before = (median(cost.cpu for cost in there), median(cost.wall for cost in there)) if there else None
        lines.append(
            (
                row.title,
                f"{before[0]:.0f} ms" if before else "",
                f"{here[0]:.0f} ms",
                f"{here[0] / before[0]:.2f} x" if before else "",
                f"{before[1]:.0f} ms" if before else "",
                f"{here[1]:.0f} ms",
            )
        )
    if markdown:
        head, *rest = (f"| {' | '.join(line)} |" for line in lines)
        return "\n".join((head, "| --- | ---: | ---: | ---: | ---: | ---: |", *rest))
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


@click.command()
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Another checkout with its .venv.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--rows", "patterns", default="", help="Which commands, e.g. 'status*,psql'.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="All samples as JSON.")
@click.option("--markdown", is_flag=True, help="The table for README.md.")
def main(against: Path | None, rounds: int, patterns: str, as_json: bool, markdown: bool) -> None:
    """Measure commands of this checkout, and of another one in turn with it."""
    rows = chosen(ROWS, patterns)
    with ExitStack() as stack:
        checkouts = {"before": stack.enter_context(running(against.resolve()))} if against else {}
        checkouts["here"] = stack.enter_context(running(HERE))
        costs = measure(checkouts, rows, rounds)
    if as_json:
        samples = {
            row: {name: [(cost.cpu, cost.wall) for cost in each] for name, each in of.items()}
            for row, of in costs.items()
        }
        click.echo(json.dumps(samples))
    else:
        click.echo(table(rows, costs, markdown=markdown))


if __name__ == "__main__":
    sys.exit(main())
