"""Where statements end and data begins."""

import pytest

from triton_env.servers.clickhouse import sql


@pytest.mark.parametrize(
    ("text", "verb", "output_format"),
    [
        ("", "", None),
        ("  -- nothing\n /* at all */", "", None),
        ("SELECT 1", "SELECT", None),
        ("( ( select 1 ) )", "SELECT", None),
        ("-- c\n#! c\nWITH 1 AS x SELECT x FORMAT JSON", "WITH", "JSON"),
        ("SELECT 'FORMAT CSV'", "SELECT", None),
        ("SELECT format('{}', 1) FORMAT CSV", "SELECT", "CSV"),
        ("SELECT * FROM (SELECT 1 FORMAT TSV)", "SELECT", None),
        ("SELECT 1 format Native;", "SELECT", "Native"),
        ("SELECT 1 FORMAT /* x */ Null SETTINGS max_threads = 1", "SELECT", "Null"),
        ("SELECT 1 SETTINGS a = 'FORMAT x' FORMAT XML", "SELECT", "XML"),
        ("SELECT t.format FROM t", "SELECT", None),
        ("SELECT `FORMAT` x", "SELECT", None),
        ("SELECT format FROM (SELECT 1 AS format)", "SELECT", None),
        ("SELECT 1 AS format FORMAT CSV ; -- end", "SELECT", "CSV"),
        ("SELECT $$FORMAT CSV$$, $a$ FORMAT $$ TSV $a$ FORMAT JSON", "SELECT", "JSON"),
        ("SHOW TABLES FORMAT Pretty", "SHOW", "Pretty"),
        ("SELECT \u2018' FORMAT CSV\u2019, 1 AS a$b$ FORMAT JSON -- $b$", "SELECT", "JSON"),
        ("'unterminated", "", None),
    ],
)
def test_verb_and_output_format(text: str, verb: str, output_format: str | None) -> None:
    statement = sql.examine(text.encode())
    assert (statement.verb, statement.format, statement.insert) == (verb, output_format, None)


@pytest.mark.parametrize(
    ("text", "bare", "writing"),
    [
        ("SELECT 1", "SELECT 1", "SELECT 1 @ FORMAT X"),
        ("SELECT 1 -- x\n; /* y */ ;", "SELECT 1", "SELECT 1 @ FORMAT X"),
        ("SELECT '--;' ; ", "SELECT '--;'", "SELECT '--;' @ FORMAT X"),
        ("SELECT 1\u00a0;", "SELECT 1", "SELECT 1 @ FORMAT X"),
        ("SELECT 1 FORMAT CSV", "SELECT 1", "SELECT 1 @ FORMAT CSV"),
        ("SELECT 1 FORMAT CSV SETTINGS a = 1;", "SELECT 1  SETTINGS a = 1", "SELECT 1 @ FORMAT CSV SETTINGS a = 1;"),
    ],
)
def test_where_a_result_goes(text: str, bare: str, writing: str) -> None:
    statement = sql.examine(text.encode())
    assert sql.without_format(text.encode(), statement).decode().rstrip() == bare
    written = sql.with_output(text.encode(), statement, "/x", "X").decode()
    assert " ".join(written.split()) == " ".join(writing.replace("@", "INTO OUTFILE '/x' TRUNCATE").split())


@pytest.mark.parametrize(
    ("text", "head", "data", "data_format"),
    [
        ("INSERT INTO t VALUES (1)", "INSERT INTO t ", " (1)", "Values"),
        ("INSERT INTO t (a, b) FORMAT CSV\n1,2", "INSERT INTO t (a, b) ", "1,2", "CSV"),
        ("INSERT INTO t FORMAT CSV 1,2\n", "INSERT INTO t ", "1,2\n", "CSV"),
        ("INSERT INTO t FORMAT TSV\r\n\n x", "INSERT INTO t ", "\n x", "TSV"),
        ("insert t values(1)", "insert t ", "(1)", "Values"),
        ("INSERT INTO FUNCTION null('a Int32') VALUES (1)", "INSERT INTO FUNCTION null('a Int32') ", " (1)", "Values"),
        ("INSERT INTO d.values VALUES (1)", "INSERT INTO d.values ", " (1)", "Values"),
        ("INSERT INTO format FORMAT TSV\n1", "INSERT INTO format ", "1", "TSV"),
        ("INSERT INTO t (format) SETTINGS a = 'VALUES' FORMAT A\n1", "INSERT INTO t (format) SETTINGS a = 'VALUES' ", "1", "A"),  # noqa: E501
        ("INSERT INTO t FORMAT Values (1)", "INSERT INTO t ", " (1)", "Values"),
    ],
)  # fmt: skip
def test_where_the_data_of_an_insert_begins(text: str, head: str, data: str, data_format: str) -> None:
    insert = sql.examine(text.encode()).insert
    assert insert is not None
    assert (text[: insert.head_end], text[insert.data_start :], insert.format) == (head, data, data_format)


