"""Data that has to stay: written to each service, also while its server is killed, and looked for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile

from patience import WAIT
from triton_env import TritonEnvironment


def write(env: TritonEnvironment, mark: str) -> None:
    """Write a mark into each service."""
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute("create table if not exists marks (mark text)")
        connection.execute("insert into marks values (%s)", [mark])
    client = env.clickhouse.client()
    client.command("create table if not exists marks (mark String) engine MergeTree order by mark")
    client.insert("marks", [[mark]], ["mark"])
    env.redis.client().set(mark, "kept")
    if "s3" in env.services:
        env.s3.client().put_object(Bucket=env.s3.bucket, Key=mark, Body=mark.encode())


def check_written(env: TritonEnvironment, mark: str) -> None:
    """The mark is in each service, once."""
    with env.postgres.connect() as connection:
        assert connection.execute("select 1 from marks where mark = %s", [mark]).fetchone()
    rows = env.clickhouse.client().query("select count() from marks where mark = {m:String}", {"m": mark})
    assert rows.result_rows == [(1,)]
    assert env.redis.client().get(mark) == b"kept"
    if "s3" in env.services:
        assert env.s3.client().get_object(Bucket=env.s3.bucket, Key=mark)["Body"].read() == mark.encode()


@contextmanager
def amid_writes(env: TritonEnvironment, name: str = "kills", least: int = 5) -> Iterator[dict[str, list[int]]]:
    """In the block, which has to kill the servers, clients write; what was acknowledged is known at its end.

    Args:
        name: of what they write to, which is not there yet.
        least: how many writes of each client are acknowledged before the block begins.
    """
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute(f"create table {name} (number int primary key)")
    clickhouse = env.clickhouse.client()
    clickhouse.command(f"create table {name} (number UInt32) engine MergeTree order by number")

    over = threading.Event()

    def postgres_writer(acknowledged: list[int]) -> None:
        with env.postgres.connect(autocommit=True) as connection:
            for number in takewhile(lambda _: not over.is_set(), count()):
                connection.execute(f"insert into {name} values (%s)", [number])
                acknowledged.append(number)

    def clickhouse_writer(acknowledged: list[int]) -> None:
        client = env.clickhouse.client()
        for number in takewhile(lambda _: not over.is_set(), count()):
            client.insert(name, [[number]], ["number"])
            acknowledged.append(number)

    def redis_writer(acknowledged: list[int]) -> None:
        client = env.redis.client(retry=None)
        for number in takewhile(lambda _: not over.is_set(), count()):
            client.rpush(name, number)
            acknowledged.append(number)

    def s3_writer(acknowledged: list[int]) -> None:
        client = env.s3.client()
        for number in takewhile(lambda _: not over.is_set(), count()):
            client.put_object(Bucket=env.s3.bucket, Key=f"{name}/{number}", Body=b"kept")
            acknowledged.append(number)

    writers = {"postgres": postgres_writer, "clickhouse": clickhouse_writer, "redis": redis_writer, "s3": s3_writer}
    told: dict[str, list[int]] = {service: [] for service in writers if service in env.services}

    def run(service: str) -> None:
        # The kill ends it; what counts is what it was told before.
        with suppress(Exception):
            writers[service](told[service])

    threads = [threading.Thread(target=run, args=(service,), daemon=True) for service in told]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + WAIT
    while not all(len(numbers) > least for numbers in told.values()):
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    try:
        yield told
    finally:
        # Clients that try again by themselves write to what has been started again.
        over.set()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def check_acknowledged(env: TritonEnvironment, told: dict[str, list[int]], name: str = "kills") -> None:
    """All that `amid_writes` was told is there."""
    with env.postgres.connect() as connection:
        kept_rows = {number for (number,) in connection.execute(f"select number from {name}")}
    kept = {
        "postgres": kept_rows,
        "clickhouse": {row[0] for row in env.clickhouse.client().query(f"select number from {name}").result_rows},
        "redis": {int(number) for number in env.redis.client().lrange(name, 0, -1)},
    }
    if "s3" in env.services:
        pages = env.s3.client().get_paginator("list_objects_v2").paginate(Bucket=env.s3.bucket, Prefix=f"{name}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        kept["s3"] = {int(key.removeprefix(f"{name}/")) for key in keys}
    for service, numbers in told.items():
        assert set(numbers) <= kept[service], service
