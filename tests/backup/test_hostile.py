"""A backup is data: nothing in it is executed, and what it holds goes nowhere but into the services."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.forging import Change, in_archive, in_index, rewritten
from triton_env import TritonEnvironment, backup
from triton_env.backup.clickhouse import statements
from triton_env.backup.clickhouse.statements import Entry, NotAllowed
from triton_env.errors import RestoreFailed

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def victim(embedded: TritonEnvironment) -> TritonEnvironment:
    """An environment whose data and server a hostile backup is after."""
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute("create role somebody login password 'old'")
        connection.execute("create table precious as select 1 as a")
    with embedded.clickhouse.client() as client:
        client.command("CREATE TABLE precious (a UInt32) ENGINE = MergeTree ORDER BY a")
        client.command("CREATE FUNCTION tripled AS (x) -> x * 3")
    return embedded


@pytest.fixture(scope="module")
def archive(victim: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "good.backup"
    backup.create(victim, path, services=("postgres", "clickhouse"))
    return path


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What exists when something of the backup was run."""
    tmp_path.chmod(0o777)
    return tmp_path / "owned"


@pytest.fixture
def unchanged(victim: TritonEnvironment, marker: Path) -> Iterator[None]:
    """The servers hold what they held, and nothing was run."""
    before = _look(victim)
    yield
    assert _look(victim) == before
    assert not marker.exists()


def _look(env: TritonEnvironment) -> list[Any]:
    with env.postgres.connect() as connection:
        found = [
            connection.execute(f"select * from {what} order by 1").fetchall()
            for what in ("precious", "(select datname, datdba from pg_database) d", "pg_authid", "pg_db_role_setting")
        ]
    with env.clickhouse.client() as client:
        found.append(client.query("SELECT database, name FROM system.tables WHERE database != 'system'").result_rows)
        found.append(client.query("SELECT create_query FROM system.functions WHERE origin LIKE 'SQL%'").result_rows)
    return found


def _refused(env: TritonEnvironment, path: Path, service: str) -> RestoreFailed:
    with pytest.raises(RestoreFailed) as raised:
        backup.restore(env, path, services=(service,), replace=True)
    assert raised.value.what.endswith("Nothing was changed: every service holds what it held.")
    return raised.value


def _program(marker: Path) -> str:
    return f"copy (select 1) to program 'touch {marker}'"


def _privilege(index: Any, marker: Path) -> None:
    privilege = f"connect on database postgres to public; {_program(marker)}; grant connect"
    index["databases"][0]["acl"] = [{"role": "", "privilege": privilege, "grantable": False}]


def _superuser(index: Any, marker: Path) -> None:
    index["roles"].append(index["roles"][0] | {"name": "intruder", "superuser": True})


def _member(index: Any, marker: Path) -> None:
    options = {"admin": False, "inherit": True, "set": True}
    index["memberships"].append({"role": "pg_execute_server_program", "member": "somebody"} | options)


def _member_of_the_superuser(index: Any, marker: Path) -> None:
    options = {"admin": False, "inherit": True, "set": True}
    index["memberships"].append({"role": index["user"], "member": "somebody"} | options)


def _library(index: Any, marker: Path) -> None:
    setting = f"session_preload_libraries={marker}"
    index["settings"].append({"role": "somebody", "database": "", "settings": [setting]})


def _flag(index: Any, marker: Path) -> None:
    index["roles"][0]["login"] = "login superuser"


def _verifier(index: Any, marker: Path) -> None:
    index["roles"][0]["verifier"] = "'; drop database triton; --"