@pytest.mark.parametrize(
    "text",
    ["INSERT INTO t SELECT 1 FORMAT CSV", "INSERT INTO t WITH 1 AS x SELECT x", "INSERT INTO t (a) (SELECT 1)",
     "INSERT INTO t FROM INFILE 'x' FORMAT CSV", "INSERT INTO t", "INSERT", "INSERT INTO t FORMAT"],
)  # fmt: skip
def test_inserts_without_data(text: str) -> None:
    assert sql.examine(text.encode()).insert is None


def test_the_answer_does_not_depend_on_where_the_text_is_cut() -> None:
    text = b'INSERT INTO t (a, b) SETTINGS x = \'y\' FORMAT JSONEachRow\n{"a": 1}\n{"b": "VALUES"}'
    final = sql.examine(text).insert
    for end in range(len(text)):
        statement = sql.examine(text[:end])
        assert not statement.settled or statement.insert == final


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("SELECT c = 1, [c = 1] FROM t", "SELECT c = 1, [c = 1] FROM t"),
        ("SELECT Settings, c = 'x' FROM t", "SELECT Settings, c = 'x' FROM t"),
        (
            "SELECT 1 SETTINGS c = 'x', b = [1, 2], `c` = 2 FORMAT X",
            "SELECT 1 SETTINGS c = <'x'>, b = [1, 2], `c` = <2> FORMAT X",
        ),
        ("SELECT (SELECT 1 SETTINGS b = 1), c = 1", "SELECT (SELECT 1 SETTINGS b = 1), c = 1"),
        ("SELECT 1 SETTINGS b = 1 UNION ALL SELECT 1, c = 1", "SELECT 1 SETTINGS b = 1 UNION ALL SELECT 1, c = 1"),
        ("set b = map(1, c = 1), c=default", "set b = map(1, c = 1), c=<default>"),
        (
            "INSERT INTO t SETTINGS c = 1 VALUES (1, c = 2), c = 1",
            "INSERT INTO t SETTINGS c = <1> VALUES (1, c = 2), c = 1",
        ),
        ("SELECT 1 SETTINGS c = {p:String}, b = 1", "SELECT 1 SETTINGS c = <{p:String}>, b = 1"),
        ("SELECT 1 SETTINGS c", "SELECT 1 SETTINGS c"),
    ],
)
def test_values_of_settings(text: str, changed: str) -> None:
    assert sql.replace_setting(text.encode(), b"c", lambda value: b"<%b>" % value).decode() == changed


def test_input_calls() -> None:
    text = b"INSERT INTO t SELECT a FROM input( 'a Int32' ) WHERE a FORMAT CSV\n1"
    insert = sql.examine(text).insert
    assert insert is not None
    assert insert.input is not None
    assert insert.structure is not None
    assert text[insert.input.start : insert.input.end] == b"input( 'a Int32' )"
    assert text[insert.structure.start : insert.structure.end] == b"'a Int32'"
    assert (text[insert.data_start :], insert.format) == (b"1", "CSV")


def test_lists_of_types() -> None:
    assert sql.split_list("UInt8, Array(Tuple(a Int8, b String)) ,Enum8('a,b' = 1)") == [
        "UInt8",
        "Array(Tuple(a Int8, b String))",
        "Enum8('a,b' = 1)",
    ]


@pytest.mark.parametrize("text", ["a'b", "\\", "`", "'; DROP", "\\'"])
def test_quoting(text: str) -> None:
    literal = sql.quote(text).encode()
    assert [token.lastgroup for token in sql.tokens_of(literal)] == ["string"]
    name = sql.identifier(text).encode()
    assert [token.lastgroup for token in sql.tokens_of(name)] == ["quoted"]
