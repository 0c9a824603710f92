"""`%sql` and `%%sql` against real servers, without a kernel: what is asked for, what comes, what is said."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from typing import Any

import pandas
import pytest

from patience import until
from triton_env import TritonEnvironment
from triton_env.core import interrupts
from triton_env.errors import NotStarted, QueryFailed, ServiceNotSelected, UsageError
from triton_env.notebook.magic import run
from triton_env.services import results
from triton_env.services.results import Table
from unit.fakes import installed


@pytest.fixture(scope="module")
def sql(warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm("embedded")


@pytest.fixture(autouse=True)
def in_this_notebook(sql: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_living", {sql})


@pytest.fixture
def variables(sql: TritonEnvironment) -> dict[str, Any]:
    return {"env": sql}


@pytest.fixture
def without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)


class TestPostgres:
    def test_rows_come_as_a_frame(self, variables: dict[str, Any]) -> None:
        frame = run("postgres", "select 1 as a, 'x' as b union select 2, null order by a", variables)
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame.columns) == ["a", "b"]
        assert frame.a.tolist() == [1, 2]
        assert frame.b.isna().tolist() == [False, True]

    def test_exact_numbers_can_be_plotted(self, variables: dict[str, Any]) -> None:
        frame = run("postgres", "select 1.5::numeric as n, 1 as i union all select null, 2", variables)
        assert frame.dtypes.astype(str).tolist() == ["float64", "int64"]
        assert frame.n.iloc[0] == 1.5

    def test_no_rows_are_a_frame_too(self, variables: dict[str, Any]) -> None:
        frame = run("postgres", "select 1 as a where false", variables)
        assert (list(frame.columns), len(frame)) == (["a"], 0)

    def test_columns_may_have_one_name(self, variables: dict[str, Any]) -> None:
        assert run("postgres", "select 1.5 as a, 2.5 as a", variables).to_numpy().tolist() == [[1.5, 2.5]]

    def test_the_last_rows_count(self, variables: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        text = (
            "create table last (x int); insert into last values (1), (2); select sum(x) as s from last; drop table last"
        )
        assert run("postgres", text, variables).s.tolist() == [3]
        assert capsys.readouterr().out == ""

    def test_without_rows_it_says_what_was_done(
        self, variables: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("postgres", "create temp table done (x int); insert into done values (1), (2);", variables) is None
        assert capsys.readouterr().out == "CREATE TABLE\nINSERT 0 2\n"

    def test_notices_are_shown(self, variables: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        text = "do $$ begin raise warning 'careful; %', 1; end $$; select 1 as one"
        assert run("postgres", text, variables).one.tolist() == [1]
        assert capsys.readouterr().out == "WARNING: careful; 1\n"

    def test_each_statement_is_a_transaction(self, sql: TritonEnvironment, variables: dict[str, Any]) -> None:
        # None of these may be in a transaction with others.
        run("postgres", "create database other; vacuum; drop database other", variables)
        with pytest.raises(QueryFailed):
            run("postgres", "create table kept (x int); select nothing", variables)
        assert run("postgres", "select count(*) as n from kept", variables).n.tolist() == [0]

    def test_nothing_stays_connected(self, sql: TritonEnvironment, variables: dict[str, Any]) -> None:
        run("postgres", "select 1", variables)
        with pytest.raises(QueryFailed):
            run("postgres", "select nothing", variables)
        asking = "select count(*) from pg_stat_activity where datname = current_database() and pid != pg_backend_pid()"
        # The server learns of the end of a connection a moment later.
        with sql.postgres.connect(autocommit=True) as connection:
            assert until(lambda: connection.execute(asking).fetchone() == (0,))

    def test_names_stand_for_variables(self, variables: dict[str, Any]) -> None:
        variables |= {"ids": [1, 3], "day": date(2026, 2, 3), "word": "it's; :ids", "nothing": None, "low": -1}
        text = """
            select x, :word as a, :day + 1 as day, :nothing::text as nothing, 1-:low as two, ':ids' as text, '5%' as p
            from generate_series(1, 4) as x where x = any(:ids) order by x
        """
        frame = run("postgres", text, variables)
        assert frame.x.tolist() == [1, 3]
        assert frame.iloc[0].tolist()[1:] == ["it's; :ids", date(2026, 2, 4), None, 2, ":ids", "5%"]

    @pytest.mark.parametrize(
        ("name", "words"), [("missing", "'missing', which is not defined"), ("odd", "is a object")]
    )
    def test_a_variable_has_to_be_there_and_of_use(self, variables: dict[str, Any], name: str, words: str) -> None:
        variables["odd"] = object()
        with pytest.raises(UsageError, match=words):
            run("postgres", f"select :{name}", variables)

    @pytest.mark.parametrize(
        ("cell", "where", "cause"),
        [
            (
                "select 1;\n\nselect x\n  from nothing",
                "line 5 of the cell, column 8",
                'SQLSTATE 42P01: relation "nothing" does not exist\n  from nothing\n       ^',
            ),
            (
                "select :value, nothing",
                "line 2 of the cell, column 16",
                'SQLSTATE 42703: column "nothing" does not exist\nselect :value, nothing\n               ^',
            ),
            (
                "select 'größe', nothing",
                "line 2 of the cell, column 17",
                "SQLSTATE 42703: column \"nothing\" does not exist\nselect 'größe', nothing\n                ^",
            ),
            (
                "create temp table u (x int primary key);\ninsert into u values (1), (1)",
                "line 3 of the cell, column 1",
                'SQLSTATE 23505: duplicate key value violates unique constraint "u_pkey"\nKey (x)=(1) already exists.',
            ),
        ],
    )
    def test_an_error_tells_where_and_why(self, variables: dict[str, Any], cell: str, where: str, cause: str) -> None:
        variables["value"] = "a long text that moves what follows it"
        with pytest.raises(QueryFailed) as caught:
            run("postgres", cell, variables)
        assert (caught.value.where, caught.value.cause.rstrip()) == (where, cause)

    def test_the_hint_is_the_servers(self, variables: dict[str, Any]) -> None:
        with pytest.raises(QueryFailed) as caught:
            run("postgres", "select lenght('x')", variables)
        assert "No function matches the given name" in f"{caught.value.hint} {caught.value.cause}"

    def test_a_server_that_is_gone(self) -> None:
        with (
            installed(),
            TritonEnvironment(services=("postgres",)) as elsewhere,
            pytest.raises(QueryFailed) as caught,
        ):
            run("postgres --env elsewhere", "select 1", {"elsewhere": elsewhere})
        assert caught.value.what == "PostgreSQL does not answer."
        assert caught.value.where == "127.0.0.1:25432"
        assert "env.logs('postgres')" in caught.value.hint


class TestClickHouse:
    def test_rows_come_as_a_frame(self, variables: dict[str, Any]) -> None:
        frame = run("clickhouse", "select number as n, toDecimal32(1.5, 2) as d from numbers(2); -- two", variables)
        assert frame.dtypes.astype(str).tolist() == ["uint64", "float64"]
        assert frame.to_numpy().tolist() == [[0, 1.5], [1, 1.5]]

    def test_statements_share_a_session(self, variables: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        text = "create temporary table t (x UInt8); insert into t values (1), (2);"
        assert run("clickhouse", text, variables) is None
        assert capsys.readouterr().out == "INSERT: 2 rows written\n"
        assert run("clickhouse", f"{text} select sum(x) as s from t", variables).s.tolist() == [3]

    @pytest.mark.parametrize(
        "text", ["show databases", "describe table system.one", "explain select 1", "exists table x", "(select 1)"]
    )
    def test_whatever_answers_is_shown(self, variables: dict[str, Any], text: str) -> None:
        assert len(run("clickhouse", text, variables)) >= 1

    def test_typed_names_stand_for_variables(self, variables: dict[str, Any]) -> None:
        variables |= {"day": date(2026, 2, 3), "words": ["a", "it's"]}
        frame = run("clickhouse", "select {day:Date} as day, {words:Array(String)}[2] as word", variables)
        assert (str(frame.day.iloc[0])[:10], frame.word.iloc[0]) == ("2026-02-03", "it's")
        with pytest.raises(UsageError, match="'missing', which is not defined"):
            run("clickhouse", "select {missing:UInt8}", variables)

    @pytest.mark.parametrize(
        ("cell", "where", "cause"),
        [
            (
                "select 'größe';\nselect 'größe' frm nothing x",
                "line 3 of the cell, column 20",
                "SYNTAX_ERROR (code 62): ",
            ),
            (
                "select (1",
                "line 2 of the cell, column 10",
                "SYNTAX_ERROR (code 62): Syntax error: end of the statement. Unmatched parentheses",
            ),
            ("\nselect * from nothing", "line 3 of the cell, column 1", "UNKNOWN_TABLE (code 60): "),
            ("insert into nothing values (1)", "line 2 of the cell, column 1", "UNKNOWN_TABLE (code 60): "),
        ],
    )
    def test_an_error_tells_where_and_why(self, variables: dict[str, Any], cell: str, where: str, cause: str) -> None:
        with pytest.raises(QueryFailed) as caught:
            run("clickhouse", cell, variables)
        assert caught.value.where == where
        assert caught.value.cause.startswith(cause)
        assert "FORMAT" not in str(caught.value)
        assert "http://" not in str(caught.value)

    def test_a_format_is_not_needed(self, variables: dict[str, Any]) -> None:
        with pytest.raises(QueryFailed) as caught:
            run("clickhouse", "select 1 format JSON", variables)
        assert caught.value.hint.startswith("leave out FORMAT")


class TestTheLine:
    def test_a_statement_may_be_in_it(self, variables: dict[str, Any]) -> None:
        assert run("postgres select 1 as x -- one", None, variables).x.tolist() == [1]
        assert run("postgres select 1 as x,", "2 as y", variables).to_numpy().tolist() == [[1, 2]]

    @pytest.mark.parametrize(
        "line", ["postgres --out kept --env env", "--env=env postgres --out=kept", "--out kept postgres"]
    )
    def test_options(self, variables: dict[str, Any], line: str) -> None:
        assert run(line, "select 1 as x", variables) is None
        assert variables["kept"].x.tolist() == [1]

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("", "needs to know where: postgres or clickhouse"),
            ("redis get x", "no SQL for 'redis'"),
            ("postgres --nothing x", "Unknown option --nothing"),
            ("postgres --out", "--out needs the name"),
            ("postgres --out 1x", "'1x' cannot be the name"),
            ("postgres --out for", "'for' cannot be the name"),
            ("postgres --env elsewhere", "variable 'elsewhere' is not defined"),
            ("postgres --env number", "not a int"),
            ("postgres", "The statement for PostgreSQL is missing"),
        ],
    )
    def test_what_is_wrong_with_it(self, variables: dict[str, Any], line: str, words: str) -> None:
        variables["number"] = 1
        with pytest.raises(UsageError, match=words) as caught:
            run(line, "", variables)
        assert caught.value.hint

    def test_of_several_environments_one_has_to_be_named(self, variables: dict[str, Any]) -> None:
        with TritonEnvironment(runtime="embedded", services=("postgres",)) as other:
            variables["other"] = other
            assert run("clickhouse select 1 as x", None, variables).x.tolist() == [1]
            with pytest.raises(UsageError, match="2 environments with PostgreSQL") as caught:
                run("postgres select 1", None, variables)
            assert set(caught.value.where.split(", ")) == {"env", "other"}
            frame = run("postgres --env other select inet_server_port() as port", None, variables)
            assert frame.port.tolist() == [other.postgres.port]
        assert run("postgres select inet_server_port() as port", None, variables).port.tolist() == [
            variables["env"].postgres.port
        ]

    def test_a_namespace_may_be_named(self, variables: dict[str, Any]) -> None:
        with variables["env"].namespace() as variables["ns"]:
            run("postgres --env ns", "create table only_here (x int)", variables)
            assert run("postgres --env ns", "select count(*) as n from only_here", variables).n.tolist() == [0]
            with pytest.raises(QueryFailed, match="refused"):
                run("postgres", "select * from only_here", variables)
            frame = run("clickhouse --env ns select currentDatabase() as name", None, variables)
            assert frame.name.tolist() == [variables["ns"].clickhouse.database]

    def test_where_none_has_it(self) -> None:
        with installed(), TritonEnvironment(services=("redis",)) as env, pytest.raises(ServiceNotSelected):
            run("postgres --env env select 1", None, {"env": env})
        with pytest.raises(NotStarted):
            run("postgres --env env select 1", None, {"env": TritonEnvironment(services=("postgres",))})


def test_where_none_runs_it_says_how_to_start_one() -> None:
    code = (
        "from triton_env.notebook.magic import run\n"
        "try: run('postgres select 1', None, {})\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == (
        "No environment with PostgreSQL runs in this notebook.\n\nhint: env = TritonEnvironment().start()\n"
    )


@pytest.mark.usefixtures("without_pandas")
class TestWithoutPandas:
    @pytest.mark.parametrize("service", ["postgres", "clickhouse"])
    def test_rows_come_as_a_table(self, variables: dict[str, Any], service: str) -> None:
        table = run(
            service, "select * from (select 1 as a, '<b>' as b union all select 2, null) as u order by a", variables
        )
        assert isinstance(table, Table)
        assert (table.columns, list(table), len(table)) == (("a", "b"), [(1, "<b>"), (2, None)], 2)
        assert repr(table) == "a  b\n1  <b>\n2  NULL\n(2 rows)"
        assert "<td>&lt;b&gt;</td>" in table._repr_html_()

    def test_a_long_one_is_cut_and_says_so(self) -> None:
        table = Table(("x",), tuple((f"{number}" * 40,) for number in range(100)))
        assert len(repr(table).splitlines()) == results._SHOWN_ROWS + 2
        assert "(100 rows, of which the first 60 are shown)" in repr(table)
        assert table._repr_html_().count("<tr>") == results._SHOWN_ROWS + 1

    def test_an_empty_one(self) -> None:
        assert repr(Table(("x", "y"), ())) == "x  y\n(0 rows)"


def test_what_is_no_number_stays_what_it_is() -> None:
    from decimal import Decimal

    frame = pandas.DataFrame({"mixed": pandas.Series([Decimal("1.5"), "x"], dtype=object)})
    assert results.with_floats(frame).mixed.tolist() == [Decimal("1.5"), "x"]