@pytest.mark.usefixtures("unchanged")
class TestPostgres:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (_privilege, "acl"),
            (_flag, "login"),
            (_verifier, "verifier"),
            (_superuser, "the superuser intruder"),
            (_member, "somebody, a member of pg_execute_server_program"),
            (_member_of_the_superuser, "somebody, a member of triton_user"),
            (_library, "the setting session_preload_libraries"),
        ],
    )
    def test_what_a_backup_says_of_the_server_is_read_as_data(
        self,
        victim: TritonEnvironment,
        archive: Path,
        marker: Path,
        change: Callable[[Any, Path], None],
        words: str,
    ) -> None:
        path = rewritten(archive, marker.parent / "a", in_index("postgres", lambda index: change(index, marker)))
        assert words in " ".join(str(_refused(victim, path, "postgres")).split())

    def test_statements_in_an_archive_run_without_rights(
        self, victim: TritonEnvironment, archive: Path, marker: Path
    ) -> None:
        run = _program(marker)
        owned = f"create function f() returns int language c as '{marker}', 'f'"
        for entry in (
            ("TABLE", "t", f"create table public.t (a int); {run};"),
            ("FUNCTION", "f()", f"do $$ begin execute $x${run}$x$; end $$;"),
            ("VIEW", "v", "reset session authorization; alter role somebody superuser;"),
            ("VIEW", "v", "alter role somebody password 'new';"),
            ("TABLE", "t", "drop database postgres;"),
            ("TABLE", "t", "create role intruder superuser login;"),
            ("TABLE", "t", f"create table public.t (a text); copy public.t from program 'touch {marker}';"),
            # Of the kinds that a superuser has to run.
            ("ACL", "TABLE t", f"grant select on table public.precious to public; {run};"),
            ("ACL", "TABLE t", "grant pg_execute_server_program to somebody;"),
            ("ACL", "TABLE t", 'grant all on function "pg_catalog"."pg_read_file"("text") to "somebody";'),
            ("DEFAULT ACL", "x", f"{run};"),
            ("EXTENSION", "x", f'create extension if not exists "citext" with schema "public"; {run};'),
            ("COMMENT", "x", f"COMMENT ON EXTENSION \"plpgsql\" IS 'x'; {run};"),
            ("PUBLICATION", "p", f'CREATE PUBLICATION "p" FOR ALL TABLES; {run};'),
            ("SUBSCRIPTION", "s", 'create subscription "s" connection \'\' publication "p" with (connect = true);'),
            ("EVENT TRIGGER", "e", "create event trigger e on ddl_command_end execute function f();"),
            ("FUNCTION", "f()", f"{owned};"),
            ("FUNCTION", "f()", f"{owned.replace(' c ', ' /**/ c ')};"),
        ):
            _refused(victim, rewritten(archive, marker.parent / "a", in_archive(DATABASE, entry)), "postgres")

    def test_what_runs_by_itself_while_it_is_loaded_has_no_rights(
        self, victim: TritonEnvironment, archive: Path, marker: Path
    ) -> None:
        quiet = f"begin begin {_program(marker)}; exception when others then null; end; return 1; end"
        hostile = (
            f"create function public.f(int) returns int language plpgsql immutable as $$ {quiet} $$;"
            "create table public.t (a int check (public.f(a) > 0)); insert into public.t values (1);"
            "create index on public.t (public.f(a));"
            "create materialized view public.m as select public.f(a) from public.t;"
            # Loading fails, after all of it was evaluated.
            "select 1 / 0;"
        )
        path = rewritten(archive, marker.parent / "a", in_archive(DATABASE, ("TABLE", "t", hostile)))
        assert "division by zero" in str(_refused(victim, path, "postgres"))


DATABASE = "postgres/database-1.dump"


def _entry(kind: str, definition: str) -> Entry:
    return Entry(
        database="a",
        name="b",
        kind=kind,
        engine="",
        definition=definition,
        columns=(),
        rows=None,
        after=(),
        source=None,
    )


