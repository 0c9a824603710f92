"""Where statements begin and end, and what in them is a parameter."""

import pytest

from triton_env.services.clickhouse.splitting import clickhouse_statements, typed_names
from triton_env.services.postgres.splitting import postgres_statements


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" ;\n; -- nothing\n /* nor ; here */", []),
        ("select 1", ["select 1"]),
        ("select 1 ; select 2;\n", ["select 1", "select 2"]),
        ("select ';', 'it''s;', \"a;b\"; x", ["select ';', 'it''s;', \"a;b\"", "x"]),
        # A backslash is an ordinary character, unless the string says otherwise.
        (r"select '\'; select E'\';'", [r"select '\'", r"select E'\';'"]),
        ("select $$;$$, $a$ $$ ; $a$; x", ["select $$;$$, $a$ $$ ; $a$", "x"]),
        ("select 1 /* /* ; */ ; */ + 1; x", ["select 1 /* /* ; */ ; */ + 1", "x"]),
        ("select 1 -- ;\n + 1; x", ["select 1 -- ;\n + 1", "x"]),
        (
            "create rule r as on insert to t do (delete from a; delete from b); x",
            ["create rule r as on insert to t do (delete from a; delete from b)", "x"],
        ),
        (
            "create or replace function f() returns int begin atomic select case when true then 1 end; end; x",
            ["create or replace function f() returns int begin atomic select case when true then 1 end; end", "x"],
        ),
        ("begin; select 1; end; x", ["begin", "select 1", "end", "x"]),
        # The server will say what is wrong with it.
        ("select 'open ; x", ["select 'open", "x"]),
        ("select (1; 2", ["select (1; 2"]),
    ],
)
def test_statements_of_postgres(text: str, wanted: list[str]) -> None:
    found = postgres_statements(text)
    assert [statement.text for statement in found] == wanted
    assert all(text[statement.start :].startswith(statement.text) for statement in found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"select 'a\';b'; x", [r"select 'a\';b'", "x"]),
        ("select `a;b` # not ! ;\n; x", ["select `a;b`", "x"]),
        ("insert into t values (1, ';'); select 1", ["insert into t values (1, ';')", "select 1"]),
        ("select 1 /* /* ; */; x", ["select 1", "x"]),
        ("\u00a0select 'ä;ö' ;\u2003 größe\ufeff; \n", ["select 'ä;ö'", "größe"]),
        ("select 'open ; x", ["select 'open", "x"]),
    ],
)
def test_statements_of_clickhouse(text: str, wanted: list[str]) -> None:
    found = clickhouse_statements(text)
    assert [statement.text for statement in found] == wanted
    assert all(text[statement.start :].startswith(statement.text) for statement in found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("select :a, :b_1, :a", ["a", "b_1", "a"]),
        ("select x::int, y := 1, ':a', \":b\", $$ :c $$ -- :d\n", []),
        ("select list[1:last], list[:n][1], :real", ["real"]),
        ("select '12:30:00'::time, :größe", ["größe"]),
    ],
)
def test_parameters_of_postgres(text: str, wanted: list[str]) -> None:
    (statement,) = postgres_statements(text)
    assert [parameter.name for parameter in statement.parameters] == wanted
    for parameter in statement.parameters:
        assert statement.text[parameter.start : parameter.end] == f":{parameter.name}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("select {a:UInt8}, {b:Array(String)}, {a:UInt8}", ["a", "b"]),
        ("select '{a:UInt8}', x ? 1 : b -- {c:Date}", []),
    ],
)
def test_parameters_of_clickhouse(text: str, wanted: list[str]) -> None:
    assert typed_names(text) == wanted
    assert clickhouse_statements(text)[0].parameters == ()


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("-- first\nselect 1", "SELECT"),
        ("((select 1))", "SELECT"),
        ("'x'", ""),
        ("1 select", ""),
        ("\u00a0select 1", "SELECT"),
    ],
)
def test_the_verb_is_the_first_word(text: str, verb: str) -> None:
    assert postgres_statements(text)[0].verb == verb == clickhouse_statements(text)[0].verb
