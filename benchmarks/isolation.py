"""How long a test waits for services of its own: namespaces against what is done elsewhere, in one run.

python benchmarks/isolation.py [--runtime docker|embedded] [--rounds N] [--rows PATTERNS] [--json | --markdown]

README.md beside this file explains how to read the table.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import click
import psycopg
from isolation_parts import (
    SCHEMA,
    TABLES,
    Usage,
    make_template,
    suite_files,
    usage,
)
from tables import Aim, Row, as_data, as_markdown, as_text, chosen, lines

from triton_env import Settings, TritonEnvironment
from triton_env.isolation.namespace import Namespace
from triton_env.runtimes.owner import LABEL

CHILDREN = Path(__file__).with_name("startup_children.py")
PAUSE = 0.1
"""Seconds that a test takes, while the pool fills up again."""
TESTS = 500
WORKERS = 4
NAMESPACES = 2000
TIMEOUT = 900
CONTAINER_ROUNDS = 3

ROWS = (
    Row("pool-p50", "a namespace of all four from the pool, p50", ("template",), Aim(0.002, "seconds")),
    Row("pool-p95", "the same, p95", ("template",), Aim(0.020, "seconds")),
    Row("pool-use-p50", "the same, and its first use: the variables of all four, p50", ("template",)),
    Row("rush-p50", "a namespace from the pool without a pause between tests, p50", ("template",)),
    Row("direct-p50", "a namespace of all four without a pool, p50", ("template",), Aim(0.030, "seconds")),
    Row("direct-p95", "the same, p95", ("template",)),
    Row("full-p50", "the same with two ClickHouse tables and a document in the template, p50", ("template",)),
    Row("reset", "`namespace.reset()`", ("template",)),
    Row("template", "`CREATE DATABASE … TEMPLATE` alone, by psycopg"),
    Row("schema", f"drop the schema and make {TABLES} tables again, PostgreSQL alone", ("template",)),
    Row("truncate", f"`TRUNCATE` of {TABLES} tables, PostgreSQL alone", ("template",)),
    Row("containers", "Testcontainers' modules afresh, in threads", ("template",)),
    Row("attach", "attach to a warm environment: `start()` in a fresh process", aim=Aim(0.150, "seconds")),
    Row("attach-process", "that process as a whole, with its imports"),
)


class Bench:
    """One run on one environment.

    Args:
        runtime: where the services run.
        rounds: how many namespaces for each row.
    """

    def __init__(self, runtime: str, rounds: int) -> None:
        self.runtime = runtime
        self.rounds = rounds

    def take(self, names: set[str]) -> dict[str, list[float]]:
        """The samples of these rows, in seconds."""
        samples: dict[str, list[float]] = {}
        groups: dict[tuple[str, ...], Callable[[Path], dict[str, list[float]]]] = {
            ("pool-p50", "pool-p95", "pool-use-p50"): self._pool,
            ("rush-p50",): self._rush,
            ("direct-p50", "direct-p95", "full-p50", "reset"): self._direct,
            ("template", "schema", "truncate"): self._alone,
            ("attach", "attach-process"): lambda folder: self._attach(),
            ("containers",): lambda folder: self._containers(),
        }
        with tempfile.TemporaryDirectory() as folder:
            template = make_template(Path(folder), full=False)
            for rows, measure in groups.items():
                if names.intersection(rows):
                    click.echo(f"{', '.join(rows)} ...", err=True)
                    samples |= measure(template)
        return samples

    def environment(self, pool: int) -> TritonEnvironment:
        """A session with a pool of that size."""
        return TritonEnvironment(Settings(triton_pool_size=pool, triton_progress="off"), runtime=self.runtime)

    def _pool(self, template: Path) -> dict[str, list[float]]:
        with self.environment(4) as environment:
            taken = self._namespaces(environment, template, PAUSE)
            used = self._namespaces(environment, template, PAUSE, use=lambda namespace: namespace.environ())
        return {
            "pool-p50": [statistics.median(taken)],
            "pool-p95": [_p95(taken)],
            "pool-use-p50": [statistics.median(used)],
        }

    def _rush(self, template: Path) -> dict[str, list[float]]:
        with self.environment(4) as environment:
            return {"rush-p50": [statistics.median(self._namespaces(environment, template, 0))]}

    def _direct(self, template: Path) -> dict[str, list[float]]:
        full = make_template(template.parent)
        with self.environment(0) as environment:
            taken = self._namespaces(environment, template, PAUSE)
            more = self._namespaces(environment, full, PAUSE)
            with environment.namespace(template=full) as namespace:
                resets = [_timed(namespace.reset) for _ in range(20)]
        return {
            "direct-p50": [statistics.median(taken)],
            "direct-p95": [_p95(taken)],
            "full-p50": [statistics.median(more)],
            "reset": resets,
        }

    def _namespaces(
        self,
        environment: TritonEnvironment,
        template: Path,
        pause: float,
        use: Callable[[Namespace], object] = lambda namespace: None,
    ) -> list[float]:
        # The first one builds the template and fills the pool.
        environment.namespace(template=template).close()
        time.sleep(2)
        taken: list[float] = []
        for _ in range(self.rounds):
            begun = time.perf_counter()
            namespace = environment.namespace(template=template)
            use(namespace)
            taken.append(time.perf_counter() - begun)
            time.sleep(pause)
            namespace.close()
        return taken

    def _alone(self, template: Path) -> dict[str, list[float]]:
        """What is usual for PostgreSQL, with connections that are kept: the same server, no other service at work."""
        settings = Settings(triton_progress="off")
        with (
            TritonEnvironment(settings, services=("postgres",), runtime=self.runtime) as environment,
            environment.postgres.connect(dbname="postgres", autocommit=True) as admin,
        ):
            admin.execute("create database model")
            with environment.postgres.connect(dbname="model") as connection:
                connection.execute(SCHEMA)
            return {
                "template": [self._clone(admin) for _ in range(self.rounds)],
                "schema": list(self._in_place(environment, _make_again)),
                "truncate": list(self._in_place(environment, _truncate)),
            }

    def _clone(self, admin: "psycopg.Connection[tuple[object, ...]]") -> float:
        name = f"clone_{token_hex(4)}"
        seconds = _timed(lambda: admin.execute(f"create database {name} template model".encode()))
        admin.execute(f"drop database {name}".encode())
        return seconds

    def _in_place(self, environment: TritonEnvironment, renew: Callable[..., None]) -> Iterator[float]:
        with environment.postgres.connect(dbname="model", autocommit=True) as connection:
            for _ in range(min(self.rounds, 50)):
                for number in range(TABLES):
                    connection.execute(f"insert into table_{number} (name) values ('a'), ('b')".encode())
                yield _timed(lambda: renew(connection))

    def _attach(self) -> dict[str, list[float]]:
        code = (
            "import time; from triton_env import TritonEnvironment, Settings\n"
            f"env = TritonEnvironment(Settings(triton_progress='off'), runtime={self.runtime!r}, reuse=True)\n"
            "begun = time.perf_counter(); env.start(); print(time.perf_counter() - begun); env.stop()"
        )
        rows: dict[str, list[float]] = {"attach": [], "attach-process": []}
        with TritonEnvironment(Settings(triton_progress="off"), runtime=self.runtime, reuse=True):
            for _ in range(10):
                begun = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT
                )
                rows["attach-process"].append(time.perf_counter() - begun)
                rows["attach"].append(float(done.stdout))
        return rows

    def _containers(self) -> dict[str, list[float]]:
        label = f"{LABEL}.benchmark={token_hex(4)}"
        command = [sys.executable, str(CHILDREN), "modules", "threads", label]
        # Without Ryuk, whose image may be out of reach; the modules are, if anything, quicker.
        environ = dict(os.environ) | {"TESTCONTAINERS_RYUK_DISABLED": "true"}
        taken: list[float] = []
        for _ in range(CONTAINER_ROUNDS):
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=TIMEOUT)
            taken.append(json.loads(done.stdout)["modules-threads"])
            for container in _words("docker", "ps", "-aq", "--filter", f"label={label}"):
                _words("docker", "rm", "-fv", container)
        return {"containers": taken}

    def suite(self) -> str:
        """500 tests in four processes, each writing the same keys everywhere; what of it is the environment's."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            suite_files(folder, TESTS)
            environ = dict(os.environ) | {"TRITON_RUNTIME": self.runtime, "TRITON_PROGRESS": "off"}
            command = [sys.executable, "-m", "pytest", "-q", "-n", str(WORKERS), "-p", "no:cacheprovider"]
            begun = time.perf_counter()
            done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=TIMEOUT)
            wall = time.perf_counter() - begun
            if done.returncode:
                raise click.ClickException(f"tests met each other's data, or failed:\n{done.stdout[-3000:]}")
            phases = json.loads((folder / "phases.json").read_text("utf-8"))
        ours, bodies = phases["setup"] + phases["teardown"], phases["call"]
        return (
            f"{phases['passed']} tests in {WORKERS} processes, each writing the same keys to all four services: "
            f"{wall:.1f} s, no cross-talk. "
            f"Of the tests' time, {ours / (ours + bodies):.0%} went into start, namespaces and their end "
            f"({phases['start']:.1f} s of waiting for the start in each process), the rest into their own reads and "
            f"writes; a test's share without the start: {phases['median_setup'] * 1000:.1f} ms (median)."
        )

    def growth(self) -> str:
        """Memory and disk of the servers over 2,000 namespaces."""
        with tempfile.TemporaryDirectory() as folder, self.environment(4) as environment:
            template = make_template(Path(folder))
            found: list[Usage] = []
            for number in range(NAMESPACES + 1):
                if number in (NAMESPACES // 10, NAMESPACES // 2, NAMESPACES):
                    time.sleep(10)  # what was closed is removed in the background
                    found.append(usage(environment))
                    click.echo(f"after {number} namespaces: {found[-1]}", err=True)
                environment.namespace(template=template).close()
        return "\n".join(
            f"after {count:5} namespaces: {each}"
            for count, each in zip((NAMESPACES // 10, NAMESPACES // 2, NAMESPACES), found, strict=True)
        )


def _make_again(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    connection.execute("drop schema public cascade; create schema public")
    connection.execute(SCHEMA)


def _truncate(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    tables = ", ".join(f"table_{number}" for number in range(TABLES))
    connection.execute(f"truncate {tables} restart identity cascade".encode())


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _p95(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=20)[-1]


def _words(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@click.command()
@click.option("--runtime", default="docker", show_default=True, type=click.Choice(["docker", "embedded"]))
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(20), help="Namespaces for each row.")
@click.option("--rows", "patterns", default="", help="Only these rows: names or patterns, such as pool-*.")
@click.option("--suite/--no-suite", default=True, help=f"{TESTS} tests in {WORKERS} processes.")
@click.option("--growth/--no-growth", default=True, help=f"Memory and disk over {NAMESPACES} namespaces.")
@click.option("--json", "form", flag_value="json", help="All samples, as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="The table as Markdown.")
def main(runtime: str, rounds: int, patterns: str, suite: bool, growth: bool, form: str | None) -> None:
    """Measure how long a test waits for services of its own."""
    try:
        rows = chosen(ROWS, patterns)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    bench = Bench(runtime, rounds)
    measured = lines(rows, bench.take({row.name for row in rows}))
    words = [bench.suite()] if suite else []
    words += [bench.growth()] if growth else []
    caption = f"{runtime}, {rounds} namespaces for each row; {os.cpu_count()} CPUs, Python {sys.version.split()[0]}"
    if form == "json":
        click.echo(json.dumps({"caption": caption, "rows": as_data(measured), "words": words}, indent=2))
    else:
        click.echo("\n\n".join((as_markdown(measured) if form == "markdown" else as_text(measured), caption, *words)))


if __name__ == "__main__":
    main()
