"""A backup is data: nothing in it is executed, and what it holds goes nowhere but into the services."""

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backup.forging import Change, in_archive, in_index, rewritten
from triton_env import TritonEnvironment, backup
from triton_env.archive.archive import Archive
from triton_env.cli import command_line
from triton_env.errors import RestoreFailed
from triton_env.services.clickhouse import statements
from triton_env.services.clickhouse.statements import Entry, NotAllowed
from triton_env.services.postgres import restore as postgres_restore
from triton_env.services.postgres.index import Index

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def victim(embedded: TritonEnvironment) -> TritonEnvironment:
    """An environment whose data and server a hostile backup is after."""
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute("create role guest login password 'old'")
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
            for what in (
                "precious",
                "(select datname, datdba from pg_database) d",
                "(select a::text from pg_authid a) a",
                "pg_db_role_setting",
            )
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
    index["memberships"].append({"role": "pg_execute_server_program", "member": "guest"} | options)


def _member_of_the_superuser(index: Any, marker: Path) -> None:
    options = {"admin": False, "inherit": True, "set": True}
    index["memberships"].append({"role": index["user"], "member": "guest"} | options)


def _library(index: Any, marker: Path) -> None:
    setting = f"session_preload_libraries={marker}"
    index["settings"].append({"role": "guest", "database": "", "settings": [setting]})


