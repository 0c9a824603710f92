"""The parts of `startup.py` that run in a process of their own, since what it measures includes imports.

Usage: startup_children.py eager | lazy SERVICE | persistent stop|leave | modules sequence|threads LABEL

Prints the seconds of each row as one line of JSON. Imports nothing but the standard library before the clock runs.
"""

import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any


def eager() -> dict[str, float]:
    """Ours, all four at once: in a fresh process, its stop, and a second start."""
    begun = perf_counter()
    from triton_env import TritonEnvironment

    environment = TritonEnvironment(runtime="docker")
    made = perf_counter()
    with environment:
        ready = perf_counter()
    stopped = perf_counter()
    with TritonEnvironment(runtime="docker"):
        again = perf_counter()
    return {
        "eager-cold": ready - begun,
        "eager-start": ready - made,
        "eager-warm": again - stopped,
        "stop": stopped - ready,
    }


def persistent(afterwards: str) -> dict[str, float]:
    """Ours, persistent: `start()` alone. Afterwards the services are stopped, or left running."""
    from triton_env import TritonEnvironment

    environment = TritonEnvironment(runtime="docker", persistent=True)
    made = perf_counter()
    environment.start()
    ready = perf_counter()
    if afterwards == "stop":
        environment.stop()
    else:
        environment.detach()
    return {"start": ready - made}


def lazy(service: str) -> dict[str, float]:
    """Ours, lazily: all four on their way, the first query on one of them; then again in the same process."""
    rows: dict[str, float] = {}
    for row in ("lazy", "lazy-warm"):
        begun = perf_counter()
        from triton_env import TritonEnvironment

        with TritonEnvironment(runtime="docker", lazy=True) as environment:
            FIRST_QUERIES[service](environment)
            rows[f"{row}-{service}"] = perf_counter() - begun
    return rows


def _query_postgres(environment: Any) -> None:
    with environment.postgres.connect() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def _query_clickhouse(environment: Any) -> None:
    with environment.clickhouse.client() as client:
        assert client.command("select 1") == 1


def _query_redis(environment: Any) -> None:
    with environment.redis.client() as client:
        assert client.ping()


def _query_s3(environment: Any) -> None:
    answer = environment.s3.client().list_objects_v2(Bucket=environment.s3.bucket)
    assert answer["KeyCount"] == 0


FIRST_QUERIES: dict[str, Callable[[Any], None]] = {
    "postgres": _query_postgres,
    "clickhouse": _query_clickhouse,
    "redis": _query_redis,
    "s3": _query_s3,
}


def modules(how: str, label: str) -> dict[str, float]:
    """Testcontainers' own modules as they come, until their `start` has returned."""
    begun = perf_counter()
    from testcontainers.community.clickhouse import ClickHouseContainer
    from testcontainers.community.localstack import LocalStackContainer
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer

    # Only the images are read from the settings; that takes no part of what is measured.
    paused = perf_counter()
    from triton_env import Settings

    settings = Settings()
    begun += perf_counter() - paused

    name, _, value = label.partition("=")
    containers: list[Any] = [
        PostgresContainer(settings.postgres_image),
        ClickHouseContainer(settings.clickhouse_image),
        RedisContainer(settings.redis_image),
        LocalStackContainer(settings.localstack_image),
    ]
    with ExitStack() as stack:
        for container in containers:
            container.with_kwargs(labels={name: value})
            stack.callback(container.stop)
        if how == "threads":
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(len(containers)) as pool:
                for started in [pool.submit(container.start) for container in containers]:
                    started.result()
        else:
            for container in containers:
                container.start()
        ready = perf_counter()
    return {f"modules-{how}": ready - begun}


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # Removes what was started, where the default would end the process on the spot.
    signal.signal(signal.SIGTERM, _end)
    kind, *arguments = sys.argv[1:]
    measure: dict[str, Callable[..., dict[str, float]]] = {
        "eager": eager,
        "lazy": lazy,
        "persistent": persistent,
        "modules": modules,
    }
    print(json.dumps(measure[kind](*arguments)))
