"""How long the embedded runtime takes to start and stop all four services, and how much memory they then have.

python benchmarks/embedded.py [--rounds N] [--endurance N] [--json]

Each round is a process of its own for each row. "Cold" is without the cached PostgreSQL data directory; packages are
in the page cache and compiled either way, as they are after `pip install`.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
from tables import Aim, Row, as_data, as_text, lines

ROWS = (
    Row("cold", "start, PostgreSQL not cached", aim=Aim(1.2, "seconds")),
    Row("cached", "start, cached", aim=Aim(0.85, "seconds")),
    Row("cached-process", "start, cached, with the imports of a fresh process"),
    Row("again", "second start of a process"),
    Row("stop", "stop", aim=Aim(0.2, "seconds")),
)
MEMORY_AIM = 450
"""Megabytes of all four, idle."""
IDLE = 3
"""Seconds after which servers that get no requests count as idle."""
TIMEOUT = 120
KILLED = 10
"""Of a hundred owners, how many are killed instead of stopping."""


@click.command
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--endurance", type=click.IntRange(min=0), default=0, help="Also start and stop this often; see what stays."
)
@click.option("--json", "as_json", is_flag=True)
@click.option("--child", type=click.Choice(["start", "endure"]), hidden=True)
def main(rounds: int, endurance: int, as_json: bool, child: str | None) -> None:
    """Measure, and print a table with the aims."""
    if child:
        {"start": _start, "endure": _endure}[child]()
        return
    specification = importlib.util.find_spec("moto")
    if specification is None:
        raise click.ClickException('pip install "triton-env[embedded]"')
    if not Path(importlib.util.cache_from_source(str(specification.origin))).exists():
        click.echo("moto is not compiled, which costs half a second: python -m compileall -q SITE-PACKAGES", err=True)
    samples: dict[str, list[float]] = {row.name: [] for row in ROWS}
    memory: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            cold = _child("start", folder, XDG_CACHE_HOME=f"{folder}/cache-{number}")
            began = time.time()
            cached = _child("start", folder, XDG_CACHE_HOME=f"{folder}/cache-{number}")
            samples["cold"].append(cold["start"])
            samples["cached"].append(cached["start"])
            samples["cached-process"].append(cached["ready"] - began)
            samples["again"].append(cached["again"])
            samples["stop"] += [cold["stop"], cached["stop"]]
            for name, amount in cached["memory"].items():
                memory.setdefault(name, []).append(amount)
        left = _endurance(endurance, folder) if endurance else None
    medians = {name: median(amounts) for name, amounts in memory.items()}
    measured = lines(ROWS, samples)
    if as_json:
        data = {"rows": as_data(measured), "memory": medians, "memory_aim": MEMORY_AIM, "left": left}
        click.echo(json.dumps(data, indent=2))
        return
    total = sum(medians.values())
    click.echo(f"{as_text(measured)}\n")
    click.echo("\n".join(f"{amount:6.0f} MB  {name}" for name, amount in medians.items()))
    click.echo(f"{total:6.0f} MB  all, idle; ≤ {MEMORY_AIM} MB: {'met' if total <= MEMORY_AIM else 'missed'}")
    if left is not None:
        click.echo(
            f"\n{endurance} starts and stops, {_killed(endurance)} by SIGKILL, left: {', '.join(left) or 'nothing'}"
        )
    load = os.getloadavg()[0]
    click.echo(f"\n{os.cpu_count()} CPUs, load {load:.1f}, medians of {rounds}")


def _child(kind: str, folder: str, **variables: str) -> Any:
    done = subprocess.run(
        [sys.executable, __file__, "--child", kind],
        env=dict(os.environ) | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise click.ClickException(done.stderr)
    return json.loads(done.stdout)


def _start() -> None:
    from triton_env import Settings, TritonEnvironment

    settings = Settings(triton_progress="off")
    before = time.perf_counter()
    environment = TritonEnvironment(settings, runtime="embedded").start()
    start = time.perf_counter() - before
    ready = time.time()
    time.sleep(IDLE)
    memory = _memory(environment.id)
    before = time.perf_counter()
    environment.stop()
    stop = time.perf_counter() - before
    before = time.perf_counter()
    with TritonEnvironment(settings, runtime="embedded"):
        again = time.perf_counter() - before
    print(json.dumps({"start": start, "ready": ready, "stop": stop, "again": again, "memory": memory}))


def _memory(environment: str) -> dict[str, float]:
    """Megabytes by program. What processes share counts once, where the system reports that (PSS)."""
    found = dict.fromkeys(("postgres", "clickhouse", "valkey", "s3", "guard"), 0.0)
    (guard,) = [child for child in psutil.Process().children() if environment in " ".join(child.cmdline())]
    for process in (guard, *guard.children(recursive=True)):
        words = " ".join(process.cmdline())
        name = next((name for name in ("guard.py", "clickhouse", "valkey", "servers.s3") if name in words), "postgres")
        details = process.memory_full_info()
        amount = getattr(details, "pss", 0) or details.rss
        found[name.removeprefix("servers.").removesuffix(".py")] += amount / 1e6
    return found


def _killed(count: int) -> int:
    return count * KILLED // 100


def _endure() -> None:
    from triton_env import Settings, TritonEnvironment

    environment = TritonEnvironment(Settings(triton_progress="off"), runtime="embedded").start()
    ports = [environment.service(name).port for name in environment.services]
    print(json.dumps([environment.id, ports]), flush=True)
    sys.stdin.readline()
    environment.stop()


def _endurance(count: int, folder: str) -> list[str]:
    """Start and stop all four `count` times; what is left a few seconds later."""
    identifiers: set[str] = set()
    ports: set[int] = set()
    for number in range(count):
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", "endure"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        identifier, used = json.loads(child.stdout.readline())
        identifiers.add(identifier)
        ports |= set(used)
        if number < _killed(count):
            child.send_signal(signal.SIGKILL)
        child.communicate("\n" if number >= _killed(count) else None, timeout=TIMEOUT)
    time.sleep(IDLE)
    left = [
        str(path) for base in ("/tmp", "/dev/shm", tempfile.gettempdir()) for path in Path(base).glob("triton-env-*")
    ]
    left = [path for path in left if path[-8:] in identifiers]
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        left += [words for identifier in identifiers if identifier in words]
    listening = {
        connection.laddr.port
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    return left + [f"port {port}" for port in ports & listening]


if __name__ == "__main__":
    main()
