"""The walk-through for people: a progress bar, tables, error messages and an exit status."""

import os
import resource
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import psycopg
import redis
from botocore.exceptions import BotoCoreError, ClientError
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.table import Table

from claims import report, walkthrough
from claims.cli import HOW_TO_RUN
from claims.connections import Connections, MissingVariables
from claims.reconciliation import Store
from claims.totals import dollars

_SERVICE_ERRORS = {
    psycopg.Error: "PostgreSQL",
    ClickHouseError: "ClickHouse",
    redis.RedisError: "Redis",
    BotoCoreError: "S3",
    ClientError: "S3",
}
_PLAIN_WIDTH = 118


def run(rows: int, seed: int, output: Path | None) -> int:
    """Run the walk-through on the services that the environment names; returns the exit status."""
    try:
        connections = Connections(os.environ)
    except MissingVariables as error:
        hint = f"{HOW_TO_RUN}, in a shell without these variables, runs on services of its own"
        print(f"error: {error}\n\nhint: {hint}", file=sys.stderr)
        return 2
    try:
        outcome = walkthrough.run(connections, rows, seed, Console(stderr=True))
    except walkthrough.AlreadyRunning as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (psycopg.Error, ClickHouseError, redis.RedisError, BotoCoreError, ClientError, OSError) as error:
        service = next((name for kind, name in _SERVICE_ERRORS.items() if isinstance(error, kind)), "a service")
        print(f"error: {service} failed: {error}", file=sys.stderr)
        return 1
    if output:
        output.mkdir(parents=True, exist_ok=True)
        for name, body in outcome.files.items():
            (output / name).write_bytes(body)
    _show(outcome, output)
    return 1 if outcome.problems else 0


def _show(outcome: walkthrough.Outcome, output: Path | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
    rows = outcome.expected.totals.rows
    concentration = outcome.analytics.concentration
    returns = outcome.returns
    cost = sum((roi.intervention_cost for roi in returns), start=Decimal())
    avoided = sum((roi.avoided_cost for roi in returns), start=Decimal())

    found = Table(title="What the claims say", title_justify="left", show_header=False)
    found.add_row("members treated", f"{outcome.analytics.members:,}")
    found.add_row(
        "share of cost", ", ".join(f"{p}% of members have {concentration[p]:.0%}" for p in (1, 5, 10, 20, 50))
    )
    found.add_row("most denied", ", ".join(f"{d.procedure_code} {d.rate:.1%}" for d in outcome.analytics.denials[:4]))
    found.add_row(
        "days to payment", "{:.0f} median, {:.0f} for 90%, {:.0f} for 99%".format(*outcome.analytics.days_to_pay)
    )
    if cost:
        found.add_row(
            "care programmes", f"cost {report.money(cost)}, avoid {report.money(avoided)} a year: {avoided / cost:.2f}x"
        )
    console.print(found)

    speed = Table(title="Time", title_justify="left")
    for name in ("step", "seconds", "rows/s"):
        speed.add_column(name, justify="left" if name == "step" else "right")
    for step, seconds in (outcome.seconds | {"all": sum(outcome.seconds.values())}).items():
        speed.add_row(step, f"{seconds:.2f}", f"{rows / seconds:,.0f}" if step in ("load", "all") else "")
    console.print(speed)
    console.print(f"peak memory of this process: {_peak_megabytes():,.0f} MB")
    if output:
        console.print(f"saved in {output}: {', '.join(outcome.files)}")

    stores = Table(title="Totals of all stores", title_justify="left")
    for name in ("store", "claims", "billed", "allowed", "paid", ""):
        stores.add_column(name, justify="left" if name in ("store", "") else "right", no_wrap=True)
    stores.add_row(*_cells(outcome.expected), "as made")
    for comparison in outcome.reconciliation.comparisons:
        stores.add_row(*_cells(comparison.store), "[red]differs[/]" if comparison.differences else "[green]agrees[/]")
    console.print(stores)

    if outcome.problems:
        for problem in outcome.problems:
            console.print(f"[red]{problem}[/]")
        console.print("[bold red]NOT RECONCILED[/]")
    else:
        console.print(
            f"[bold green]RECONCILED[/]: {len(outcome.reconciliation.comparisons)} stores agree with the "
            f"claims made, to the row and to the cent; {len(outcome.updates)} updates in order; "
            f"{len(outcome.files)} files read back unchanged."
        )


def _cells(store: Store) -> tuple[str, str, str, str, str]:
    totals = store.totals
    amounts = (totals.billed_cents, totals.allowed_cents, totals.paid_cents)
    billed, allowed, paid = (report.money(dollars(amount)) for amount in amounts)
    return store.name, f"{totals.rows:,}", billed, allowed, paid


def _peak_megabytes() -> float:
    """The most memory that this process had at once.

    Linux counts into `ru_maxrss` what the parent had when it forked this process; VmHWM is this program's alone.
    """
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
