"""A ClickHouse server full of all kinds of things, and how a client sees them."""

from typing import Any

from triton_env import TritonEnvironment

ROWS = 100_000


_CLICKHOUSE = (
    "CREATE FUNCTION doubled AS (x) -> x * 2",
    "CREATE FUNCTION `größe-2` AS (x) -> x * 2",
    """CREATE TABLE triton.claims (
        id UInt64, day Date, amount Decimal(12, 2), note Nullable(String), tags Array(LowCardinality(String)),
        more Map(String, Array(Int32)), pair Tuple(a Int8, b String), at DateTime64(6, 'Europe/Berlin'),
        kind Enum8('a' = 1, 'b' = 2), uuid UUID, ip IPv6, wide Int256, raw FixedString(4),
        nested Nested(x Int32, y String),
        computed UInt64 MATERIALIZED id + 1, alias UInt64 ALIAS id + 2, `odd ``name` Float64 DEFAULT doubled(id)
    ) ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY (day, id) COMMENT 'claims'""",
    f"""INSERT INTO triton.claims SELECT number, toDate('2026-01-01') + number % 400, number / 4,
        if(number % 3 = 0, NULL, concat('note ', char(0, 255), toString(number))), ['x', toString(number % 10)],
        map('k', [toInt32(number)]), (toInt8(number % 100), 'b'),
        toDateTime64('2026-01-01 00:00:00', 6, 'UTC') + number,
        if(number % 2, 'a', 'b'), toUUID('00000000-0000-0000-0000-000000000001'), toIPv6('::1'), -number,
        'abcd', [toInt32(number), 2], ['u', 'v'], number / 7 FROM numbers({ROWS})""",
    "CREATE TABLE triton.latest (id UInt32, v UInt32, text String) ENGINE = ReplacingMergeTree(v) ORDER BY id",
    "SYSTEM STOP MERGES triton.latest",
    "INSERT INTO triton.latest SELECT number % 5, number, 'x' FROM numbers(20) SETTINGS optimize_on_insert = 0",
    """CREATE TABLE triton.documents (id UInt32, data JSON, any Variant(String, UInt64), dynamic Dynamic)
        ENGINE = MergeTree ORDER BY id SETTINGS index_granularity = 1024""",
    """INSERT INTO triton.documents SELECT number,
        concat('{"a": ', toString(number), ', "b": {"c": ["x", 1.5]}}')::JSON,
        if(number % 2, 'text'::Variant(String, UInt64), number::Variant(String, UInt64)), number::Dynamic
        FROM numbers(100)""",
    "CREATE TABLE triton.small (id UInt32, text String) ENGINE = Memory",
    "INSERT INTO triton.small VALUES (1, 'one'), (2, 'it''s\\n two')",
    "CREATE TABLE triton.`odd-name ``x` (a Int32) ENGINE = TinyLog",
    "INSERT INTO triton.`odd-name ``x` VALUES (5)",
    "CREATE TABLE triton.`two\\nlines` (`a\\tb` Int32) ENGINE = TinyLog",
    "INSERT INTO triton.`two\\nlines` VALUES (6)",
    "CREATE TABLE triton.`.inner.of_nothing` (a Int32) ENGINE = Log",
    "INSERT INTO triton.`.inner.of_nothing` VALUES (8)",
    "CREATE TABLE triton.empty (a Int32) ENGINE = MergeTree ORDER BY a",
    """CREATE DICTIONARY triton.names (id UInt32, text String) PRIMARY KEY id
        SOURCE(CLICKHOUSE(TABLE 'small' DB 'triton')) LAYOUT(FLAT()) LIFETIME(0)""",
    """CREATE TABLE triton.uses_names (id UInt32, name String DEFAULT dictGet('triton.names', 'text', toUInt64(id)))
        ENGINE = MergeTree ORDER BY id""",
    "INSERT INTO triton.uses_names (id, name) VALUES (1, 'kept'), (2, 'also kept')",
    "CREATE DATABASE sums COMMENT 'of claims'",
    "CREATE TABLE sums.target (kind String, n UInt64) ENGINE = SummingMergeTree ORDER BY kind",
    """CREATE MATERIALIZED VIEW sums.to_target TO sums.target
        AS SELECT kind, count() AS n FROM triton.claims GROUP BY kind""",
    """CREATE MATERIALIZED VIEW triton.inner_one ENGINE = AggregatingMergeTree ORDER BY kind POPULATE
        AS SELECT kind, sumState(amount) AS total, uniqExactState(id) AS ids FROM triton.claims GROUP BY kind""",
    "CREATE TABLE sums.last (kind String) ENGINE = MergeTree ORDER BY kind",
    "CREATE MATERIALIZED VIEW sums.a_chain TO sums.last AS SELECT kind FROM triton.inner_one",
    "CREATE VIEW sums.z_view AS SELECT kind, sum(n) AS n FROM sums.target GROUP BY kind",
    "CREATE VIEW sums.a_view AS SELECT kind, n FROM sums.z_view",
    "INSERT INTO triton.claims (id, day, kind) VALUES (1000001, '2026-05-05', 'a')",
)
_CLICKHOUSE_QUERIES = (
    "SELECT count(), sum(cityHash64(*)), sum(computed), sum(alias) FROM triton.claims",
    "SELECT * FROM triton.claims ORDER BY id LIMIT 50",
    "SELECT * FROM triton.latest ORDER BY id, v",
    "SELECT id, toString(data), toString(any), variantType(any), dynamicType(dynamic) FROM triton.documents"
    " ORDER BY id",
    "SELECT * FROM triton.small ORDER BY id",
    "SELECT * FROM triton.`odd-name ``x`",
    "SELECT `a\\tb`, `größe-2`(1) FROM triton.`two\\nlines`",
    "SELECT * FROM triton.`.inner.of_nothing`",
    "SELECT count() FROM triton.empty",
    "SELECT * FROM triton.uses_names ORDER BY id",
    "SELECT dictGet('triton.names', 'text', toUInt64(2))",
    "SELECT * FROM sums.target ORDER BY ALL",
    "SELECT kind, sumMerge(total), uniqExactMerge(ids) FROM triton.inner_one GROUP BY kind ORDER BY kind",
    "SELECT * FROM sums.last ORDER BY ALL",
    "SELECT * FROM sums.a_view ORDER BY kind",
    "SELECT name, engine, comment FROM system.databases WHERE name IN ('triton', 'sums') ORDER BY name",
    "SELECT database, name, engine, create_table_query, comment FROM system.tables WHERE database IN ('triton', 'sums')"
    " AND name NOT LIKE '.inner%' ORDER BY ALL",
    "SELECT name, create_query FROM system.functions WHERE origin = 'SQLUserDefined'",
)


def fill_clickhouse(env: TritonEnvironment) -> None:
    with env.clickhouse.client() as client:
        for statement in _CLICKHOUSE:
            client.command(statement)


def look_at_clickhouse(env: TritonEnvironment) -> dict[str, Any]:
    with env.clickhouse.client() as client:
        # Text, since a driver may show types in its own way.
        return {query: client.raw_query(query, fmt="TSVWithNamesAndTypes") for query in _CLICKHOUSE_QUERIES}
