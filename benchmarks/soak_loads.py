"""The loads of `soak.py`: what a developer's application does to each service, a few times a second."""

import time
from collections import deque
from datetime import date
from decimal import Decimal

from soak_load import ANSWER_TIMEOUT, Load, Wrong, expect


def _cents(number: int) -> int:
    return number * 7919 % 100_003


class PostgresLoad(Load):
    """Insert, update and delete in one transaction, then a select."""

    name = "postgres"
    pace = 4
    _kept = 200

    def open(self) -> None:
        self._connect()
        self._connection.execute("drop table if exists soak_claims, soak_counter")
        self._connection.execute(
            "create table soak_claims (id bigint primary key, cents bigint, state text, note text)"
        )
        self._connection.execute("create table soak_counter (steps bigint)")
        self._connection.execute("insert into soak_counter values (0)")

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> None:
        # autocommit: a transaction that stays open would keep PostgreSQL from removing dead rows.
        self._connection = self._env.postgres.connect(autocommit=True, connect_timeout=ANSWER_TIMEOUT)
        self._connection.execute(f"set statement_timeout = '{ANSWER_TIMEOUT}s'")

    def _reconnect(self) -> None:
        self._connection.close()
        self._connect()

    def _write(self, number: int) -> None:
        row = (number, _cents(number), "x" * 200)
        with self._connection.transaction():
            self._connection.execute("insert into soak_claims values (%s, %s, 'new', %s)", row)
            self._connection.execute("update soak_claims set state = 'paid' where id = %s", (number - 1,))
            self._connection.execute("delete from soak_claims where id <= %s", (number - self._kept,))
            self._connection.execute("update soak_counter set steps = steps + 1")

    def _read_back(self, number: int) -> None:
        found = self._connection.execute("select cents, state from soak_claims where id = %s", (number,)).fetchone()
        expect(f"claim {number}", (_cents(number), "new"), found)

    def _newest(self) -> int:
        (newest,) = self._connection.execute("select coalesce(max(id), 0) from soak_claims").fetchone() or (0,)
        return int(newest)

    def _verify(self, number: int) -> None:
        there = range(max(1, number - self._kept + 1), number + 1)
        # A connection of its own: the service takes new clients as well.
        with self._env.postgres.connect(connect_timeout=ANSWER_TIMEOUT) as connection:
            found = connection.execute(
                "select count(*), coalesce(sum(cents), 0)::bigint, count(*) filter (where state = 'paid'), "
                "(select steps from soak_counter) from soak_claims"
            ).fetchone()
        expected = (len(there), sum(map(_cents, there)), max(0, len(there) - 1), number)
        expect("count, sum, paid claims, steps", expected, found)


