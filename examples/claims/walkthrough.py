"""The whole way of the claims through the four services, and the proof that nothing was lost on it."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date

from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from claims import books, documents, figure, report, updates, warehouse
from claims.connections import Connections
from claims.generator import Generator
from claims.reconciliation import Reconciliation, Store, reconcile
from claims.totals import Totals, add_by_client, total

_YEAR = (date(2025, 1, 1), date(2025, 12, 31))
"""The 12 months whose cost the programmes are measured against."""
_TREND = "trend"


class AlreadyRunning(Exception):
    """Another run is at work on the same services."""


@dataclass
class Outcome:
    """What a run has made and found."""

    expected: Store
    reconciliation: Reconciliation
    analytics: warehouse.Analytics
    returns: list[books.Roi]
    updates: list[updates.Update]
    files: dict[str, bytes]
    """The report's files by name, as they were read back from S3."""
    problems: list[str]
    """Everything that is not as it should be; empty where all is well."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each step took."""


def run(connections: Connections, rows: int, seed: int, console: Console) -> Outcome:
    """Make `rows` claims from `seed`, take them through all services, and compare what each has of them.

    Args:
        console: where the progress is shown.

    Raises:
        AlreadyRunning: another run uses the same services.
    """
    seconds: dict[str, float] = {}
    problems: list[str] = []
    with ExitStack() as stack:
        clickhouse = stack.enter_context(connections.clickhouse())
        ledger = books.Books(stack.enter_context(connections.postgres()))
        redis = stack.enter_context(connections.redis())
        bucket = documents.Documents(connections.s3(), connections.bucket)
        cache = updates.Cache(redis)
        if not ledger.claim_for_this_session():
            raise AlreadyRunning("another run is at work on the same services")

        publisher = updates.Publisher(redis, uuid.uuid4().hex)
        subscriber = stack.enter_context(updates.Subscriber(redis, publisher.channel))
        progress = stack.enter_context(_progress(console))

        with _timed(seconds, "load"):
            expected = _load(clickhouse, Generator(rows, seed), publisher, progress)
        with _timed(seconds, "analytics"):
            publisher.publish("analytics", "started")
            analytics = warehouse.analytics(clickhouse)
            problems += _check_cache(cache, clickhouse)
            publisher.publish("analytics", "done")
        with _timed(seconds, "model"):
            publisher.publish("model", "started")
            returns = _model(clickhouse, ledger)
            publisher.publish("model", "done")
        with _timed(seconds, "report"):
            publisher.publish("report", "started")
            plot = figure.draw(analytics, returns)
            stored = [
                bucket.store(documents.CSV_NAME, documents.to_csv(ledger.months())),
                bucket.store(documents.PLOT_NAME, plot),
            ]
            publisher.publish("report", "done")
        with _timed(seconds, "reconciliation"):
            heard = subscriber.wait_for(publisher.published)
            reconciliation = reconcile(expected, *stores(clickhouse, ledger, bucket, heard))
            page = report.render(
                totals=expected.totals,
                analytics=analytics,
                returns=returns,
                reconciliation=reconciliation,
                plot=plot,
                seed=seed,
            )
            stored.append(bucket.store(documents.REPORT_NAME, page.encode()))
            publisher.publish("reconciliation", "agrees" if reconciliation.agrees else "differs")
            files = {file.name: bucket.read(file.name) for file in stored}
            heard = subscriber.wait_for(publisher.published)

        problems += reconciliation.problems
        problems += [
            f"S3: {file.name} is not what was stored"
            for file in stored
            if documents.sha256(files[file.name]) != file.sha256
        ]
        if gap := updates.gaps(heard, publisher.published):
            problems.append(f"Redis: {gap}")
    return Outcome(expected, reconciliation, analytics, returns, heard, files, problems, seconds)


def stores(
    clickhouse: Client,
    ledger: books.Books,
    bucket: documents.Documents,
    heard: list[updates.Update],
) -> tuple[Store, ...]:
    """What each store holds at this moment, asked of the store itself."""
    return (
        Store.of("ClickHouse", warehouse.totals_by_client(clickhouse)),
        Store.of("PostgreSQL", ledger.totals_by_client()),
        Store.of("CSV in S3", documents.totals_of_csv(bucket.read(documents.CSV_NAME))),
        Store("Redis updates", updates.announced(heard)),
    )


def _load(clickhouse: Client, generator: Generator, publisher: updates.Publisher, progress: Progress) -> Store:
    """Make and insert the claims batch by batch, announce each, and return what was made."""
    made: dict[int, Totals] = {}
    loader = warehouse.Loader(clickhouse)
    publisher.publish("load", "started")
    task = progress.add_task("Claims into ClickHouse", total=generator.rows, speed="")
    begin, inserted = time.monotonic(), 0
    for batch in generator.batches():
        of_batch = batch.totals()
        made = add_by_client(made, of_batch)
        written = loader.insert(batch)
        in_cents = total(of_batch.values())
        # Announced is what the server says it wrote, not what was sent.
        publisher.publish(
            "load",
            "inserted",
            Totals(written, in_cents.billed_cents, in_cents.allowed_cents, in_cents.paid_cents),
        )
        inserted += written
        speed = inserted / (time.monotonic() - begin)
        progress.update(task, completed=inserted, speed=f"{speed:,.0f} rows/s")
    publisher.publish("load", "done")
    return Store.of("Generated", made)


def _check_cache(cache: updates.Cache, clickhouse: Client) -> list[str]:
    """Ask for the monthly trend twice: once from ClickHouse, once from Redis."""

    def compute() -> list[list[object]]:
        return [[str(row.month), row.totals.rows, row.totals.paid_cents] for row in warehouse.client_months(clickhouse)]

    cache.forget(_TREND)  # the claims it was made of are gone
    first, second = cache.get(_TREND, compute), cache.get(_TREND, compute)
    problems = []
    if cache.hits != 1 or first != second:
        problems.append("Redis: the kept result is not the one that was computed")
    if not 0 < cache.seconds_left(_TREND) <= updates.CACHE_SECONDS:
        problems.append(f"Redis: the kept result goes in {cache.seconds_left(_TREND)} s")
    return problems


def _model(clickhouse: Client, ledger: books.Books) -> list[books.Roi]:
    """Fill the books from the warehouse, and compute what the programmes would return."""
    ledger.create()
    ledger.store_months(warehouse.client_months(clickhouse))
    for template_id, diagnoses in ledger.templates():
        ledger.store_baselines(template_id, warehouse.baselines(clickhouse, diagnoses, *_YEAR))
    return ledger.compute_roi()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        console=console,
    )


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    seconds[step] = time.monotonic() - begin
