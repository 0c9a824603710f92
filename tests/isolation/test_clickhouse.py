"""ClickHouse: copies of databases that are equal, independent, and point into themselves."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from patience import until
from triton_env import TritonEnvironment
from triton_env.errors import IsolationFailed
from triton_env.services.base_isolation import OWN, ContentLost, Space
from triton_env.services.clickhouse.isolation import ClickHouseIsolation

# A start, and work on the server, take their time on a busy machine.
pytestmark = [pytest.mark.timeout(300), pytest.mark.long_on("docker")]

ONE, TWO = Space("triton_ns_one"), Space("triton_ns_two")
SYSTEM = "('system', 'information_schema', 'INFORMATION_SCHEMA')"
SEED = (
    """CREATE TABLE claims (
        id UInt64 CODEC(Delta, ZSTD), day Date COMMENT 'in triton.claims', amount Decimal(12, 2),
        triton Tuple(claims Tuple(x Int8)), text LowCardinality(String) DEFAULT 'triton.claims',
        nested Nested(a Int32, b String), data JSON, twice UInt64 MATERIALIZED id * 2, other UInt64 ALIAS id + 1,
        INDEX by_day day TYPE minmax, PROJECTION by_amount (SELECT amount, id ORDER BY amount)
    ) ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY id TTL day + INTERVAL 90 YEAR
    SETTINGS index_granularity = 1024 COMMENT 'like triton.claims'""",
    """INSERT INTO claims SELECT number, toDate('2026-01-01') + number % 90, number / 4, tuple(tuple(1)), 'x',
        [1], ['y'], '{"a": 1}' FROM numbers(1000)""",
    "ALTER TABLE claims DELETE WHERE id = 7",
    "CREATE TABLE latest (id UInt64, v UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY id",
    "INSERT INTO latest VALUES (1, 1), (2, 1), (6, 1)",
    "DELETE FROM latest WHERE id = 2",
    "CREATE TABLE words (id UInt64, text String, l UInt64 MATERIALIZED length(text)) ENGINE = Memory",
    "INSERT INTO words VALUES (1, 'one'), (2, 'triton.words')",
    "CREATE TABLE log (id UInt64) ENGINE = Log",
    "INSERT INTO log VALUES (5), (5)",
    "CREATE TABLE lookup (id UInt64, text String) ENGINE = Join(ANY, LEFT, id)",
    "INSERT INTO lookup VALUES (1, 'joined')",
    "CREATE TABLE empty_set (id UInt64) ENGINE = Set",
    "CREATE TABLE buffered AS latest ENGINE = Buffer(triton, latest, 1, 600, 600, 1000, 1000, 99999999, 99999999)",
    "INSERT INTO buffered VALUES (3, 1)",
    "CREATE DICTIONARY names (id UInt64, text String) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 'words' DB 'triton'))"
    " LAYOUT(FLAT()) LIFETIME(0)",
    "CREATE DICTIONARY queried (id UInt64, text String) PRIMARY KEY id"
    " SOURCE(CLICKHOUSE(QUERY 'SELECT id, text FROM triton.words')) LAYOUT(FLAT()) LIFETIME(0)",
    "CREATE TABLE named (id UInt64, name String DEFAULT dictGet('triton.names', 'text', id))"
    " ENGINE = MergeTree ORDER BY id",
    "INSERT INTO named (id) VALUES (1)",
    "CREATE TABLE every AS latest ENGINE = Merge(triton, '^latest$')",
    "CREATE TABLE totals (day Date, n UInt64) ENGINE = SummingMergeTree ORDER BY day",
    "CREATE MATERIALIZED VIEW to_totals TO totals AS SELECT day, count() AS n FROM claims GROUP BY day",
    "CREATE MATERIALIZED VIEW counted ENGINE = SummingMergeTree ORDER BY text POPULATE"
    " AS SELECT text, count() AS n FROM claims GROUP BY text",
    "CREATE TABLE chained (day Date) ENGINE = MergeTree ORDER BY day",
    "CREATE MATERIALIZED VIEW a_chain TO chained AS SELECT day FROM totals",
    "CREATE MATERIALIZED VIEW refreshed REFRESH EVERY 1 YEAR ENGINE = MergeTree ORDER BY id"
    " EMPTY AS SELECT id FROM claims",
    "CREATE VIEW a_view AS SELECT z.id, claims.triton.claims.x AS x"
    " FROM z_view AS z INNER JOIN claims ON claims.id = z.id WHERE triton.claims.text != 'triton.claims'",
    "CREATE VIEW z_view AS WITH triton AS (SELECT 1 AS id)"
    " SELECT id FROM claims WHERE id IN (SELECT triton.id FROM triton)",
)  # fmt: skip
LOOK = (
    "SELECT count(), sum(cityHash64(id, day, amount, triton, text, nested.a, nested.b, twice, other)) FROM claims",
    "SELECT toString(data) FROM claims ORDER BY id LIMIT 3",
    "SELECT * FROM latest ORDER BY id",
    "SELECT *, l FROM words ORDER BY id",
    "SELECT * FROM log",
    "SELECT joinGet(lookup, 'text', 1::UInt64)",
    "SELECT count() FROM buffered",
    "SELECT dictGet(names, 'text', 2::UInt64), dictGet(queried, 'text', 2::UInt64)",
    "SELECT * FROM named",
    "SELECT count() FROM every",
    "SELECT * FROM totals ORDER BY day",
    "SELECT text, sum(n) FROM counted GROUP BY text ORDER BY text",
    "SELECT * FROM chained",
    "SELECT * FROM refreshed",
    "SELECT * FROM z_view",
)


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def env(request: pytest.FixtureRequest) -> Iterator[TritonEnvironment]:
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    with TritonEnvironment(runtime=request.param, services=("clickhouse",)) as environment:
        yield environment


@pytest.fixture
def isolation(env: TritonEnvironment) -> Iterator[ClickHouseIsolation]:
    found = ClickHouseIsolation(env.clickhouse)
    try:
        yield found
        found.clear([])
        assert objects(found, OWN) == {}
        assert found.found() == frozenset()
    finally:
        found.close()


def client(isolation: ClickHouseIsolation, space: Space = OWN) -> Client:
    return isolation.bound(space).client()


def run(isolation: ClickHouseIsolation, space: Space, *statements: str) -> None:
    with client(isolation, space) as connected:
        for statement in statements:
            connected.command(statement)


def seed(isolation: ClickHouseIsolation, space: Space = OWN) -> None:
    statements = [s for s in SEED if not s.startswith(("CREATE VIEW a_view", "CREATE VIEW z_view"))]
    run(isolation, space, *statements, SEED[-1], SEED[-2])


def look(isolation: ClickHouseIsolation, space: Space = OWN) -> dict[str, Any]:
    with client(isolation, space) as connected:
        return {query: connected.raw_query(query, fmt="TSV") for query in LOOK}


def count(isolation: ClickHouseIsolation, space: Space, table: str) -> int:
    with client(isolation, space) as connected:
        found: int = connected.command(f"SELECT count() FROM {table}")
        return found


def objects(isolation: ClickHouseIsolation, space: Space) -> dict[str, str]:
    """The statements in a space, by name, without what belongs to views."""
    with client(isolation) as connected:
        query = (
            f"SELECT name, create_table_query FROM system.tables WHERE database = '{isolation.bound(space).database}'"
        )
        return dict(connected.query(f"{query} AND NOT startsWith(name, '.inner')").result_rows)


def test_a_bound_service_has_the_database_of_its_space(isolation: ClickHouseIsolation) -> None:
    bound = isolation.bound(ONE)

    assert isolation.bound(OWN).database == "triton"
    assert bound.database == "triton_ns_one"
    assert bound.url.endswith("/triton_ns_one")
    assert bound.environ()["CLICKHOUSE_DB"] == "triton_ns_one"


@pytest.mark.long_on
def test_an_empty_space(isolation: ClickHouseIsolation) -> None:
    isolation.create(ONE)
    run(isolation, ONE, "CREATE TABLE left (id UInt8) ENGINE = Memory")
    isolation.create(ONE)

    assert objects(isolation, ONE) == {}
    assert isolation.found() == {"triton_ns_one"}


@pytest.mark.long_on
def test_a_copy_is_equal_and_each_is_on_its_own(isolation: ClickHouseIsolation) -> None:
    seed(isolation)
    isolation.create(ONE, OWN)
    before = look(isolation)

    assert look(isolation, ONE) == before
    # Dropped, and changed in both directions.
    run(isolation, ONE, "INSERT INTO claims (id, text) VALUES (5000, 'new')", "DROP TABLE log", "TRUNCATE TABLE words")
    assert look(isolation) == before
    run(isolation, OWN, "ALTER TABLE claims UPDATE amount = 0 WHERE 1 SETTINGS mutations_sync = 2")
    run(isolation, OWN, "TRUNCATE TABLE latest")
    assert count(isolation, ONE, "claims WHERE amount > 1") == count(isolation, ONE, "claims") - 6
    assert count(isolation, ONE, "latest") == 3


def test_statements_name_the_copy_where_they_name_tables(isolation: ClickHouseIsolation) -> None:
    seed(isolation)
    isolation.create(ONE, OWN)
    originals, copies = objects(isolation, OWN), objects(isolation, ONE)

    assert copies.keys() == originals.keys()
    assert "DEFAULT 'triton.claims'" in copies["claims"]
    assert "`triton` Tuple(claims Tuple(x Int8))" in copies["claims"]
    assert "COMMENT 'in triton.claims'" in copies["claims"]
    assert copies["claims"].endswith("COMMENT 'like triton.claims'")
    assert "!= 'triton.claims'" in copies["a_view"]
    assert "SELECT triton.id FROM triton" in copies["z_view"]
    assert "dictGet('triton_ns_one.names'" in copies["named"]
    assert "DB 'triton_ns_one'" in copies["names"]
    assert "Buffer('triton_ns_one', 'latest'" in copies["buffered"]
    # And a copy of the copy, under the first name, is what was there first.
    isolation.replace(OWN, ONE)
    assert {name: text.replace("`triton`.words", "triton.words") for name, text in objects(isolation, OWN).items()} == (
        originals
    )


def test_views_dictionaries_and_buffers_of_the_copy_use_its_tables(isolation: ClickHouseIsolation) -> None:
    seed(isolation)
    isolation.create(ONE, OWN)
    before = look(isolation)
    run(
        isolation,
        ONE,
        "INSERT INTO claims (id, day, text) VALUES (5000, '2026-06-06', 'new')",
        "INSERT INTO words VALUES (3, 'three')",
        "SYSTEM RELOAD DICTIONARY names",
        "SYSTEM RELOAD DICTIONARY queried",
        "INSERT INTO buffered VALUES (4, 1)",
        "OPTIMIZE TABLE buffered",
        "SYSTEM REFRESH VIEW refreshed",
        "SYSTEM WAIT VIEW refreshed",
    )

    assert count(isolation, ONE, "totals WHERE day = '2026-06-06'") == 1
    assert count(isolation, ONE, "counted WHERE text = 'new'") == 1
    assert count(isolation, ONE, "chained WHERE day = '2026-06-06'") == 1
    assert count(isolation, ONE, "words WHERE dictGet(names, 'text', id) = 'three'") == 1
    assert count(isolation, ONE, "words WHERE dictGet(queried, 'text', id) = 'three'") == 1
    assert count(isolation, ONE, "latest WHERE id = 4") == 1
    assert count(isolation, ONE, "every") == 4
    assert count(isolation, ONE, "refreshed") == count(isolation, ONE, "claims")
    assert look(isolation) == before


def test_mutations_that_are_not_finished_are_waited_for(isolation: ClickHouseIsolation) -> None:
    run(
        isolation,
        OWN,
        "CREATE TABLE slow (id UInt64) ENGINE = MergeTree ORDER BY tuple()",
        "INSERT INTO slow SELECT number FROM numbers(10)",
        "SYSTEM STOP MERGES slow",
        "ALTER TABLE slow UPDATE id = id + 100 WHERE 1 SETTINGS mutations_sync = 0",
    )
    with ThreadPoolExecutor(1) as pool:
        copied = pool.submit(isolation.create, ONE, OWN)
        time.sleep(0.2)
        assert not copied.done()
        run(isolation, OWN, "SYSTEM START MERGES slow")
        copied.result(60)

    assert count(isolation, ONE, "slow WHERE id >= 100") == 10


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            ("CREATE TABLE bad (id UInt64) ENGINE = Set", "INSERT INTO bad VALUES (1)"),
            "triton.bad cannot be copied: the rows of a Set cannot be read",
        ),
        (
            (
                "CREATE TABLE bad (id String) ENGINE = MergeTree ORDER BY tuple()",
                "INSERT INTO bad VALUES ('a')",
                "ALTER TABLE bad UPDATE id = toString(throwIf(1)) WHERE 1 SETTINGS mutations_sync = 0",
            ),
            "triton.bad cannot be copied: a mutation of it is not finished",
        ),
        (
            (
                "CREATE DICTIONARY bad (id UInt64) PRIMARY KEY id LAYOUT(FLAT()) LIFETIME(0)"
                " SOURCE(CLICKHOUSE(TABLE 'x' HOST 'elsewhere' USER 'u' PASSWORD 'p'))",
            ),
            "triton.bad cannot be copied: the server does not show a password",
        ),
    ],
    ids=["set", "mutation", "password"],
)
def test_what_cannot_be_copied_is_said_and_nothing_is_left(
    isolation: ClickHouseIsolation, statements: tuple[str, ...], words: str
) -> None:
    isolation.create(TWO)
    run(isolation, TWO, "CREATE TABLE kept (id UInt8) ENGINE = Memory")
    run(isolation, OWN, "CREATE TABLE good (id UInt8) ENGINE = MergeTree ORDER BY id", *statements)

    with pytest.raises(IsolationFailed, match=words):
        isolation.create(ONE, OWN)
    with pytest.raises(IsolationFailed, match=words):
        isolation.replace(TWO, OWN)

    assert isolation.found() == {"triton_ns_two"}
    assert objects(isolation, TWO).keys() == {"kept"}
    with client(isolation) as connected:
        assert connected.command("SELECT count() FROM system.databases WHERE name LIKE '%\\_\\_new'") == 0


def test_a_drop_leaves_nothing_and_waits_for_nobody(isolation: ClickHouseIsolation) -> None:
    space = Space("triton_ns_dropped")
    isolation.create(space)
    run(isolation, space, "CREATE TABLE rows (id UInt8) ENGINE = MergeTree ORDER BY id", "INSERT INTO rows VALUES (1)")
    started = threading.Event()

    def read() -> None:
        with client(isolation, space) as connected:
            started.set()
            many = "rows AS a CROSS JOIN numbers(60) AS b SETTINGS max_block_size = 1"
            connected.command(f"SELECT sum(sleepEachRow(1)) FROM {many}")

    with ThreadPoolExecutor(1) as pool, client(isolation) as connected:
        reading = pool.submit(read)
        started.wait(60)
        # The query itself: what the client asked at first may still be in the list.
        running = (
            "SELECT count() FROM system.processes"
            " WHERE current_database = 'triton_ns_dropped' AND query LIKE '%sleepEachRow%'"
        )
        assert until(lambda: connected.command(running) or reading.done())
        isolation.drop(space)
        assert isinstance(reading.exception(60), DatabaseError)
        assert connected.command("SELECT count() FROM system.databases WHERE name LIKE 'triton\\_ns%'") == 0
        assert connected.command("SELECT count() FROM system.dropped_tables WHERE database = 'triton_ns_dropped'") == 0
    isolation.drop(space)


def test_replace_takes_a_copy_or_nothing(isolation: ClickHouseIsolation) -> None:
    seed(isolation)
    isolation.create(ONE, OWN)
    before = look(isolation)
    run(isolation, OWN, "DROP DICTIONARY queried", "TRUNCATE TABLE claims", "TRUNCATE TABLE words")
    run(isolation, OWN, "CREATE TABLE superfluous (id UInt8) ENGINE = Memory")

    isolation.replace(OWN, ONE)
    assert look(isolation) == before
    assert "superfluous" not in objects(isolation, OWN)
    run(isolation, OWN, "INSERT INTO claims (id, day, text) VALUES (5000, '2026-06-06', 'new')")
    assert count(isolation, OWN, "totals WHERE day = '2026-06-06'") == 1
    assert count(isolation, OWN, "chained WHERE day = '2026-06-06'") == 1
    assert look(isolation, ONE) == before

    isolation.replace(ONE, None)
    assert objects(isolation, ONE) == {}
    assert isolation.found() == {"triton_ns_one"}


def test_clear_leaves_what_is_kept(isolation: ClickHouseIsolation) -> None:
    isolation.create(ONE)
    isolation.create(TWO)
    run(
        isolation,
        OWN,
        "CREATE TABLE claims (id UInt8) ENGINE = Memory",
        "CREATE DATABASE elsewhere",
        "CREATE TABLE elsewhere.claims (id UInt8) ENGINE = Memory",
        "CREATE TABLE default.claims (id UInt8) ENGINE = Memory",
        "CREATE MATERIALIZED VIEW default.viewed ENGINE = Memory AS SELECT id FROM default.claims",
        "CREATE FUNCTION doubled AS (x) -> x * 2",
    )
    functions = "SELECT count() FROM system.functions WHERE origin = 'SQLUserDefined'"

    isolation.clear([ONE])
    with client(isolation) as connected:
        names = connected.query(f"SELECT name FROM system.databases WHERE name NOT IN {SYSTEM} ORDER BY name")
        assert names.result_rows == [("default",), ("triton",), ("triton_ns_one",)]
        assert connected.command(f"SELECT count() FROM system.tables WHERE database NOT IN {SYSTEM}") == 0
        # The namespace may use it.
        assert connected.command(functions) == 1
        isolation.clear([])
        assert connected.command(functions) == 0
    assert isolation.found() == frozenset()


def test_several_at_once(isolation: ClickHouseIsolation) -> None:
    run(isolation, OWN, "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id", "INSERT INTO t VALUES (1)")
    spaces = [Space(f"triton_ns_{number}") for number in range(12)]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda space: isolation.create(space, OWN), spaces))
        assert isolation.found() == {space.id for space in spaces}
        assert [count(isolation, space, "t") for space in spaces] == [1] * 12
        list(pool.map(isolation.drop, spaces))
    assert isolation.found() == frozenset()


CHANGES = (
    "DELETE FROM rows WHERE id < 3",
    "INSERT INTO rows VALUES (9, 'x')",
    "ALTER TABLE rows UPDATE text = 'y' WHERE id = 1 SETTINGS mutations_sync = 1",
    "ALTER TABLE rows DELETE WHERE id = 1 SETTINGS mutations_sync = 1",
    "INSERT INTO merged VALUES (1, 'newer')",
    "DELETE FROM merged WHERE id = 1",
    "DELETE FROM masked WHERE id = 2",
    "INSERT INTO masked VALUES (2, 'b')",
    "INSERT INTO nothing VALUES (1, 'a')",
    "INSERT INTO few VALUES (2, 'b')",
    "TRUNCATE TABLE rows",
)


def test_rows_of_a_frozen_space_that_a_client_changes_are_missed(isolation: ClickHouseIsolation) -> None:
    frozen = Space("triton_tpl_rows")
    columns = "(id UInt64, text String)"
    for change in CHANGES:
        isolation.create(frozen)
        run(
            isolation,
            frozen,
            f"CREATE TABLE rows {columns} ENGINE = MergeTree ORDER BY id",
            "INSERT INTO rows SELECT number, 'a' FROM numbers(10)",
            f"CREATE TABLE merged {columns} ENGINE = ReplacingMergeTree ORDER BY id",
            "INSERT INTO merged VALUES (1, 'old')",
            "INSERT INTO merged VALUES (1, 'new'), (2, 'new')",
            f"CREATE TABLE masked {columns} ENGINE = MergeTree ORDER BY id",
            "INSERT INTO masked VALUES (1, 'a')",
            "INSERT INTO masked VALUES (2, 'a')",
            "DELETE FROM masked WHERE id = 1",
            f"CREATE TABLE nothing {columns} ENGINE = MergeTree ORDER BY id",
            f"CREATE TABLE few {columns} ENGINE = Memory",
            "INSERT INTO few VALUES (1, 'a')",
            "CREATE TABLE waiting AS rows ENGINE = Buffer(triton_tpl_rows, rows, 1, 600, 600, 1000, 1000, 9999, 9999)",
            "INSERT INTO waiting VALUES (77, 'waits')",
        )
        record = isolation.record(frozen)
        # What the server does by itself is no change.
        run(
            isolation, frozen, "OPTIMIZE TABLE merged FINAL", "OPTIMIZE TABLE masked FINAL", "OPTIMIZE TABLE rows FINAL"
        )
        isolation.verify(frozen, record)
        isolation.create(ONE, frozen)
        isolation.verify_copy(ONE, frozen, record, is_new=True)
        run(isolation, frozen, change)
        with pytest.raises(ContentLost):
            isolation.verify(frozen, record)
    isolation.drop(frozen)
    isolation.drop(ONE)


def test_a_snapshot_has_all_databases_of_the_environment(embedded_packages: None) -> None:
    with TritonEnvironment(services=("clickhouse",), runtime="embedded") as env, closing(env.clickhouse.client()) as ch:
        for statement in (
            "CREATE TABLE claims (id UInt8) ENGINE = MergeTree ORDER BY id",
            "CREATE DATABASE `odd name`",
            "CREATE TABLE `odd name`.sums (id UInt8) ENGINE = MergeTree ORDER BY id",
            "CREATE MATERIALIZED VIEW `odd name`.reads TO `odd name`.sums AS SELECT id FROM claims",
            "CREATE VIEW both AS SELECT id FROM `odd name`.sums UNION ALL SELECT id FROM claims",
            "CREATE TABLE default.plain (id UInt8) ENGINE = Memory",
            "INSERT INTO claims VALUES (1)",
            "INSERT INTO default.plain VALUES (7)",
        ):
            ch.command(statement)
        env.snapshot("all")
        for statement in (
            "INSERT INTO claims VALUES (2)",
            "INSERT INTO default.plain VALUES (8)",
            "CREATE DATABASE later",
            "DROP TABLE `odd name`.reads",
        ):
            ch.command(statement)
        for _ in range(2):
            env.restore("all")
            assert ch.query("SELECT id FROM both ORDER BY id").result_rows == [(1,), (1,)]
            assert ch.query("SELECT id FROM default.plain").result_rows == [(7,)]
            databases = f"SELECT name FROM system.databases WHERE name NOT IN {SYSTEM} AND name NOT LIKE 'triton\\_%'"
            assert {name for (name,) in ch.query(databases).result_rows} == {"default", "triton", "odd name"}
            # Each view writes where it did, and none into the snapshot.
            ch.command("INSERT INTO claims VALUES (3)")
            assert ch.query("SELECT id FROM both ORDER BY id").result_rows == [(1,), (1,), (3,), (3,)]
        with env.namespace(template="all") as namespace, closing(namespace.clickhouse.client()) as own:
            assert own.query("SELECT id FROM claims").result_rows == [(1,)]
            ch.command("DROP DATABASE `odd name` SYNC")
        env.restore("all")
        env.delete_snapshot("all")
        left = ch.query("SELECT name FROM system.databases WHERE name LIKE 'triton\\_snap%'").result_rows
        assert left == []


def test_an_empty_copy_only_has_to_be_there(isolation: ClickHouseIsolation, monkeypatch: pytest.MonkeyPatch) -> None:
    # Before a test's first use: a server takes long to say what databases hold.
    monkeypatch.setattr(isolation, "_contents", lambda *databases: pytest.fail(f"asked what is in {databases}"))
    isolation.create(ONE)
    isolation.verify_copy(ONE, None, "")
    isolation.drop(ONE)
    with pytest.raises(ContentLost, match="triton_ns_one was dropped"):
        isolation.verify_copy(ONE, None, "")