class ClickHouseLoad(Load):
    """An insert of a thousand claims and an aggregate of them; old partitions are dropped."""

    name = "clickhouse"
    pace = 1
    _rows = 1000
    _batches = 30
    """In a partition."""
    _columns = ("step", "claim", "client", "paid", "day", "state")

    def open(self) -> None:
        self._client = self._env.clickhouse.client(
            connect_timeout=ANSWER_TIMEOUT, send_receive_timeout=ANSWER_TIMEOUT, autogenerate_session_id=False
        )
        self._client.command("DROP TABLE IF EXISTS soak_claims SYNC")
        # The window makes an insert that the client repeats by itself count once.
        self._client.command(
            "CREATE TABLE soak_claims (step UInt64, claim UInt32, client UInt16, paid Decimal(12, 2), day Date, "
            f"state LowCardinality(String)) ENGINE = MergeTree PARTITION BY intDiv(step, {self._batches}) "
            "ORDER BY (step, client, claim) SETTINGS non_replicated_deduplication_window = 100"
        )

    def close(self) -> None:
        self._client.close()

    def _write(self, number: int) -> None:
        self._client.insert(
            "soak_claims",
            [
                (number, claim, claim % 12, Decimal(_cents(number + claim)).scaleb(-2), date(2026, 1, 1), "paid")
                for claim in range(self._rows)
            ],
            column_names=self._columns,
            settings={"insert_deduplication_token": f"step {number}"},
        )

    def _tidy(self, number: int) -> None:
        oldest = number // self._batches - 2
        if oldest >= 0 and number % self._batches == 0:
            self._client.command(f"ALTER TABLE soak_claims DROP PARTITION {oldest}")

    def _read_back(self, number: int) -> None:
        self._aggregated(f"step = {number}", range(number, number + 1))

    def _newest(self) -> int:
        return int(self._client.query("SELECT max(step) FROM soak_claims").result_rows[0][0])

    def _verify(self, number: int) -> None:
        first = max(1, (number // self._batches - 1) * self._batches)
        self._aggregated("1", range(first, number + 1))

    def _aggregated(self, condition: str, steps: range) -> None:
        found = self._client.query(
            "SELECT step, count(), toInt64(sum(paid) * 100) FROM soak_claims "
            f"WHERE {condition} GROUP BY step ORDER BY step"
        ).result_rows
        expected = [(step, self._rows, self._sum(step)) for step in steps]
        if [tuple(row) for row in found] != expected:
            wrong = set(map(tuple, found)) ^ set(expected)
            raise Wrong(
                f"rows and sums of steps {steps.start} to {steps[-1] if steps else 0} differ in {sorted(wrong)}"
            )

    def _sum(self, step: int) -> int:
        return sum(_cents(step + claim) for claim in range(self._rows))


class RedisLoad(Load):
    """Set with a time to live, increment and publish in one transaction; a subscriber gets the message."""

    name = "redis"
    pace = 4
    _kept = 200
    _item_ttl = 86_400
    _session_ttl = 3
    _slack = 2
    """Seconds after its time to live within which a key may still be seen: the clocks are not the same."""

    def open(self) -> None:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # No second try: what was acknowledged has to be known exactly.
        self._client = self._env.redis.client(
            decode_responses=True,
            socket_timeout=ANSWER_TIMEOUT,
            socket_connect_timeout=ANSWER_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        for key in self._client.scan_iter(match="soak:*", count=1000):
            self._client.delete(key)
        self._sessions: deque[tuple[float, str]] = deque()
        self._subscribe()

    def close(self) -> None:
        self._subscription.close()
        self._client.close()

    def _subscribe(self) -> None:
        self._subscription = self._client.pubsub(  # type: ignore[no-untyped-call]
            ignore_subscribe_messages=True
        )
        self._subscription.subscribe("soak:news")
        # The answer to it: a message that is published earlier would not arrive.
        self._subscription.get_message(timeout=ANSWER_TIMEOUT)

    def _reconnect(self) -> None:
        self._subscription.close()
        self._subscribe()

    def _write(self, number: int) -> None:
        session = f"soak:session:{number}"
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(f"soak:item:{number}", _cents(number), ex=self._item_ttl)
            pipeline.set(session, number, ex=self._session_ttl)
            pipeline.incr("soak:steps")
            pipeline.delete(f"soak:item:{number - self._kept}")
            pipeline.publish("soak:news", number)
            pipeline.execute()
        self._sessions.append((time.monotonic() + self._session_ttl + self._slack, session))

    def _read_back(self, number: int) -> None:
        message = self._subscription.get_message(timeout=ANSWER_TIMEOUT)
        expect("the published message", str(number), message and message["data"])
        expect(f"item {number}", str(_cents(number)), self._client.get(f"soak:item:{number}"))

    def _newest(self) -> int:
        return int(self._client.get("soak:steps") or 0)

    def _verify(self, number: int) -> None:
        there = range(max(1, number - self._kept + 1), number + 1)
        expect("steps", number, self._newest())
        keys = [f"soak:item:{each}" for each in there]
        expect("items", [str(_cents(each)) for each in there], self._client.mget(keys) if keys else [])
        expect("number of items", len(there), sum(1 for _ in self._client.scan_iter(match="soak:item:*", count=1000)))
        if number:
            lives = self._client.ttl(keys[-1])
            if not 0 < lives <= self._item_ttl:
                raise Wrong(f"the time to live of {keys[-1]} is {lives} s")
        ended: list[str] = []
        while self._sessions and self._sessions[0][0] < time.monotonic():
            ended.append(self._sessions.popleft()[1])
        if ended:
            expect("keys beyond their time to live", 0, self._client.exists(*ended))


class S3Load(Load):
    """Put, get and delete of a small document."""

    name = "s3"
    pace = 2
    _kept = 50
    _prefix = "soak/"

    def open(self) -> None:
        from botocore.config import Config

        self._client = self._env.s3.client(
            config=Config(
                connect_timeout=ANSWER_TIMEOUT,
                read_timeout=ANSWER_TIMEOUT,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            )
        )
        self._bucket = self._env.s3.bucket
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                self._client.delete_object(Bucket=self._bucket, Key=item["Key"])

    def close(self) -> None:
        self._client.close()

    def _write(self, number: int) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._key(number), Body=self._document(number))

    def _tidy(self, number: int) -> None:
        if number > self._kept:
            self._client.delete_object(Bucket=self._bucket, Key=self._key(number - self._kept))

    def _read_back(self, number: int) -> None:
        with self._client.get_object(Bucket=self._bucket, Key=self._key(number))["Body"] as body:
            if body.read() != self._document(number):
                raise Wrong(f"{self._key(number)} has other bytes than were put")

    def _newest(self) -> int:
        there = self._listed()
        # One that was deleted before the step that was cut short.
        if there and there[0] < self.step_number - self._kept:
            raise Wrong(f"{self._key(there[0])} is there, though its deletion was acknowledged")
        return max(there, default=0)

    def _verify(self, number: int) -> None:
        there = list(range(max(1, number - self._kept + 1), number + 1))
        expect("the listed numbers", there, self._listed())
        if there:
            self._read_back(there[0])

    def _listed(self) -> list[int]:
        answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix)
        return [int(item["Key"].removeprefix(self._prefix)) for item in answer.get("Contents", ())]

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:09}"

    def _document(self, number: int) -> bytes:
        return f"claim {number}: {_cents(number)} cents\n".encode() * 150


LOADS: tuple[type[Load], ...] = (PostgresLoad, ClickHouseLoad, RedisLoad, S3Load)
