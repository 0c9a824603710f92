"""PostgreSQL's databases: what is copied, whose connections are ended, and what a reset removes."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from patience import until
from triton_env import Namespace, TritonEnvironment
from triton_env.errors import IsolationFailed, SnapshotFailed, TemplateFailed
from triton_env.services.base_isolation import Space
from triton_env.services.postgres import isolation as postgres

SCHEMA = """
create extension citext;
create table claims (id bigint generated always as identity primary key, name citext unique, amount numeric);
create index on claims (amount);
insert into claims (name, amount) select 'Name ' || n, n from generate_series(1, 1000) n;
create sequence numbers start 100;
select nextval('numbers'), nextval('numbers');
create materialized view sums as select sum(amount) from claims;
create function answer() returns int language sql as 'select 42';
select lo_from_bytea(4711, '\\x00ff10');
create role reader;
grant select on claims to reader;
"""
DATABASE = """
alter database {name} set search_path to "$user", public, claims;
alter role reader in database {name} set work_mem to '5MB';
alter database {name} connection limit 50;
revoke connect on database {name} from public;
grant create, connect on database {name} to reader with grant option;
comment on database {name} is 'it''s the database';
"""


def execute(connection: "psycopg.Connection[Any]", statement: str) -> Any:
    rows = connection.execute(statement)
    return rows.fetchall() if rows.description else None


def spaces(env: TritonEnvironment) -> list[str]:
    with env.postgres.connect() as connection:
        return [name for (name,) in execute(connection, "select datname from pg_database where datname ~ '^triton_'")]


def everything(namespace: Namespace | TritonEnvironment) -> list[Any]:
    queries = (
        "select count(*), min(name), max(id) from claims where name = 'NAME 7' or true",
        "select last_value, is_called from numbers",
        "select * from sums",
        "select answer(), encode(lo_get(4711), 'hex')",
        "select indexdef from pg_indexes where tablename = 'claims' order by 1",
        "select has_table_privilege('reader', 'claims', 'select'), has_table_privilege('reader', 'claims', 'delete')",
        "select rolname, setconfig from pg_db_role_setting s left join pg_roles r on r.oid = setrole"
        " where setdatabase = (select oid from pg_database where datname = current_database()) order by 1",
        "select datconnlimit, shobj_description(oid, 'pg_database'), pg_get_userbyid(datdba),"
        " has_database_privilege('reader', oid, 'create with grant option')"
        " from pg_database where datname = current_database()",
        "select pg_get_userbyid(grantee), privilege_type, is_grantable from pg_database, aclexplode(datacl)"
        " where datname = current_database() and grantee <> 0 order by 1, 2",
        "select count(*) from pg_database, aclexplode(datacl) where datname = current_database() and grantee = 0",
        "show search_path",
    )
    with namespace.postgres.connect() as connection:
        return [execute(connection, query) for query in queries]


@pytest.fixture(autouse=True)
def empty(small: TritonEnvironment) -> Iterator[None]:
    yield
    small.reset()


def fill(place: Namespace | TritonEnvironment) -> None:
    with place.postgres.connect(autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(sql.SQL(DATABASE).format(name=sql.Identifier(place.postgres.database)))


def test_a_copy_has_everything(small: TritonEnvironment) -> None:
    fill(small)
    before = everything(small)
    small.snapshot("full")
    with small.namespace(template="full") as namespace:
        assert everything(namespace) == before
        with namespace.postgres.connect() as connection:
            assert execute(connection, "select nextval('numbers')") == [(102,)]
            connection.execute("insert into claims (name) values ('new')")
            connection.execute("select lo_put(4711, 0, '\\xaa')")
            assert execute(connection, "select max(id) from claims") == [(1001,)]
        assert everything(small) == before
        with small.postgres.connect() as connection:
            connection.execute("drop table claims cascade")
        small.restore("full")
        assert everything(small) == before


def test_reset_removes_databases_and_roles_but_not_those_of_namespaces(small: TritonEnvironment) -> None:
    def roles() -> list[Any]:
        with small.postgres.connect() as connection:
            return [name for (name,) in execute(connection, "select rolname from pg_roles where oid >= 16384")]

    before = roles()  # snapshots of other tests may need some
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute("create role plain")
        connection.execute('create database "odd ""name" owner plain')
        connection.execute("create table mine (id int)")
    with small.postgres.connect(dbname="postgres") as connection:
        connection.execute("create table mine (id int)")
    with small.namespace() as namespace:
        with namespace.postgres.connect() as connection:
            connection.execute("create role used")
            connection.execute("create table mine (id int)")
            connection.execute("alter table mine owner to used")
        small.reset()
        assert sorted(roles()) == sorted([*before, "used"])
        with namespace.postgres.connect() as connection:
            assert execute(connection, "select tableowner from pg_tables where tablename = 'mine'") == [("used",)]
    for database in ("postgres", small.postgres.database):
        with small.postgres.connect(dbname=database) as connection:
            assert execute(connection, "select to_regclass('mine')") == [(None,)]
            assert execute(connection, "select count(*) from pg_database where datname like 'odd%'") == [(0,)]


def test_idle_connections_are_ended_by_a_snapshot(small: TritonEnvironment) -> None:
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute("select 1")
        small.snapshot("idle")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for transactions that do not end."""
    monkeypatch.setattr(postgres, "_QUIET_TIMEOUT", 0.3)


