# ruff: noqa: E501 - statements before and after, in lines
"""The name of a database is exchanged where it is one, and nowhere else."""

import pytest

from triton_env.services.clickhouse.renaming import Account, rename_database, with_empty, without_columns

TABLES = frozenset({"claims", "names", "lookup", "target", "odd name"})


def exchanged(statement: str) -> tuple[str, frozenset[str]]:
    found = rename_database(statement, "triton", "copy", TABLES, Account("default", "it's secret"))
    return found.statement, found.names - {"x"}


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("CREATE VIEW triton.x AS SELECT id FROM triton.claims", "CREATE VIEW `copy`.x AS SELECT id FROM `copy`.claims", "claims"),
        ("SELECT triton.claims.id FROM triton.claims", "SELECT `copy`.claims.id FROM `copy`.claims", "claims"),
        ("SELECT 1 FROM triton.claims AS a, triton.names", "SELECT 1 FROM `copy`.claims AS a, `copy`.names", "claims names"),
        ("SELECT 1 FROM `triton`.`odd name`", "SELECT 1 FROM `copy`.`odd name`", "odd name"),
        ("SELECT a IN (triton.names) FROM triton.gone", "SELECT a IN (`copy`.names) FROM `copy`.gone", "names gone"),
        ("SELECT in(a, triton.names)", "SELECT in(a, `copy`.names)", "names"),
        ("SELECT 1 FROM a ANY LEFT JOIN triton.names USING (id)", "SELECT 1 FROM a ANY LEFT JOIN `copy`.names USING (id)", "names"),
        ("CREATE MATERIALIZED VIEW triton.x TO triton.target AS SELECT 1", "CREATE MATERIALIZED VIEW `copy`.x TO `copy`.target AS SELECT 1", "target"),
        ("REFRESH EVERY 1 HOUR DEPENDS ON triton.names, triton.claims (`id` UInt8)", "REFRESH EVERY 1 HOUR DEPENDS ON `copy`.names, `copy`.claims (`id` UInt8)", "names claims"),
        ("dictGet('triton.names', 'text', id)", "dictGet('copy.names', 'text', id)", "names"),
        ("dictGetOrDefault(triton.names, 'text', id, 'triton.names')", "dictGetOrDefault(`copy`.names, 'text', id, 'triton.names')", "names"),
        ("joinGet('triton.lookup', 'v', id)", "joinGet('copy.lookup', 'v', id)", "lookup"),
        ("ENGINE = Buffer('triton', 'claims', 1)", "ENGINE = Buffer('copy', 'claims', 1)", "claims"),
        ("ENGINE = Distributed('default', 'triton', 'claims')", "ENGINE = Distributed('default', 'copy', 'claims')", "claims"),
        ("ENGINE = Dictionary('triton.names')", "ENGINE = Dictionary('copy.names')", "names"),
        ("ENGINE = Alias('triton', 'claims')", "ENGINE = Alias('copy', 'claims')", "claims"),
        ("ENGINE = Alias('triton.claims')", "ENGINE = Alias('copy.claims')", "claims"),
        ("ENGINE = Alias('claims')", "ENGINE = Alias('claims')", "claims"),
        ("SELECT * FROM merge('triton', '^claims$')", "SELECT * FROM merge('copy', '^claims$')", "^claims$"),
        ("SELECT * FROM mergeTreeIndex(triton, claims)", "SELECT * FROM mergeTreeIndex(`copy`, claims)", "claims"),
        ("SELECT * FROM remote('127.0.0.1:9000', 'triton', 'claims')", "SELECT * FROM remote('127.0.0.1:9000', 'copy', 'claims')", "claims"),
        ("SELECT * FROM cluster('default', triton.claims)", "SELECT * FROM cluster('default', `copy`.claims)", "claims"),
        ("SOURCE(CLICKHOUSE(TABLE 'names' DB 'triton'))", "SOURCE(CLICKHOUSE(TABLE 'names' DB 'copy'))", "names"),
        ("SOURCE(CLICKHOUSE(DB 'triton' TABLE 'names' HOST 'localhost' PORT 9000))", "SOURCE(CLICKHOUSE(DB 'copy' TABLE 'names' HOST 'localhost' PORT 9000))", "names"),
        ("SOURCE(CLICKHOUSE(QUERY 'select \\'triton.x\\' from triton.names'))", "SOURCE(CLICKHOUSE(QUERY 'select \\'triton.x\\' from `copy`.names'))", "names"),
        ("SOURCE(CLICKHOUSE(TABLE 'names' PASSWORD '[HIDDEN]' USER 'default'))", "SOURCE(CLICKHOUSE(TABLE 'names' PASSWORD 'it\\'s secret' USER 'default'))", "names"),
    ],
)  # fmt: skip
def test_names_of_tables(before: str, after: str, names: str) -> None:
    statement, found = exchanged(before)

    assert statement == after
    assert found == (frozenset(names.split()) if names not in TABLES else {names})


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'triton.claims', \"triton\".b, $$triton.claims$$ /* triton.claims */ -- triton.claims",
        "WITH triton AS (SELECT 1 AS id) SELECT triton.id FROM triton",
        "SELECT triton.claims FROM other AS triton WHERE triton.names > 1",
        "CREATE TABLE a.b (`triton` Tuple(claims Tuple(x Int8)), `y` Int8 DEFAULT triton.claims.x) ENGINE = Memory",
        "SELECT other.triton.claims FROM other.triton",
        "SELECT 1 FROM numbers(3) ARRAY JOIN triton.claims AS a, triton.names AS b",
        "SELECT 1 FROM remote('elsewhere:9000', 'triton', 'claims')",
        "SOURCE(CLICKHOUSE(HOST 'elsewhere' DB 'triton' TABLE 'names'))",
        "SELECT f('triton'), concat('triton', '.names'), a IS DISTINCT FROM triton.claims",
        "SELECT 1 COMMENT 'of triton.claims'",
        "SOURCE(CLICKHOUSE(HOST 'elsewhere' USER 'default' PASSWORD '[HIDDEN]' TABLE 'names'))",
        "SOURCE(CLICKHOUSE(USER 'guest' PASSWORD '[HIDDEN]' QUERY 'select 1'))",
    ],
)
def test_all_else_stays(statement: str) -> None:
    assert exchanged(statement) == (statement, frozenset())


def test_a_view_that_refreshes_itself_is_made_empty() -> None:
    head = "CREATE MATERIALIZED VIEW a.b REFRESH EVERY 1 HOUR (`id` UInt8) ENGINE = Memory "

    assert with_empty(f"{head}AS SELECT 1 AS id") == f"{head}EMPTY AS SELECT 1 AS id"
    assert with_empty("CREATE VIEW a.b AS SELECT 1 AS `REFRESH`") == "CREATE VIEW a.b AS SELECT 1 AS `REFRESH`"


def test_the_columns_of_an_alias_are_left_out() -> None:
    statement = "CREATE TABLE a.b (`x` Tuple(a Int8) DEFAULT ')') ENGINE = Alias('c')"

    assert without_columns(statement) == "CREATE TABLE a.b ENGINE = Alias('c')"
