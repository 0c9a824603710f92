"""Templates that are folders: which files count, in which order, how they are read, and what an error names."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.core.files import files_in
from triton_env.errors import TemplateFailed, TritonError, UsageError


@pytest.fixture(scope="module")
def databases(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=0)
    with TritonEnvironment(settings, services=("postgres", "clickhouse"), runtime="embedded") as environment:
        yield environment


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refused(env: TritonEnvironment, folder: Path) -> TritonError:
    with pytest.raises(TritonError) as caught:
        env.namespace(template=folder)
    return caught.value


def rows(namespace: Namespace, query: str) -> list[tuple[object, ...]]:
    with namespace.postgres.connect() as connection:
        return connection.execute(query).fetchall()


def test_files_come_in_natural_order_and_links_are_followed(tmp_path: Path) -> None:
    names = ["1-a.sql", "2-b.sql", "02-b.sql", "10-c.sql", "v1/9.sql", "v1/10.sql", "v1.sql", "V2__b.sql", "V10__a.sql"]
    for name in names:
        write(tmp_path / "files", **{name: ""})
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", **{"x.sql": ""})
    (tmp_path / "files" / "zz").symlink_to(tmp_path / "elsewhere")
    found = [path.relative_to(tmp_path / "files").as_posix() for path in files_in(tmp_path / "files")]
    assert found == [
        *("1-a.sql", "02-b.sql", "2-b.sql", "10-c.sql", "V2__b.sql", "V10__a.sql"),
        *("v1/9.sql", "v1/10.sql", "v1.sql", "zz/x.sql"),
    ]
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "files")
    with pytest.raises(UsageError, match="leads back"):
        list(files_in(tmp_path / "files"))


def test_each_file_of_postgres_is_read_as_it_is_meant_and_has_a_session_of_its_own(
    databases: TritonEnvironment, tmp_path: Path
) -> None:
    folder = write(
        tmp_path,
        **{
            "1-tables.sql": "\ufeffcreate schema other;\r\nset search_path = other;\r\ncreate table t (word text);\r\n",
            "2-rows.sql": "create table t (word text); insert into t values ('caf\u00e9');",
            "10-more.sql": "begin; update t set word = word || '!'; commit; copy t to stdout;",
            "11-EMPTY.SQL": "  -- nothing;\n;;",
            "12-role.SQL": "set role pg_monitor; select 1;",
            "13-mine.sql": "create table mine (owner name default current_user); insert into mine default values;",
            "README.md": "not SQL",
        },
    )
    with databases.namespace(template=folder) as namespace:
        assert rows(namespace, "select word from public.t") == [("caf\u00e9!",)]
        assert rows(namespace, "select word from other.t") == []
        assert rows(namespace, "select owner from mine") == [(databases.postgres.user,)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"select 1;\nselect 'caf\xe9';", ["is not UTF-8", "1.sql, line 2", "e9", "iconv"]),
        ("select 1;\n".encode("utf-16"), ["is not UTF-8", "1.sql, line 1", "UTF-16"]),
        (b"select 1;\n\0", ["NUL", "1.sql, line 2"]),
        (b"select 1;\n\n\\i other.sql\n", ["commands of psql", "1.sql, statement 2, line 3", "INSERT"]),
        (b"create table t (i int);\n\\copy t from 't.csv'\n", ["commands of psql", "1.sql, statement 2, line 2"]),
        (
            b"create table t (i int);\ncopy t from stdin;\n1\n\\.\n",
            ["refused", "1.sql, statement 3, line 3", "use INSERT"],
        ),
        (b"select 1;\nselect :'word';\n", ["statement 2, line 2", "variables of psql"]),
        (b"select 1;\nselekt 1;\nselect 2;", ["1.sql, statement 2, line 2", 'syntax error at or near "selekt"']),
        (b"begin;\ncreate table t (i int);", ["leaves a transaction open", "1.sql", "COMMIT"]),
    ],
)
def test_what_postgres_cannot_take_is_refused_with_file_and_line(
    databases: TritonEnvironment, tmp_path: Path, content: bytes, words: list[str]
) -> None:
    message = str(refused(databases, write(tmp_path, **{"1.sql": content})))
    assert [word for word in words if word not in message] == []


def test_each_file_of_clickhouse_is_one_session(databases: TritonEnvironment, tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        **{
            "clickhouse/1.sql": "create temporary table seen (i Int32);\ninsert into seen values (7);\n"
            "set max_block_size = 1234;\ncreate table t engine MergeTree order by i as\n"
            "select i, getSetting('max_block_size') as size from seen;",
            "clickhouse/2.sql": "insert into t select 8, getSetting('max_block_size');",
        },
    )
    with databases.namespace(template=folder, services=("clickhouse",)) as namespace:
        client = namespace.clickhouse.client()
        first, second = client.query("select size from t order by i").result_columns[0]
        assert (first, second != 1234) == (1234, True)
    (folder / "clickhouse/2.sql").write_text("select 1;\n\nselect * from seen;")
    assert refused(databases, folder).where.endswith("2.sql, statement 2, line 3")


@pytest.mark.parametrize(
    ("files", "link", "words"),
    [
        ({"postgres/1.sql": "select 1", "2.sql": "select 2"}, "", "2.sql"),
        ({"postgres/1.sql": "select 1", "postgres/2.sql.gz": ""}, "", "compressed SQL"),
        ({"1.sql": "select 1"}, "2.sql", "leads nowhere"),
        ({"postgres/.hidden.sql": "select 1"}, "", "template's folder holds nothing"),
        ({"README.md": "words"}, "", "template's folder holds nothing"),
    ],
)
def test_what_would_be_left_out_is_refused(
    databases: TritonEnvironment, tmp_path: Path, files: dict[str, str], link: str, words: str
) -> None:
    folder = write(tmp_path / "folder", **files)
    if link:
        (folder / link).symlink_to(tmp_path / "absent")
    error = refused(databases, folder)
    assert isinstance(error, UsageError)
    assert words in str(error)


def test_what_the_server_has_already_is_named_with_the_way_out(databases: TritonEnvironment, tmp_path: Path) -> None:
    statement = "create function plus_one as (x) -> x + 1;"
    write(tmp_path, **{"clickhouse/1.sql": statement})
    databases.namespace(template=tmp_path).close()
    write(tmp_path, **{"clickhouse/2.sql": "select plus_one(1)"})
    assert "CREATE OR REPLACE" in refused(databases, tmp_path).hint
    write(tmp_path, **{"clickhouse/1.sql": statement.replace("create", "create or replace")})
    databases.namespace(template=tmp_path).close()


def test_names_that_are_not_text_and_folders_of_files(databases: TritonEnvironment, tmp_path: Path) -> None:
    (tmp_path / "2\udcff.sql").write_text("select oops")
    write(tmp_path, **{"1 ;'\n$(x)/a.sql": "select 1"})
    message = str(refused(databases, tmp_path))
    assert "2\\xff.sql, statement 1, line 1" in message
    message.encode()


def test_the_cause_of_a_program_that_failed_is_its_status_and_what_it_wrote(databases: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        script = "import sys; print('\\n'.join(f'line {n}' for n in range(50)), file=sys.stderr); sys.exit(3)"
        command = [sys.executable, "-c", script, "upgrade", "head", namespace.postgres.url]
        subprocess.run(command, check=True, capture_output=True)

    def leave(namespace: Namespace) -> None:
        sys.exit("no such revision")

    with pytest.raises(TemplateFailed) as caught:
        databases.namespace(template=build)
    message = str(caught.value)
    assert f"exit status 3 of: {Path(sys.executable).name} -c" in message
    assert databases.postgres.password not in message
    assert "line 49" in message
    assert "line 39" in message
    with pytest.raises(TemplateFailed, match="SystemExit: no such revision"):
        databases.namespace(template=leave)