def _search_path(index: Any, marker: Path) -> None:
    index["settings"].append({"role": "", "database": "triton", "settings": ["search_path=public, pg_catalog"]})


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
            (_member, "guest, a member of pg_execute_server_program"),
            (_member_of_the_superuser, "guest, a member of triton_user"),
            (_search_path, "a search_path that puts others before"),
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
            ("VIEW", "v", "reset session authorization; alter role guest superuser;"),
            ("VIEW", "v", "alter role guest password 'new';"),
            ("TABLE", "t", "drop database postgres;"),
            ("TABLE", "t", "create role intruder superuser login;"),
            ("TABLE", "t", f"create table public.t (a text); copy public.t from program 'touch {marker}';"),
            # Of the kinds that a superuser has to run.
            ("ACL", "TABLE t", f"grant select on table public.precious to public; {run};"),
            ("ACL", "TABLE t", "grant pg_execute_server_program to guest;"),
            ("ACL", "TABLE t", 'grant all on function "pg_catalog"."pg_read_file"("text") to "guest";'),
            ("ACL", "TABLE t", 'GRANT SELECT ON TABLE "pg_catalog"."pg_authid" TO PUBLIC;'),
            ("ACL", "TABLE t", 'GRANT SELECT("rolpassword") ON TABLE "pg_catalog"."pg_authid" TO "guest";'),
            ("ACL", "SCHEMA s", 'GRANT ALL ON SCHEMA "pg_catalog" TO PUBLIC;'),
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

    def test_it_does_not_connect_with_a_password_that_everybody_knows(
        self, victim: TritonEnvironment, archive: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = victim.postgres
        target = f"host={server.host} port={server.port} user={server.user} password={server.password} dbname=postgres"
        connect = f"do $$ begin perform public.dblink_exec('{target}', $x${_program(marker)}$x$); end $$;"
        extension = ("EXTENSION", "x", 'CREATE EXTENSION IF NOT EXISTS "dblink" WITH SCHEMA "public";')
        path = rewritten(archive, marker.parent / "a", in_archive(DATABASE, extension, ("TABLE", "t", connect)))
        monkeypatch.setattr(postgres_restore, "_KNOWN_PASSWORD", server.password)
        assert "extension dblink in the database triton" in " ".join(str(_refused(victim, path, "postgres")).split())

    def test_what_runs_by_itself_while_it_is_loaded_has_no_rights(
        self, victim: TritonEnvironment, archive: Path, marker: Path
    ) -> None:
        quiet = f"begin begin {_program(marker)}; exception when others then null; end; return 1; end"
        hostile = (
            f"create function public.f(int) returns int language plpgsql immutable as $$ {quiet} $$;"
            "create table public.t (a int check (public.f(a) > 0)); insert into public.t values (1);"
            "create index on public.t (public.f(a));"
            "do $$ begin execute format('alter database %I set search_path to public, pg_catalog', current_database());"
            "end $$;"
            "create materialized view public.m as select public.f(a) from public.t;"
            # Loading fails, after all of it was evaluated.
            "select 1 / 0;"
        )
        path = rewritten(archive, marker.parent / "a", in_archive(DATABASE, ("TABLE", "t", hostile)))
        assert "division by zero" in str(_refused(victim, path, "postgres"))


def test_what_needs_a_superuser_is_restored_from_a_file_that_is_trusted(
    victim: TritonEnvironment, tmp_path: Path
) -> None:
    with victim.postgres.connect(autocommit=True) as connection:
        connection.execute("create function seen() returns event_trigger language plpgsql as $$ begin end $$")
        connection.execute("create event trigger seen on ddl_command_end execute function seen()")
        connection.execute("create role second superuser")
    backup.create(victim, tmp_path / "a", services=("postgres",))
    with victim.postgres.connect(autocommit=True) as connection:
        connection.execute("drop role second")
    error = _refused(victim, tmp_path / "a", "postgres")
    assert "the superuser second, event trigger seen in the database triton" in error.what
    assert "--trust-code" in error.hint
    backup.restore(victim, tmp_path / "a", replace=True, trusted=True)
    with victim.postgres.connect(autocommit=True) as connection:
        assert connection.execute("select rolsuper from pg_roles where rolname = 'second'").fetchone() == (True,)
        assert connection.execute("select evtname from pg_event_trigger").fetchone() == ("seen",)
        connection.execute("drop event trigger seen")
        connection.execute("drop role second")


def test_a_role_that_reads_the_whole_server_gets_that_from_a_file_that_is_trusted(
    victim: TritonEnvironment, tmp_path: Path
) -> None:
    query = "select rolname from pg_roles where rolreplication and rolname in ('copies', 'stays') order by 1"
    with victim.postgres.connect(autocommit=True) as connection:
        connection.execute("create role copies replication login; create role stays replication login")
        backup.create(victim, tmp_path / "a", services=("postgres",))
        connection.execute("drop role copies")
    notes: list[str] = []
    backup.restore(
        victim, tmp_path / "a", replace=True, report=lambda step: notes.append(step.words) if step.note else None
    )
    (note,) = (each for each in notes if "REPLICATION" in each)
    assert "reads the whole server: copies (" in note
    assert "--trust-code" in note
    with victim.postgres.connect(autocommit=True) as connection:
        assert connection.execute(query).fetchall() == [("stays",)]
    backup.restore(victim, tmp_path / "a", replace=True, trusted=True)
    with victim.postgres.connect(autocommit=True) as connection:
        assert connection.execute(query).fetchall() == [("copies",), ("stays",)]
        connection.execute("drop role copies; drop role stays")


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
            "CREATE FUNCTION tripled AS (x) -> file(x)",
            "CREATE FUNCTION tripled AS (x) -> AIGenerate('a', x)",
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
            # Also as the server itself does not write it.
            ("TABLE", "(a UInt8) ENGINE Kafka('evil', 't', 'g', 'CSV')", "the engine Kafka"),
            ("TABLE", "(a UInt8) ENGINE Kafka SETTINGS kafka_broker_list = 'evil'", "the engine Kafka"),
            ("TABLE", "(engine String) ENGINE \"ExecutablePool\"('x', 'TSV')", 'the engine "ExecutablePool"'),
            ("TABLE", "(engine String DEFAULT if(engine = file('a'), 'b', 'c')) ENGINE = Log", "the function file"),
            (
                "TABLE",
                "(a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS `disk` = `disk`(type = 'web')",
                "a disk of its",
            ),
            ("TABLE", "(a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS `d\\x69sk` = disk(a = 1)", "a disk of its own"),
            ("MATERIALIZED VIEW", "ENGINE URL('http://a/') AS SELECT 1 AS a", "the engine URL"),
            ("MATERIALIZED VIEW", "TO t AS SELECT a FROM b ORDER BY a WITH FILL TO file('c')", "the function file"),
            ("DICTIONARY", "(a UInt8) SOURCE(CLICKHOUSE(`HOST` 'evil' TABLE 't'))", "the property `HOST`"),
            ("DICTIONARY", "(a UInt8) SOURCE(CLICKHOUSE(TABLE 't' \"query\" 'SELECT 1'))", 'the property "QUERY"'),
            ("DICTIONARY", "(a UInt8) SOURCE(CLICKHOUSE(NAME elsewhere))", "the property NAME"),
            ("DICTIONARY", "(a UInt8) SOURCE(CLICKHOUSE(HOST concat('ev', 'il') TABLE 't'))", "the server concat"),
            (
                "DICTIONARY",
                "(a UInt8) SOURCE(CLICKHOUSE(TABLE 't' WHERE '1 UNION ALL SELECT 1'))",
                "a condition of its",
            ),
            ("DICTIONARY", "(a UInt8) SOURCE(CLICKHOUSE(TABLE 't' WHERE 'a = f\\x69le(b)'))", "a condition of its own"),
            # What only looks like it.
            ("TABLE", "(`url` String DEFAULT 'ENGINE = URL', file String) ENGINE = MergeTree ORDER BY tuple()", ""),
            ("TABLE", "(engine String) ENGINE = MergeTree ORDER BY engine SETTINGS index_granularity = 1", ""),
            ("TABLE", "(url String, INDEX url (url) TYPE set(1), PROJECTION url (SELECT url)) ENGINE = Log", ""),
            ("VIEW", "AS SELECT name FROM system.tables WHERE (engine = 'MergeTree') OR (disk = source)", ""),
            ("MATERIALIZED VIEW", "TO triton.url (`a` UInt8) AS SELECT a FROM b WHERE engine = 'Log'", ""),
            ("MATERIALIZED VIEW", "TO file (`a` UInt8) AS WITH 1 AS url SELECT a FROM b WHERE engine = a", ""),
            (
                "DICTIONARY",
                "(a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(HOST 'localhost' PORT tcpPort() USER 'u' TABLE 't' "
                "WHERE 'name = \\'x\\' AND a > 1' UPDATE_FIELD 'b')) LAYOUT(FLAT()) LIFETIME(MIN 0 MAX 10)",
                "",
            ),
            ("TABLE", "(a UInt8) ENGINE = File(TabSeparated)", ""),
            ("DICTIONARY", "(a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't' DB 'd')) LAYOUT(FLAT())", ""),
        ],
    )
    def test_what_reaches_out_of_the_server_is_named(self, kind: str, definition: str, words: str) -> None:
        statements.check_entry(_entry(kind, definition))
        functions = statements.reaching_out(("file", "url", "executable", "numbers", "merge"))
        found = statements.outside(_entry(kind, definition), functions)
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