@pytest.mark.usefixtures("hurry")
def test_an_open_transaction_is_an_error_that_names_it(small: TritonEnvironment) -> None:
    before = set(spaces(small))
    with small.postgres.connect(application_name="my worker") as connection:
        connection.execute("create table half (id int)")
        pid = connection.info.backend_pid
        with pytest.raises(SnapshotFailed) as caught:
            small.snapshot("open")
        text = str(caught.value)
        assert f"process {pid} of my worker is idle in transaction" in text
        assert "its last query: create table half" in text
        assert f"pg_terminate_backend({pid})" in text
        connection.execute("insert into half values (1)")
    with small.postgres.connect() as connection:
        assert execute(connection, "select * from half") == [(1,)]
    # Namespaces of other tests may still be on their way out.
    assert set(spaces(small)) <= before
    assert "open" not in small._isolation()._open().ledger.snapshots()


def test_a_transaction_that_ends_is_waited_for(small: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = small.postgres.connect()
    connection.execute("create table late (id int)")
    waited: list[float] = []

    def ends(seconds: float) -> None:
        """Called where it waits, having seen the transaction."""
        if not waited:
            connection.commit()
        waited.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(postgres, "time", SimpleNamespace(monotonic=time.monotonic, sleep=ends))
    monkeypatch.setattr(postgres, "_QUIET_TIMEOUT", 60)
    try:
        small.snapshot("late")
    finally:
        connection.close()
    assert waited
    with small.namespace(template="late") as namespace, namespace.postgres.connect() as connection:
        assert execute(connection, "select count(*) from late") == [(0,)]


@pytest.mark.usefixtures("hurry")
def test_a_template_that_does_not_commit_is_an_error(small: TritonEnvironment) -> None:
    connections = []
    before = set(spaces(small))

    def build(namespace: Namespace) -> None:
        connections.append(namespace.postgres.connect())
        connections[0].execute("create table forgotten (id int)")

    try:
        with pytest.raises(TemplateFailed, match="left a transaction open"):
            small.namespace(template=build)
    finally:
        connections[0].close()
    assert not [name for name in set(spaces(small)) - before if name.startswith("triton_tpl")]


def test_a_namespace_with_clients_can_be_closed_and_reset(small: TritonEnvironment) -> None:
    with small.namespace() as namespace:
        with namespace.postgres.connect() as connection:
            connection.execute("create table t (id int)")
            connection.commit()
            connection.execute("select * from t")
            namespace.reset()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        with namespace.postgres.connect() as connection:
            assert execute(connection, "select to_regclass('t')") == [(None,)]


def test_it_goes_on_after_the_server_has_ended_its_connections(small: TritonEnvironment) -> None:
    with small.namespace():
        pass
    with small.postgres.connect(autocommit=True) as connection:
        ended = execute(
            connection,
            "select pid, pg_terminate_backend(pid) from pg_stat_activity where application_name = 'triton-env'",
        )
        pids = [pid for pid, _ in ended]
        assert pids
        # They were told to end; until they have, a command may still reach them.
        query = "select count(*) from pg_stat_activity where pid = any(%s)"
        assert until(lambda: connection.execute(query, [pids]).fetchone() == (0,))
    with small.namespace() as namespace, namespace.postgres.connect() as connection:
        assert execute(connection, "select 1") == [(1,)]


def test_an_empty_namespace_has_nothing_of_what_was_put_into_its_origin(small: TritonEnvironment) -> None:
    with small.namespace():
        pass
    for close in (False, True):
        with small.postgres.connect(autocommit=True) as connection:
            connection.execute("alter database triton_empty allow_connections true")
        with small.postgres.connect(dbname="triton_empty") as connection:
            connection.execute("create table stray (id int)")
        if close:
            with small.postgres.connect(autocommit=True) as connection:
                connection.execute("alter database triton_empty allow_connections false")
        with small.namespace() as namespace, namespace.postgres.connect() as connection:
            assert execute(connection, "select to_regclass('stray')") == [(None,)]


def test_where_others_have_data_no_database_of_theirs_is_taken_for_the_empty_one(small: TritonEnvironment) -> None:
    isolation = postgres.PostgresIsolation(small.postgres)
    isolation.is_lasting = True
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute("alter database triton_empty is_template false")
        connection.execute("drop database triton_empty")
        connection.execute("create database triton_empty")
        space = Space("triton_ns_theirs")
        with pytest.raises(IsolationFailed, match="that one may be yours"):
            isolation.create(space)
        assert execute(connection, "select 1 from pg_database where datname = 'triton_empty'")
        connection.execute("alter database triton_empty rename to theirs")
        isolation.create(space)
        isolation.drop(space)
        connection.execute("drop database theirs")
    isolation.close()


def test_a_snapshot_has_all_databases_of_the_environment(small: TritonEnvironment) -> None:
    long = "d" * 63

    def word(database: str) -> Any:
        with small.postgres.connect(dbname=database) as connection:
            return connection.execute("select word from t").fetchone()

    def put(database: str, word: str) -> None:
        with small.postgres.connect(dbname=database) as connection:
            connection.execute("create table if not exists t (word text)")
            connection.execute("delete from t")
            connection.execute("insert into t values (%s)", [word])

    databases = ("odd Name", long, small.postgres.database)
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute('create database "odd Name"')
        connection.execute('comment on database "odd Name" is $$ours$$')
        connection.execute(f"create database {long} connection limit 7")
    for database in databases:
        put(database, "before")
    small.snapshot("all")
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute("create database later")
        connection.execute('comment on database "odd Name" is null')
    for _ in range(2):
        for database in databases[1:]:
            put(database, "after")
        small.restore("all")
        assert [word(database) for database in databases] == [("before",)] * 3
        with small.postgres.connect(autocommit=True) as connection:
            query = "select datname, datconnlimit, shobj_description(oid, 'pg_database') from pg_database"
            theirs = "not datistemplate and datname !~ '^(triton|postgres$)'"
            rows = execute(connection, f"{query} where {theirs} order by length(datname) desc")
            assert rows == [(long, 7, None), ("odd Name", -1, "ours")]
            connection.execute('drop database "odd Name"')
    with small.namespace(template="all") as namespace, namespace.postgres.connect() as connection:
        assert execute(connection, "select word from t") == [("before",)]
    # One of them is opened for clients, so it may be another by now.
    with small.postgres.connect(autocommit=True) as connection:
        part = execute(connection, "select max(datname) from pg_database where datname ~ '^triton_snap.*__'")[0][0]
        connection.execute(f"alter database {part} allow_connections true")
    with pytest.raises(SnapshotFailed, match="has lost what it held"):
        small.restore("all")
    small.delete_snapshot("all")
    with small.postgres.connect(autocommit=True) as connection:
        left = f"starts_with(datname, '{part.partition('__')[0]}') or starts_with(datname, 'triton_own')"
        assert execute(connection, f"select datname from pg_database where {left}") == []
    small.reset()


def test_it_goes_on_where_the_server_ends_a_connection_in_the_middle(
    small: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a restore does at its takeover, which renames the database that administration is connected to."""
    real, ended = postgres.execute, []

    def execute(admin: Any, statement: str, *names: str) -> None:
        # Every kind of statement comes out twice: on a connection that is ended then, and on one that is left alone.
        if statement not in ended:
            ended.append(statement)
            with small.postgres.connect(autocommit=True) as connection:
                connection.execute("select pg_terminate_backend(%s, 60000)", [admin.info.backend_pid])
        real(admin, statement, *names)

    def build(namespace: Namespace) -> None:
        with namespace.postgres.connect() as connection:
            connection.execute("create table t (id int)")

    monkeypatch.setattr(postgres, "execute", execute)
    with small.namespace(template=build) as namespace:
        namespace.reset()
        with namespace.postgres.connect() as connection:
            assert connection.execute("select count(*) from t").fetchone() == (0,)
    assert len(ended) >= 3, ended


def test_a_client_that_connects_again_and_again_is_no_obstacle(small: TritonEnvironment) -> None:
    stop = threading.Event()
    connected = threading.Event()

    def application() -> None:
        while not stop.is_set():
            try:
                with small.postgres.connect(autocommit=True) as connection:
                    while not stop.wait(0.05):
                        connection.execute("select 1")
                        connected.set()
            except psycopg.OperationalError:
                continue

    thread = threading.Thread(target=application)
    thread.start()
    try:
        assert connected.wait(60)
        small.snapshot("busy")
        small.restore("busy")
    finally:
        stop.set()
        thread.join()