class TestClickHouse:
    def test_statements_are_what_they_claim(
        self, victim: TritonEnvironment, archive: Path, unchanged: None, marker: Path
    ) -> None:
        for statement in (
            "DROP DATABASE triton SYNC",
            f"INSERT INTO FUNCTION file('{marker}', 'TSVRaw', 'x String') VALUES ('x')",
            "CREATE FUNCTION other AS (x) -> x",
            "CREATE FUNCTION tripled AS (x) -> x; DROP DATABASE triton",
            "CREATE FUNCTION tripled AS (x) -> (SELECT 1)",
            "CREATE FUNCTION tripled ON CLUSTER c AS (x) -> x",
        ):
            change = in_index("clickhouse", lambda index: index["functions"][0].update(statement=statement))  # noqa: B023
            _refused(victim, rewritten(archive, marker.parent / "a", change), "clickhouse")
        for kind, definition in (
            ("TABLE", " (a UInt8) ENGINE = Memory AS SELECT * FROM numbers(1)"),
            ("TABLE", " AS triton.precious"),
            ("TABLE", " ON CLUSTER c (a UInt8) ENGINE = Memory"),
            ("TABLE", " (a UInt8) ENGINE = Memory; DROP DATABASE triton"),
            ("TABLE", " (a UInt8) ENGINE = Memory -- x"),
            ("TABLE", " (a UInt8)) ENGINE = Memory"),
            ("MATERIALIZED VIEW", " (a UInt8) ENGINE = Memory POPULATE AS SELECT 1 AS a"),
            ("VIEW", " AS SELECT 1 INTO OUTFILE '/tmp/x'"),
            ("VIEW", ""),
        ):
            with pytest.raises(NotAllowed):
                statements.check_entry(_entry(kind, definition))

    @pytest.mark.parametrize(
        ("kind", "definition", "words"),
        [
            ("TABLE", "(a UInt8) ENGINE = URL('http://a/')", "the engine URL"),
            ("TABLE", "(a UInt8) ENGINE = File('CSV', '/etc/passwd')", "the engine File"),
            ("TABLE", "(a UInt8) ENGINE = ExecutablePool('x', 'TSV')", "the engine ExecutablePool"),
            ("TABLE", "(a UInt8) AS url('http://a/', 'CSV')", "the function url"),
            (
                "TABLE",
                "(a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'web')",
                "a disk of its own",
            ),
            ("VIEW", "AS SELECT * FROM `file`('a')", "the function `file`"),
            ("VIEW", "(a Int8) AS SELECT a FROM (SELECT * FROM executable('a', 'TSV', 'a Int8'))", "the function exec"),
            (
                "DICTIONARY",
                "(a UInt8) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV'))",
                "the source EXECUT",
            ),
            ("DICTIONARY", "(a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(HOST 'evil' TABLE 't'))", "the server 'evil'"),
            ("DICTIONARY", "(a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(QUERY 'DROP TABLE t'))", "a query of its own"),
            ("TABLE", "(`url` String DEFAULT 'ENGINE = URL', file String) ENGINE = MergeTree ORDER BY tuple()", ""),
            ("TABLE", "(a UInt8) ENGINE = File(TabSeparated)", ""),
            ("DICTIONARY", "(a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't' DB 'd')) LAYOUT(FLAT())", ""),
        ],
    )
    def test_what_reaches_out_of_the_server_is_named(self, kind: str, definition: str, words: str) -> None:
        statements.check_entry(_entry(kind, definition))
        found = statements.outside(_entry(kind, definition))
        assert found.startswith(words) if words else not found

    def test_it_is_refused_unless_the_file_is_trusted(
        self, victim: TritonEnvironment, archive: Path, tmp_path: Path
    ) -> None:
        entry = {"database": "triton", "kind": "TABLE", "columns": [], "rows": None, "after": [], "source": None}
        more = {
            "name": "elsewhere",
            "engine": "URL",
            "definition": " (a UInt8) ENGINE = URL('http://127.0.0.1:1/', 'CSV')",
        }
        change: Change = in_index("clickhouse", lambda index: index["objects"].append(entry | more))
        path = rewritten(archive, tmp_path / "a", change)
        error = _refused(victim, path, "clickhouse")
        assert "triton.elsewhere (the engine URL)" in error.what
        assert "--trust-code" in error.hint
        backup.restore(victim, path, services=("clickhouse",), replace=True, trusted=True)
        with victim.clickhouse.client() as client:
            assert client.command("EXISTS triton.elsewhere") == 1


class TestReading:
    def test_nothing_is_unpacked_beyond_what_is_said(self, archive: Path, tmp_path: Path) -> None:
        """The packed manifest is small, and holds in memory what a hundred thousand pages would."""
        import tracemalloc

        from triton_env.backup.archive import _SEAL, _digest

        path = tmp_path / "bomb"
        with path.open("w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
                with bomb.open("manifest.json", "w", force_zip64=True) as stream:
                    for _ in range(300):
                        stream.write(b" " * (1 << 20))
                bomb.comment = _SEAL.format(format=1, digest="0" * 64).encode()
            digest = _digest(file)
            file.seek(-64, 2)
            file.write(digest.encode())
        assert path.stat().st_size < 1 << 20
        tracemalloc.start()
        try:
            for look in (backup.read_manifest, backup.verify):
                with pytest.raises(RestoreFailed, match="does not write") as raised:
                    look(path)
                assert "manifest is longer than" in raised.value.cause
            assert tracemalloc.get_traced_memory()[1] < 100 << 20
        finally:
            tracemalloc.stop()