def _sealed(path: Path, manifest: Iterable[bytes], members: Iterable[zipfile.ZipInfo] = ()) -> Path:
    """A file that is sealed as a backup is, whatever is in it."""
    with path.open("w+b") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, b"x" * 100)
        with archive.open("manifest.json", "w", force_zip64=True) as stream:
            for piece in manifest:
                stream.write(piece)
        archive.comment = f"triton-env backup, format 1, sha256 {'0' * 64}".encode()
    return _resealed(path, path.read_bytes())


def _resealed(path: Path, data: bytes) -> Path:
    path.write_bytes(data[:-64] + hashlib.sha256(data[:-64]).hexdigest().encode())
    return path


class TestReading:
    @pytest.mark.parametrize(
        "manifest",
        [
            (b" " * (1 << 20) for _ in range(300)),
            [b"[" + b"{}," * 4_000_000 + b"{}]"],
            [b"[" * 10_000_000],
        ],
        ids=["long", "many parts", "deep"],
    )
    def test_what_unpacks_to_much_takes_little_memory(self, tmp_path: Path, manifest: Iterable[bytes]) -> None:
        path = _sealed(tmp_path / "bomb", manifest)
        assert path.stat().st_size < 1 << 20
        code = """
import resource, sys
from triton_env import backup, errors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for look in (backup.read_manifest, backup.verify):
    try:
        look(sys.argv[1])
    except errors.RestoreFailed:
        continue
    sys.exit(2)
# In kilobytes.
sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 150_000)
"""
        assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0

    def test_whatever_is_in_a_file_is_an_error_of_ours(self, archive: Path, tmp_path: Path) -> None:
        """Bytes are changed at random, always the same ones, and the seal is put right again."""
        chance = random.Random(20)
        good = archive.read_bytes()
        refused = 0
        for _ in range(150):
            data = bytearray(good)
            for _ in range(chance.randrange(1, 5)):
                # The list of members and the manifest are at the end.
                where = len(data) - 200 - min(int(chance.expovariate(1 / 700)), len(data) - 300)
                data[where] = chance.choice((0, 255, chance.randrange(256), data[where] ^ 1 << chance.randrange(8)))
            path = _resealed(tmp_path / "a", bytes(data))
            try:
                backup.verify(path)
                with Archive(path) as opened:
                    opened.read_index("postgres/index.json", Index)
            except RestoreFailed:
                refused += 1
        assert refused > 100

    def test_what_no_manifest_of_ours_says_is_refused(self, archive: Path, tmp_path: Path) -> None:
        with Archive(archive) as opened:
            good = opened.manifest.as_data()
        member = good["members"][0]
        for change, words in (
            (
                {"services": {"mon\x1b[2Jgo": good["services"]["postgres"]}},
                r"services.mon\x1b[2Jgo.[key]: String",
            ),
            ({"services": [1]}, "services: Input should be"),
            ({"services": {"postgres": {"version": "1"} | {"notes": "x"}}}, "notes: Input should be"),
            ({"members": [member | {"size": -1}]}, "size: Input should be greater"),
            ({"members": [member | {"size": 10**30}]}, "size:"),
            ({"members": [member | {"name": "../../etc/passwd"}]}, "name: String should match"),
            ({"members": [member | {"name": "/etc/passwd"}]}, "name: String should match"),
            ({"members": [member, member]}, "its list of files differs from that of its manifest"),
            ({"format": -1}, "format: Input should be greater"),
            ({"tool": None}, "tool: Input should be"),
        ):
            with pytest.raises(RestoreFailed) as raised:
                backup.read_manifest(_sealed(tmp_path / "a", [json.dumps(good | change).encode()]))
            assert words in str(raised.value)
        packed = zipfile.ZipInfo("postgres/a")
        packed.compress_type = zipfile.ZIP_LZMA
        members = [member | {"name": "postgres/a", "size": 100}]
        path = _sealed(tmp_path / "a", [json.dumps(good | {"members": members}).encode()], [packed])
        with pytest.raises(RestoreFailed) as raised:
            backup.verify(path)
        assert "packed in a way" in raised.value.cause

    def test_nothing_in_it_reaches_the_terminal_as_a_command(self, archive: Path, tmp_path: Path) -> None:
        hostile = "a\x1b]0;owned\x07\x9b2J\u202e"
        with Archive(archive) as opened:
            good = opened.manifest.as_data()
        services = {"postgres": {"version": hostile, "contents": [hostile], "notes": [f"{hostile}\nerror: fake"]}}
        more = {"services": services, "members": [], "tool": hostile, "created": hostile, "runtime": hostile}
        path = _sealed(tmp_path / "a", [json.dumps(good | more).encode()])
        shown = CliRunner().invoke(command_line, ["backup", str(path), "--verify"]).stderr
        assert shown.count(r"a\x1b]0;owned\x07\x9b2J\u202e") == 6
        assert all(character.isprintable() or character == "\n" for character in shown)
        assert "\nerror: fake" not in shown
