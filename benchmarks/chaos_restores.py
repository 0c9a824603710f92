"""Restores and backups that are killed at a random moment, and what the persistent services hold afterwards; for
`chaos.py`."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import click

from triton_env.persistent.docker.stack import DockerStack
from triton_env.services import Service
from triton_env.settings import Settings

OBJECTS = 15
"""In each bucket."""
BUCKETS = 3
LONGEST = 120.0
"""Seconds that a command may take."""
LOOKS = 0.0005
"""Seconds between two looks at how far a restore has come."""
PHASES = ("staging", "taking over", "committing", "committed")
"""Of a restore, as its journal calls them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        victim: `restore` or `backup`.
        phase: in which it is killed; empty for a backup, which has none.
        share: how far into it, as a share of how long it takes undisturbed.
    """

    victim: str
    phase: str
    share: float

    def __str__(self) -> str:
        return f"{self.victim}{f', {self.phase}' if self.phase else ''} at {self.share:.0%}"


class Project:
    """Persistent services of this benchmark's own.

    Args:
        folder: for their state and the backups.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"chaos-{token_hex(4)}"
        self.folder = folder
        self.file = folder / "new.backup"
        self.environ = dict(os.environ) | {
            "TRITON_PROJECT": self.name,
            "TRITON_STATE_DIR": str(folder / "state"),
            "TRITON_RUNTIME": "docker",
            "TRITON_PROGRESS": "plain",
        }
        self.settings = Settings(triton_project=self.name, triton_state_dir=str(folder / "state"))
        self.journal = folder / "state" / "restores" / f"{self.name}.json"
        self.services: Mapping[str, Service] = {}

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of triton-env to its end."""
        argv = [sys.executable, "-m", "triton_env", *words]
        done = subprocess.run(argv, env=self.environ, capture_output=True, text=True, timeout=LONGEST, check=False)
        if check and done.returncode:
            raise click.ClickException(f"{' '.join(words)} failed:\n{done.stderr}")
        return done

    def begin(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command of triton-env."""
        argv = [sys.executable, "-m", "triton_env", *words]
        output = subprocess.DEVNULL
        return subprocess.Popen(argv, env=self.environ, stdout=output, stderr=output, start_new_session=True)

    def phase(self) -> str:
        """How far a restore has come; empty where there is none."""
        with suppress(OSError, ValueError):
            return str(json.loads(self.journal.read_text("utf-8"))["phase"])
        return ""

    def fill(self, word: str) -> None:
        """Have all four services hold that word, and nothing else of before."""
        services: Any = self.services
        with services["postgres"].connect(dbname="template1", autocommit=True) as connection:
            rows = connection.execute("select datname from pg_database where datname like 'of_%'").fetchall()
            for name in (*(name for (name,) in rows), services["postgres"].database):
                connection.execute(f'drop database if exists "{name}" with (force)')
            for name in (f"of_{word}", services["postgres"].database):
                connection.execute(f'create database "{name}"')
        with services["postgres"].connect(autocommit=True) as connection:
            connection.execute(f"create table t as select '{word}' as word from generate_series(1, 1000)")
        with services["clickhouse"].client(database="default") as client:
            for (name,) in client.query("SHOW DATABASES").result_rows:
                if name.startswith("of_") or name == services["clickhouse"].database:
                    client.command(f"DROP DATABASE `{name}` SYNC")
            for name in (services["clickhouse"].database, f"of_{word}"):
                client.command(f"CREATE DATABASE `{name}`")
                client.command(f"CREATE TABLE `{name}`.t (word String) ENGINE = MergeTree ORDER BY word")
                client.command(f"INSERT INTO `{name}`.t SELECT '{word}' FROM numbers(1000)")
        with services["redis"].client() as redis:
            redis.flushall()
            redis.mset({f"{number}": word for number in range(1000)})
        with services["redis"].client(db=3) as redis:
            redis.set(word, word)
        s3 = services["s3"].client()
        for bucket in self._buckets():
            for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
                s3.delete_object(Bucket=bucket, Key=each["Key"])
            if bucket.startswith("of-"):
                s3.delete_bucket(Bucket=bucket)
        for bucket in (services["s3"].bucket, *(f"shared-{number}" for number in range(BUCKETS - 1)), f"of-{word}"):
            if bucket not in self._buckets():
                s3.create_bucket(Bucket=bucket)
            for number in range(OBJECTS):
                s3.put_object(Bucket=bucket, Key=str(number), Body=word.encode())

    def look(self) -> dict[str, Any]:
        """All that the services hold."""
        services: Any = self.services
        found: dict[str, Any] = {}
        with services["postgres"].connect() as connection:
            found["postgres"] = connection.execute("select word, count(*) from t group by 1").fetchall()
            found["databases"] = connection.execute("select datname from pg_database order by 1").fetchall()
            roles = "select rolname from pg_roles where rolname !~ '^pg_' order by 1"
            found["roles"] = connection.execute(roles).fetchall()
            busy = "select application_name from pg_stat_activity where application_name like 'triton_restore%'"
            found["connections"] = connection.execute(busy).fetchall()
        with services["clickhouse"].client() as client:
            found["clickhouse"] = client.query("SELECT word, count() FROM t GROUP BY 1").result_rows
            found["clickhouse databases"] = client.query("SHOW DATABASES").result_rows
        with services["redis"].client() as redis:
            found["redis"] = sorted(set(redis.mget([str(number) for number in range(1000)])), key=repr)
            found["keys"] = {name: about["keys"] for name, about in redis.info("keyspace").items()}
        s3 = services["s3"].client()
        for bucket in self._buckets():
            keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
            bodies = {s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
            found[f"bucket {bucket}"] = (len(keys), sorted(bodies))
        return found

    def leftovers(self) -> list[str]:
        """Files and processes that a dead command left."""
        files = [path.name for path in (*self.folder.glob("*.partial-*"), *self.journal.parent.glob("*.json"))]
        inside = subprocess.run(
            ["docker", "top", self._container("postgres"), "-o", "args"], capture_output=True, text=True, check=False
        ).stdout
        return files + [line for line in inside.splitlines() if "pg_restore" in line or "pg_dump" in line]

    def _container(self, service: str) -> str:
        with DockerStack(self.settings) as stack:
            return stack.instances()[service].id

    def _buckets(self) -> list[str]:
        services: Any = self.services
        return [bucket["Name"] for bucket in services["s3"].client().list_buckets()["Buckets"]]


@contextmanager
def project() -> Iterator[Project]:
    """Services that run, with a backup of "new"; nothing of them is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-restores-"))
    made = Project(folder)
    try:
        made.command("up")
        with DockerStack(made.settings) as stack:
            made.services = stack.running()
        made.fill("new")
        made.command("backup", str(made.file))
        yield made
    finally:
        made.command("reset", "--yes", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def durations(made: Project) -> dict[str, float]:
    """Seconds that a backup, and each phase of a restore, takes where nothing is killed."""
    began = time.monotonic()
    made.command("backup", str(made.folder / "again.backup"))
    seconds = {"backup": time.monotonic() - began}
    made.fill("old")
    restore = made.begin("restore", str(made.file), "--yes")
    last, since = "", time.monotonic()
    while restore.poll() is None:
        if (phase := made.phase()) != last:
            seconds[last] = time.monotonic() - since
            last, since = phase, time.monotonic()
        time.sleep(LOOKS)
    return {name: seconds.get(name, 0.0) for name in ("backup", *PHASES)}


def plans(runs: int, seed: int) -> Iterator[Plan]:
    """As many plans as wanted, the same ones for the same seed: one in ten is a backup."""
    chance = random.Random(seed)
    for _ in range(runs):
        is_backup = chance.random() < 0.1
        phase = "" if is_backup else chance.choice(PHASES)
        yield Plan("backup" if is_backup else "restore", phase, chance.random())


def carry_out(made: Project, plan: Plan, seconds: Mapping[str, float]) -> None:
    """Begin it, and kill it when it is time."""
    words = ("restore", str(made.file), "--yes") if plan.phase else ("backup", str(made.folder / "killed.backup"), "-f")
    process = made.begin(*words)
    began = time.monotonic()
    while plan.phase and process.poll() is None and made.phase() != plan.phase:
        if time.monotonic() - began > LONGEST:
            raise click.ClickException(f"never came there: {plan}")
        time.sleep(LOOKS)
    with suppress(subprocess.TimeoutExpired):
        process.wait(plan.share * seconds[plan.phase or "backup"])
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def problems(made: Project, plan: Plan, before: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What `status` says of a run that is over, and what is wrong with that or with what `up` makes of it."""
    phase = made.phase()
    status = made.command("status", "--json", check=False)
    said = json.loads(status.stdout)["restore"] or ""
    found = []
    if bool(said) != bool(phase) or (status.returncode == 0) == bool(phase):
        found.append(f"status ends with {status.returncode} and says {said!r} in phase {phase!r}")
    up = made.command("up", check=False)
    if up.returncode:
        found.append(f"up failed: {up.stderr}")
    after = made.look()
    is_old, is_new = after == before, after == new
    if not (is_old or is_new):
        differs = {name: value for name, value in after.items() if value not in (before.get(name), new.get(name))}
        found.append(f"neither old nor new: {differs or 'some services are old, some new'}")
    if ("is to be finished:" in said or not said) and plan.phase and not is_new:
        found.append(f"it is not what was restored, and status had said {said!r}")
    if ("before anything was" in said or "is to be taken back" in said) and not is_old:
        found.append(f"it is not what it was, and status had said {said!r}")
    if again := made.command("status", "--json", check=False).returncode:
        found.append(f"status still ends with {again}")
    if plan.victim == "backup":
        # What makes the same backup next removes it.
        made.command("backup", str(made.folder / "killed.backup"), "-f")
    found += [f"left: {name}" for name in made.leftovers()]
    return phase or "over", found


def run(runs: int, seed: int) -> bool:
    """Do that many; whether all was well."""
    counts: Counter[str] = Counter()
    with project() as made:
        seconds = durations(made)
        print("undisturbed:", ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()), flush=True)
        new = made.look()
        for number, plan in enumerate(plans(runs, seed), 1):
            made.fill(f"old{number}")
            before = made.look()
            carry_out(made, plan, seconds)
            phase, wrong = problems(made, plan, before, new)
            counts[f"{plan.victim}, killed when {phase}"] += 1
            counts["went wrong"] += bool(wrong)
            outcome = f"WRONG {'; '.join(wrong)}" if wrong else "well"
            print(f"{number:3} {plan}: killed when {phase}; {outcome}", flush=True)
    print()
    for name, count in sorted(counts.items()):
        print(f"{count:4} {name}")
    return not counts["went wrong"]
