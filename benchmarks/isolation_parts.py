"""What `isolation.py` measures with: a template of many tables, a suite of tests, and what servers use."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import psutil

from triton_env import TritonEnvironment
from triton_env.runtimes.owner import ENVIRONMENT_LABEL

TABLES = 30
SCHEMA = "\n".join(
    f"create table table_{number} (id bigint generated always as identity primary key, name text not null unique,"
    " created_at timestamptz not null default now());"
    for number in range(TABLES)
)


def make_template(folder: Path, *, full: bool = True) -> Path:
    """A folder with 30 tables for PostgreSQL, and in full also two for ClickHouse and a document for S3."""
    files = {"postgres/schema.sql": SCHEMA}
    more = {
        "clickhouse/schema.sql": "CREATE TABLE claims (id UInt64, amount UInt64) ENGINE = MergeTree ORDER BY id;"
        " CREATE TABLE notes (id UInt64, text String) ENGINE = MergeTree ORDER BY id;",
        "s3/letter.txt": "Dear client,\n",
    }
    template = folder / ("full" if full else "tables")
    for name, content in (files | more if full else files).items():
        path = template / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return template


_CONFTEST = """
import json
import statistics

PHASES = {"setup": [], "call": [], "teardown": []}
FIRST = {}
PASSED = []


def pytest_runtest_logreport(report):
    PHASES[report.when].append(report.duration)
    worker = getattr(report, "worker_id", "")
    if report.when == "setup":
        FIRST.setdefault(worker, report.duration)
    if report.when == "call" and report.passed:
        PASSED.append(report.nodeid)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        return
    found = {name: sum(values) for name, values in PHASES.items()}
    found |= {"passed": len(PASSED), "start": max(FIRST.values(), default=0)}
    found["median_setup"] = statistics.median(PHASES["setup"] or [0]) + statistics.median(PHASES["teardown"] or [0])
    (session.config.rootpath / "phases.json").write_text(json.dumps(found))
"""

_TESTS = """
import pytest


@pytest.mark.parametrize("number", range({tests}))
def test_nobody_elses(triton, number):
    with triton.postgres.connect() as connection:
        assert connection.execute("select count(*) from table_0").fetchone() == (0,)
        connection.execute("insert into table_0 (name) values ('same')")
    with triton.clickhouse.client() as client:
        assert client.query("select count() from claims").result_rows == [(0,)]
        client.command(f"insert into claims values (1, {{number}})")
        assert client.query("select amount from claims").result_rows == [(number,)]
    with triton.redis.client() as client:
        assert client.dbsize() == 0
        assert client.incr("same") == 1
        client.set("value", number)
        assert client.get("value") == str(number).encode()
    s3 = triton.s3.client()
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=triton.s3.bucket)["Contents"]] == ["letter.txt"]
    s3.put_object(Bucket=triton.s3.bucket, Key="same", Body=str(number))
    assert s3.get_object(Bucket=triton.s3.bucket, Key="same")["Body"].read() == str(number).encode()
    s3.close()
    with triton.postgres.connect() as connection:
        assert connection.execute("select name from table_0").fetchall() == [("same",)]
"""


def suite_files(folder: Path, tests: int) -> None:
    """A project with so many tests, which write the same keys to all four services and expect to find none there."""
    make_template(folder)
    (folder / "pytest.ini").write_text("[pytest]\ntriton_template = full\n", "utf-8")
    (folder / "conftest.py").write_text(textwrap.dedent(_CONFTEST), "utf-8")
    (folder / "test_suite.py").write_text(textwrap.dedent(_TESTS).format(tests=tests), "utf-8")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the servers of an environment use, in MB."""

    memory: float
    disk: float
    own: float

    def __str__(self) -> str:
        return f"servers {self.memory:.0f} MB of memory, {self.disk:.1f} MB of data; this process {self.own:.0f} MB"


def usage(environment: TritonEnvironment) -> Usage:
    """What the servers use right now, and this process."""
    memory, disk = (_of_containers if environment.runtime == "docker" else _of_processes)(environment.id)
    return Usage(memory / 1e6, disk / 1e6, psutil.Process().memory_info().rss / 1e6)


def _of_containers(environment: str) -> tuple[float, float]:
    import docker

    memory = disk = 0.0
    client = docker.from_env()
    try:
        for container in client.containers.list(filters={"label": f"{ENVIRONMENT_LABEL}={environment}"}):
            stats = client.api.stats(str(container.id), stream=False)["memory_stats"]
            # That of processes, by version 1 or 2 of cgroups. Caches are the kernel's; data in tmpfs is counted below.
            memory += stats["stats"].get("total_rss") or stats["stats"].get("anon", 0)
            for mount in container.attrs["Mounts"]:
                disk += _size_in(container, mount["Destination"])
            for path in container.attrs["HostConfig"].get("Tmpfs") or {}:
                disk += _size_in(container, path)
    finally:
        client.close()
    return memory, disk


def _size_in(container: object, path: str) -> float:
    output = container.exec_run(["du", "-sk", path]).output  # type: ignore[attr-defined]
    # Its status is 1 where files go while they are counted.
    words = output.decode(errors="replace").strip().splitlines()[-1:]
    return float(words[0].split()[0]) * 1024 if words and words[0].split()[0].isdigit() else 0.0


def _of_processes(environment: str) -> tuple[float, float]:
    servers = psutil.Process().children(recursive=True)
    memory = 0.0
    for process in servers:
        try:
            memory += process.memory_full_info().uss
        except psutil.Error:
            continue
    folders = [base / f"triton-env-{environment}" for base in (Path("/tmp"), Path("/dev/shm"))]
    disk = 0.0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                disk += path.stat().st_blocks * 512 if path.is_file() else 0
            except OSError:
                continue
    return memory, disk
